"""The Spec of memoized coordinate ascent, and a fit with it."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import vigmm
from vigmm.config import Job
from vigmm.core.outcome import Status
from vigmm.data.sources import DataFile
from vigmm.optim import Memoized
from vigmm.train import Train


def test_it_takes_whole_steps_and_half_of_one_after_an_accident():
    grads = {"a": jnp.asarray([1.0, -2.0])}
    for cut in (1.0, 0.5):
        rule = Memoized().build(jnp.asarray(10), None, jnp.asarray(cut))
        updates, _ = rule.update(grads, rule.init(grads), grads)
        np.testing.assert_array_equal(updates["a"], [-cut, 2.0 * cut])


def test_batches_are_at_least_one():
    with pytest.raises(vigmm.SpecError, match="batches must be >= 1, got 0"):
        Memoized(batches=0)


@pytest.mark.parametrize(("rows", "batches"), [(1, 1), (1024, 1), (5000, 5), (20_480, 20), (1_000_003, 20)])
def test_the_memory_is_bounded_however_many_rows_there_are(rows, batches):
    """Batches of 1,024 rows, or of more where they would be more than twenty."""
    sampler = Train().sized(rows, Memoized().batches).sampler
    assert sampler.steps_per_epoch(rows) == batches
    assert sampler.rows_per_batch(rows) <= max(1024, -(-rows // 20))


def test_a_configuration_counts_passes_by_the_batches_that_are_kept():
    train = Train(holdout=0)
    job = Job(data=DataFile("x.npy"), optimizer=Memoized(batches=10), train=train)
    assert job.steps_per_pass(rows=100_000) == 10
    assert Job(data=DataFile("x.npy"), train=train).steps_per_pass(rows=100_000) == 98


@pytest.mark.slow
def test_a_fit_on_sorted_rows_ends_by_itself():
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(1000, 2)) + np.repeat([[0.0, 0.0], [8.0, 8.0]], 500, axis=0)
    fit = vigmm.fit(
        rows, model=vigmm.Mixture(num_components=3), optimizer=vigmm.Memoized(batches=4), moves=None,
        start=vigmm.MeansStart(means=((0.0, 0.0), (3.0, 3.0), (8.0, 8.0))),
        train=vigmm.Train(batch_size=64, holdout=0.1),
    )  # fmt: skip
    assert fit.outcome.status is Status.CONVERGED
    # 900 rows in 4 batches, not in 15.
    assert fit.manifest["train"]["batch_size"] == 225
    assert fit.manifest["optimizer"] == {"kind": "memoized", "batches": 4}
    elbo = fit.metrics["elbo"]
    # From the end of the first pass on; the sums of 900 terms of a few nats are float32.
    assert np.diff(elbo[3:]).min() > -1e-5 * abs(elbo[-1])
    # The report is of the best responsibilities, in float64.
    assert fit.elbo.elbo == pytest.approx(elbo[-1], rel=1e-5)
    assert np.bincount(fit.posterior.predict(rows)).max() == 500


def test_estimators_without_statistics_are_refused_before_any_work():
    with pytest.raises(vigmm.SpecError, match=r"optimizer must be another than 'memoized'"):
        vigmm.fit(np.eye(9), family=vigmm.MeanField(), optimizer=vigmm.Memoized())
