"""The final bound: exact sums, honest standard errors, the units of the data."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from vigmm.core.errors import SpecError
from vigmm.core.typing import Batch
from vigmm.data.sampler import Rows
from vigmm.estimators import Natural, Objective, Pathwise
from vigmm.models import Dirichlet, Mixture
from vigmm.posterior import elbo

KEY = jax.random.key(2)
ESTIMATORS = {"conjugate": Natural(), "meanfield": Pathwise()}


def log_scale(posterior):
    return float(np.log(posterior.scale).sum())


def rows_of(posterior, x, weight=None, dtype=np.float32):
    z = ((x - posterior.center) / posterior.scale).astype(dtype)
    heavy = np.ones(len(x), dtype) if weight is None else np.asarray(weight, dtype)
    with jax.enable_x64(np.dtype(dtype) == np.float64):
        return Rows(x=jnp.asarray(z), weight=jnp.asarray(heavy))


def objective_of(posterior):
    estimator = ESTIMATORS["conjugate" if "Conjugate" in repr(posterior) else "meanfield"]
    return Objective(model=posterior.model, family=posterior.family, estimator=estimator)


def report_of(posterior, x, key=KEY, weight=None, **kwargs):
    rows = rows_of(posterior, x, weight)
    scale = log_scale(posterior)
    return elbo(
        objective_of(posterior), posterior.params, posterior.prior, rows, key, log_scale_sum=scale, **kwargs
    )


def test_at_one_component_the_bound_is_the_log_evidence(rows, make):
    """Marginal likelihood of a Normal-Wishart model in closed form, in the units of the data."""
    n, dim = rows.x.shape
    model = Mixture(num_components=1, weights=Dirichlet(1.0))
    posterior = make(rows.x, np.zeros(n, int), model=model, dtype="float64")
    prior = posterior.prior.components
    kappa0, nu0 = float(prior.mean_precision[0]), float(prior.dof[0])
    unit = np.diag(posterior.scale)
    rate0 = unit @ np.asarray(prior.rate_factor[0]) @ np.asarray(prior.rate_factor[0]).T @ unit
    mean0 = posterior.center + posterior.scale * np.asarray(prior.loc[0])
    shift = rows.x.mean(axis=0) - mean0
    scatter = (rows.x - rows.x.mean(axis=0)).T @ (rows.x - rows.x.mean(axis=0))
    rate = rate0 + scatter + kappa0 * n / (kappa0 + n) * np.outer(shift, shift)
    evidence = (
        -0.5 * n * dim * np.log(np.pi)
        + special.multigammaln((nu0 + n) / 2, dim)
        - special.multigammaln(nu0 / 2, dim)
        + nu0 / 2 * np.linalg.slogdet(rate0)[1]
        - (nu0 + n) / 2 * np.linalg.slogdet(rate)[1]
        + dim / 2 * np.log(kappa0 / (kappa0 + n))
    )
    data = rows_of(posterior, rows.x, dtype=np.float64)
    scale = log_scale(posterior)
    report = elbo(objective_of(posterior), posterior.params, posterior.prior, data, KEY, log_scale_sum=scale)
    assert report.elbo == pytest.approx(evidence, rel=1e-10)
    assert report.se == 0.0
    assert report.num_samples == 1


def test_the_report_adds_up(posterior, rows):
    report = report_of(posterior, rows.x)
    assert report.elbo == pytest.approx(sum(report.terms.values()), rel=1e-12)
    assert report.per_row == pytest.approx(report.elbo / 240)
    assert json.loads(json.dumps(dataclasses.asdict(report))) == dataclasses.asdict(report)


def test_an_exact_bound_is_computed_once(conjugate, rows):
    report = report_of(conjugate, rows.x)
    assert (report.se, report.num_samples) == (0.0, 1)
    with jax.enable_x64(True):
        params, prior = (
            jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)
            for tree in (conjugate.params, conjugate.prior)
        )
        data = rows_of(conjugate, rows.x)
        batch = Batch(x=data.x.astype(jnp.float64), weight=data.weight.astype(jnp.float64))
        value = sum(float(v) for v in objective_of(conjugate).value(params, prior, batch, KEY).values())
    assert report.elbo == pytest.approx(value - 240 * log_scale(conjugate), rel=1e-12)


@pytest.mark.parametrize("size", [240, 100])
def test_blocks_do_not_show(posterior, rows, monkeypatch, size):
    whole = report_of(posterior, rows.x, num_samples=2)
    monkeypatch.setattr("vigmm.posterior.evidence.CHUNK", size)
    assert report_of(posterior, rows.x, num_samples=2).elbo == pytest.approx(whole.elbo, rel=1e-9)


def test_the_standard_error_is_that_of_independent_samples(rows, make):
    """The spread of 40 means of 4 samples is what each of them reports, and none is far from all."""
    posterior = make(rows.x, rows.labels, family="meanfield")
    found = [report_of(posterior, rows.x, key=jax.random.key(i), num_samples=4) for i in range(40)]
    values = np.array([report.elbo for report in found])
    reported = np.sqrt(np.mean([report.se**2 for report in found]))
    assert all(report.num_samples == 4 for report in found)
    # The sd of 40 values has a relative error of 0.11, the pooled one of 120 degrees of freedom 0.06.
    assert reported == pytest.approx(values.std(ddof=1), rel=5 * 0.13)
    assert abs(values[0] - values.mean()) < 5 * reported


def test_one_random_sample_knows_nothing_of_its_error(rows, make):
    report = report_of(make(rows.x, rows.labels, family="meanfield"), rows.x, num_samples=1)
    assert np.isfinite(report.elbo)
    assert np.isnan(report.se)


def test_an_exact_bound_needs_no_second_sample_to_be_exact(conjugate, rows):
    assert report_of(conjugate, rows.x, num_samples=1) == report_of(conjugate, rows.x)


def test_units_of_the_data_are_undone(posterior, rows):
    """A column in units a thousand times smaller has densities a thousand times smaller."""
    milli = dataclasses.replace(
        posterior, center=posterior.center * [1, 1e3], scale=posterior.scale * [1, 1e3]
    )
    change = report_of(milli, rows.x * [1, 1e3]).elbo - report_of(posterior, rows.x).elbo
    assert change == pytest.approx(-240 * np.log(1e3), rel=1e-6)


def test_weights_count_rows(posterior, rows):
    x, weight = rows.x[:100], np.repeat([2.0, 0.0, 1.0, 1.0], 25)
    repeated = np.concatenate([x[:25], x[:25], x[50:]])
    weighted = report_of(posterior, x, weight=weight, num_samples=2)
    assert weighted.elbo == pytest.approx(report_of(posterior, repeated, num_samples=2).elbo, rel=1e-9)
    assert weighted.per_row == pytest.approx(weighted.elbo / 100)


def test_more_rows_than_a_block_has_are_all_counted_once(conjugate, rows, monkeypatch):
    parts = [report_of(conjugate, rows.x[i : i + 60]).terms["log_lik"] for i in range(0, 240, 60)]
    monkeypatch.setattr("vigmm.posterior.evidence.CHUNK", 100)
    one = report_of(conjugate, rows.x).terms
    assert one["log_lik"] == pytest.approx(sum(parts), rel=1e-10)


def test_no_rows_leave_the_terms_of_the_prior(conjugate, rows):
    report = report_of(conjugate, rows.x[:0])
    assert report.terms["log_lik"] == 0.0
    assert np.isnan(report.per_row)


def test_a_number_of_samples_below_one_is_refused(conjugate, rows):
    with pytest.raises(SpecError, match="num_samples must be >= 1"):
        report_of(conjugate, rows.x, num_samples=0)


def test_the_global_precision_does_not_matter(posterior, rows):
    outside = report_of(posterior, rows.x, num_samples=2)
    with jax.enable_x64(True):
        assert report_of(posterior, rows.x, num_samples=2) == outside
