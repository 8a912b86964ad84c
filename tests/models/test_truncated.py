"""Few of many components: a lower bound always, tight where clusters are apart, and its own gradient."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.core.errors import SpecError
from vigmm.core.typing import Batch
from vigmm.estimators import Natural
from vigmm.families import Conjugate
from vigmm.models import COVARIANCES, DataScale, Mixture
from vigmm.models.passes import gather
from vigmm.models.truncated import gather_few
from vigmm.train.starts.statistics import posterior_of_labels

NUM, DIM, ROWS = 60, 3, 700


def case(spread: float, covariance: str = "full"):
    """60 clusters of sd `spread` in a cube of side 2."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, NUM, ROWS)
    x = draw.uniform(-1, 1, size=(NUM, DIM))[labels] + spread * draw.normal(size=(ROWS, DIM))
    model = Mixture(num_components=NUM, covariance=COVARIANCES[covariance]())
    scale = DataScale(mean=x.mean(0), cov=np.cov(x.T), center=np.zeros(DIM), scale=np.ones(DIM))
    prior = model.build_prior(scale, dtype=jnp.float64)
    batch = Batch(x=jnp.asarray(x), weight=jnp.asarray(draw.uniform(0.5, 1.5, ROWS)))
    keep = jnp.ones(ROWS)
    params, _ = posterior_of_labels(model, prior, batch, jnp.asarray(labels, jnp.int32), keep)
    posterior = Conjugate().posterior(model, params)
    return model, Conjugate().expected(model, posterior), batch, posterior.components.loc


@pytest.mark.parametrize("covariance", ["full", pytest.param("tied", marks=pytest.mark.slow)])
def test_apart_it_is_what_all_components_say(covariance, x64):
    model, theta, batch, centre = case(0.01, covariance)
    few, stats = jax.jit(lambda: gather_few(model, theta, batch, centre, 16))()
    every, want = jax.jit(lambda: gather(model, theta, batch, centre))()
    # What is left out: components further away than the sixteen that a pivot knows.
    np.testing.assert_allclose(few, every, rtol=1e-6)
    assert float(few) <= float(every) + 1e-12 * abs(float(every))
    np.testing.assert_allclose(stats.count, want.count, atol=1e-3)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), stats, want)


@pytest.mark.parametrize("candidates", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (8, 32))])
def test_overlapping_it_is_a_lower_bound_that_rises_with_candidates(candidates, x64):
    model, theta, batch, centre = case(0.3)
    few, stats = gather_few(model, theta, batch, centre, candidates)
    every, _ = gather(model, theta, batch, centre)
    assert float(few) < float(every)
    if candidates == 32:
        # Half of the components, the likely half: the rest is worth little.
        assert float(every - few) < 0.05 * ROWS
    np.testing.assert_allclose(jnp.sum(stats.count), jnp.sum(batch.weight), rtol=1e-12)


def test_statistics_are_the_gradient_of_the_bound(x64):
    """d bound / d log weight_k is the count of k: the responsibilities belong to the bound that is told."""
    model, theta, batch, centre = case(0.1)
    _, stats = gather_few(model, theta, batch, centre, 8)
    direction = jnp.asarray(np.random.default_rng(1).normal(size=NUM))

    def value(step: float) -> float:
        # So small a step changes no set of candidates.
        moved = dataclasses.replace(theta, log_weights=theta.log_weights + step * direction)
        return float(gather_few(model, moved, batch, centre, 8)[0])

    slope = (value(1e-6) - value(-1e-6)) / 2e-6
    np.testing.assert_allclose(slope, jnp.sum(direction * stats.count), rtol=1e-6, atol=1e-6)


def test_order_and_padding_change_nothing(x64):
    model, theta, batch, centre = case(0.1)
    turn = jnp.asarray(np.random.default_rng(2).permutation(ROWS))
    more = Batch(
        x=jnp.concatenate([batch.x[turn], batch.x[:50]]),
        weight=jnp.concatenate([batch.weight[turn], jnp.zeros(50)]),
    )
    first, _ = gather_few(model, theta, batch, centre, 32)
    second, _ = gather_few(model, theta, more, centre, 32)
    np.testing.assert_allclose(first, second, rtol=1e-12)


def test_as_an_option_of_the_natural_estimator():
    """What is told in the end is the bound of all components."""
    assert Natural(candidates=8).final() == Natural()
    with pytest.raises(SpecError, match="candidates must be >= 2, got 1"):
        Natural(candidates=1)
