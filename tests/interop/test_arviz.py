"""Draws in ArviZ: the same numbers as ours, with the names of the columns."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, multivariate_t

import vigmm
from vigmm.core import rng
from vigmm.core.errors import DataError, OutputError, SpecError
from vigmm.models import Mixture

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz as az


def groups(data):
    """Names of the groups: ArviZ 0.23 has a method, the trees of ArviZ 1 a property with paths."""
    found = data.groups() if callable(data.groups) else data.groups
    return {name.strip("/") for name in found} - {""}


@pytest.fixture(scope="module")
def data(conjugate, table):
    """1,000 draws, and 40 rows in all groups."""
    return vigmm.to_arviz(conjugate, rows=table[:40], log_likelihood=True)


def test_groups_dimensions_and_names(data, table):
    assert groups(data) == {"posterior", "posterior_predictive", "observed_data", "log_likelihood"}
    posterior = data.posterior
    assert dict(posterior.sizes) == {"chain": 1, "draw": 1000, "component": 3, "column": 2, "other": 2}
    assert posterior["column"].values.tolist() == ["a", "b"]
    assert posterior["other"].values.tolist() == ["a", "b"]
    assert posterior["means"].dims == ("chain", "draw", "component", "column")
    assert posterior["covariances"].dims == ("chain", "draw", "component", "column", "other")
    assert data.posterior_predictive["x"].dims == ("chain", "draw", "row", "column")
    assert data.log_likelihood["x"].dims == ("chain", "draw", "row")
    np.testing.assert_array_equal(data.observed_data["x"], table[:40])
    assert posterior.attrs["inference_library"] == "vigmm"


def test_its_summary_is_ours(data, conjugate):
    ours, theirs = conjugate.summary(), az.summary(data, round_to="none", kind="stats")
    for rank, k in enumerate(ours.component):
        row = theirs.loc[f"weights[{k}]"]
        np.testing.assert_allclose(
            (row["mean"], row["sd"]), (ours.weight.mean[rank], ours.weight.sd[rank]), rtol=1e-9
        )
        for d, name in enumerate("ab"):
            for quantity, spread in (("means", ours.mean), ("sds", ours.sd)):
                row = theirs.loc[f"{quantity}[{k}, {name}]"]
                expected = spread.mean[rank, d], spread.sd[rank, d]
                np.testing.assert_allclose((row["mean"], row["sd"]), expected, rtol=1e-7)


def test_correlations_belong_to_the_covariances(data):
    covs = data.posterior["covariances"].values
    sds = data.posterior["sds"].values
    correlations = data.posterior["correlations"].values
    np.testing.assert_allclose(np.einsum("cskdd->cskd", correlations), 1.0)
    np.testing.assert_allclose(correlations * sds[..., :, None] * sds[..., None, :], covs, rtol=1e-10)


def test_the_log_likelihood_is_that_of_the_draws(data, table):
    posterior = data.posterior
    for s in (0, 999):
        parts = [
            np.log(posterior["weights"].values[0, s, k])
            + multivariate_normal(
                posterior["means"].values[0, s, k], posterior["covariances"].values[0, s, k]
            ).logpdf(table[:40])
            for k in range(3)
        ]
        found = data.log_likelihood["x"].values[0, s]
        np.testing.assert_allclose(found, logsumexp(parts, axis=0), rtol=1e-8)


def test_replicates_have_the_predictive_distribution(data, conjugate):
    """Each draw's rows have that draw's mixture: their mean, standardised, has mean 0 and variance 1."""
    x = data.posterior_predictive["x"].values[0]
    weights, means, covs = (data.posterior[n].values[0] for n in ("weights", "means", "covariances"))
    centre = np.einsum("sk,skd->sd", weights, means)
    around = means - centre[:, None]
    variance = np.einsum("sk,skd->sd", weights, np.einsum("skdd->skd", covs) + around**2)
    z = (x.mean(axis=1) - centre) / np.sqrt(variance / x.shape[1])
    assert np.abs(z.mean(axis=0)).max() < 5 / np.sqrt(len(z))
    # A mean of 40 rows is nearly normal: the variance of 1,000 squares is 2.
    assert np.abs((z**2).mean(axis=0) - 1).max() < 5 * np.sqrt(2 / len(z))


def test_loo_of_independent_draws(data):
    found = az.loo(data)
    lppd = logsumexp(data.log_likelihood["x"].values[0], axis=0) - np.log(1000)
    assert found.n_samples == 1000
    assert found.n_data_points == 40
    elpd = found.elpd_loo if hasattr(found, "elpd_loo") else found.elpd
    assert elpd < lppd.sum()
    # 17 free numbers, of which 40 rows of 240 tell a sixth: LOO takes off some of them.
    assert 0.5 < lppd.sum() - elpd < 17


@pytest.mark.slow
def test_student_components_and_noise(student, table):
    found = vigmm.to_arviz(student, num_draws=4, seed=5, rows=table[:30], log_likelihood=True)
    draws = student.draw(rng.stream(rng.root_key(5), "arviz"), 4)
    np.testing.assert_array_equal(found.posterior["noise"].values[0], draws.noise)
    dof = found.posterior["dof"].values[0]
    frame = student.prior.frame
    volume = np.prod((np.asarray(frame.high) - np.asarray(frame.low)) * student.scale)
    for s in range(4):
        parts = [
            np.log(draws.weights[s, k])
            + multivariate_t(draws.means[s, k], draws.covariances[s, k], df=dof[s, k]).logpdf(table[:30])
            for k in range(3)
        ]
        noise = np.full(30, np.log(draws.noise[s] / volume))
        np.testing.assert_allclose(
            found.log_likelihood["x"].values[0, s], logsumexp([*parts, noise], axis=0), rtol=1e-7
        )


@pytest.mark.slow
def test_missing_values_count_nothing(near, table):
    x = table[:12].copy()
    x[::3, 0], x[1::5, 1] = np.nan, np.nan
    found = vigmm.to_arviz(
        near(Mixture(num_components=3, missing=True)), num_draws=3, rows=x, log_likelihood=True
    )
    weights, means, covs = (found.posterior[n].values[0] for n in ("weights", "means", "covariances"))
    for s, (row, values) in itertools.product(range(3), enumerate(x)):
        seen = ~np.isnan(values)
        parts = [
            multivariate_normal(means[s, k][seen], covs[s, k][np.ix_(seen, seen)]).pdf(values[seen])
            if seen.any()
            else 1.0
            for k in range(3)
        ]
        expected = np.log(weights[s] @ parts)
        # A row of nothing has the density 1, up to the rounding of the sum of the weights.
        np.testing.assert_allclose(
            found.log_likelihood["x"].values[0, s, row], expected, rtol=1e-8, atol=1e-14
        )


def test_only_draws_and_only_what_is_wanted(conjugate):
    found = vigmm.to_arviz(conjugate, num_draws=20, seed=1, covariances=False)
    assert groups(found) == {"posterior"}
    assert set(found.posterior.data_vars) == {"weights", "means", "sds"}
    other = vigmm.to_arviz(conjugate, num_draws=20, seed=2, covariances=False)
    assert (found.posterior["means"].values != other.posterior["means"].values).all()


def test_refusals(conjugate, monkeypatch):
    with pytest.raises(SpecError, match=r"source must be a vigmm\.Fit or a vigmm.Posterior"):
        vigmm.to_arviz("run")
    with pytest.raises(SpecError, match="rows must be given with log_likelihood"):
        vigmm.to_arviz(conjugate, log_likelihood=True)
    with pytest.raises(DataError, match="a posterior does not keep the rows"):
        vigmm.to_arviz(conjugate, num_draws=2, rows=5)
    monkeypatch.setitem(__import__("sys").modules, "arviz", None)
    with pytest.raises(OutputError, match=r"pip install 'vigmm\[arviz\]'"):
        vigmm.to_arviz(conjugate)
