"""The natural estimator: what it computes per row, in which precision, and what it must never do."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from vigmm.core.errors import SpecError
from vigmm.core.typing import Batch
from vigmm.estimators import Natural, Objective
from vigmm.families import Conjugate, ConjugateParams, MeanField
from vigmm.models import DataScale, Dirichlet, Mixture

DIM, K = 2, 3


def problem(dtype=jnp.float64, *, n=97, weight=1.0):
    """A conjugate posterior from soft random assignments."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, DIM)) + 3.0 * rng.integers(0, 2, size=(n, 1))
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32).astype(np.float64)
    model = Mixture(num_components=K, weights=Dirichlet(0.5))
    unit = DataScale(mean=np.zeros(DIM), cov=np.cov(x.T), center=np.zeros(DIM), scale=np.ones(DIM))
    prior = model.build_prior(unit, dtype=dtype)
    resp = weight * rng.dirichlet(np.ones(K), n)
    centre = jnp.asarray(resp.T @ x / resp.sum(0)[:, None], dtype)
    empty = ConjugateParams(weights=prior.weights, components=model.algebra.natural(prior.components, centre))
    resp = jnp.asarray(resp, dtype)
    stats = model.algebra.stats(jnp.asarray(x, dtype), resp, centre)
    params = Conjugate().target(model, prior, empty, resp.sum(0), stats)
    return model, prior, Batch(x=jnp.asarray(x, dtype), weight=jnp.full(n, weight, dtype)), params


def objective(model, **knobs):
    return Objective(model=model, family=Conjugate(), estimator=Natural(**knobs))


@functools.partial(jax.jit, static_argnames=("objective",))
def estimate(objective, params, prior, batch):
    return objective.estimate(params, prior, batch, jax.random.key(0))


def test_step_of_rate_one_is_the_textbook_update(x64):
    """Responsibilities by softmax of the expected log joint; then prior + weighted sums."""
    model, prior, batch, params = problem()
    found = estimate(objective(model), params, prior, batch)
    target = jax.tree.map(jnp.subtract, params, found.grads)
    family = Conjugate()
    log_joint = np.asarray(model.log_joint(family.expected(model, family.posterior(model, params)), batch.x))
    resp = np.exp(log_joint - special.logsumexp(log_joint, axis=1, keepdims=True))
    count = resp.sum(0)
    np.testing.assert_allclose(target.weights.a, 0.5 + count[:2], rtol=1e-10)
    np.testing.assert_allclose(target.weights.b, [1.0 + count[1] + count[2], 0.5 + count[2]], rtol=1e-10)
    np.testing.assert_allclose(target.components.count, 0.01 + count, rtol=1e-10)
    mean = np.asarray(model.algebra.standard(target.components).loc)
    np.testing.assert_allclose(
        mean, resp.T @ np.asarray(batch.x) / (0.01 + count)[:, None], rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(found.terms["log_lik"], special.logsumexp(log_joint, axis=1).sum(), rtol=1e-10)


def test_the_centre_never_moves(x64):
    model, prior, batch, params = problem()
    found = estimate(objective(model), params, prior, batch)
    assert not np.any(found.grads.components.centre)


def test_at_the_optimum_nothing_moves(x64):
    model, prior, batch, params = problem()
    for _ in range(400):
        grads = estimate(objective(model), params, prior, batch).grads
        params = jax.tree.map(jnp.subtract, params, grads)
    largest = max(float(jnp.abs(leaf).max(initial=0.0)) for leaf in jax.tree.leaves(grads))
    assert largest < 1e-6


@pytest.mark.parametrize("tile", [None, 32])
def test_no_library_calls_on_rows(tile):
    """Factorisations and solves see K small matrices and never the rows, whole or by the tile."""
    rows = 97
    model, prior, batch, params = problem(jnp.float32, n=rows)
    text = estimate.lower(objective(model, tile=tile), params, prior, batch).compile().as_text()
    calls = [line for line in text.splitlines() if "custom-call" in line]
    # The posterior's Cholesky factor at least: the scan does see such calls.
    assert any("potrf" in line or "cholesky" in line.lower() for line in calls)
    for line in calls:
        sizes = {int(d) for shape in re.findall(r"[fs]\d+\[([\d,]*)\]", line) for d in shape.split(",") if d}
        assert sizes <= {1, DIM, K}, line


def test_float32_with_a_million_rows():
    """Weights that stand for 1e6 rows: bound and gradient keep their digits relative to N."""
    found = {}
    for dtype, x64 in ((jnp.float32, False), (jnp.float64, True)):
        with jax.enable_x64(x64):
            model, prior, batch, params = problem(dtype, weight=1e4)
            one = estimate(objective(model), params, prior, batch)
            found[dtype] = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves((one.terms, one.grads))]
    eps = np.finfo(np.float32).eps
    total = 97e4
    for single, double in zip(found[jnp.float32], found[jnp.float64], strict=True):
        # Sums over rows are of the order of N; 50 operations of rounding.
        np.testing.assert_allclose(single, double, rtol=0, atol=50 * eps * total)


def test_kl_terms_of_a_million_rows_in_float32():
    """Not relative to N: the divergence itself, some tens of nats, to a thousandth of a nat."""
    found = {}
    for dtype, x64 in ((jnp.float32, False), (jnp.float64, True)):
        with jax.enable_x64(x64):
            model, prior, batch, params = problem(dtype, weight=1e4)
            terms = estimate(objective(model), params, prior, batch).terms
            found[dtype] = {name: float(terms[name]) for name in terms if name != "log_lik"}
    for name, value in found[jnp.float64].items():
        assert abs(found[jnp.float32][name] - value) < 1e-3
        assert value < -1


def test_an_impossible_posterior_is_not_a_bound(x64):
    """A rate matrix that is not positive definite gives NaN, which no comparison passes."""
    model, prior, batch, params = problem()
    broken = ConjugateParams(
        weights=params.weights,
        components=type(params.components)(
            **{**vars(params.components), "second": -params.components.second}
        ),
    )
    assert np.isnan(estimate(objective(model), broken, prior, batch).elbo)


def test_needs_the_conjugate_family():
    with pytest.raises(SpecError, match="conjugate"):
        Objective(model=Mixture(), family=MeanField(), estimator=Natural())


def test_refused_tile():
    with pytest.raises(SpecError, match="tile must be >= 1"):
        Natural(tile=0)
