"""The trust report, on a fit that deserves trust and on ones that do not."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from scipy import special

import vigmm
from vigmm.core.errors import SpecError
from vigmm.families import Blocks
from vigmm.models import Full, Mixture, NormalWishart
from vigmm.posterior.agreement import adjusted_rand
from vigmm.posterior.checks import predictive_checks, tail_probability

ROWS, DIM, KAPPA, DOF = 60, 2, 0.5, 4.0


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, DIM)) @ [[1.0, 0.4], [0.0, 2.0]] + [5.0, -3.0]


@pytest.fixture(scope="module")
def model():
    """K = 1: the evidence is known."""
    prior = NormalWishart(
        mean=(5.0, -3.0), mean_precision=KAPPA, dof=DOF, covariance=((1.0, 0.0), (0.0, 4.0))
    )
    return Mixture(num_components=1, covariance=Full(), prior=prior)


@pytest.fixture(scope="module")
def fit(x, model):
    return vigmm.fit(
        x, model=model, train=vigmm.Train(holdout=0.0, min_steps=20), moves=None, dtype="float64"
    )


@pytest.fixture(scope="module")
def diagnosis(fit):
    return fit.diagnose(num_draws=256)


def log_evidence(x):
    """Murphy (2007), equation 266, for the prior of `model`."""
    mean, rate = np.array([5.0, -3.0]), (DOF - DIM - 1) * np.diag([1.0, 4.0])
    n, centre = len(x), x.mean(0)
    kappa, dof = KAPPA + n, DOF + n
    shift = centre - mean
    after = rate + (x - centre).T @ (x - centre) + KAPPA * n / kappa * np.outer(shift, shift)
    return (
        -0.5 * n * DIM * np.log(np.pi)
        + special.multigammaln(dof / 2, DIM)
        - special.multigammaln(DOF / 2, DIM)
        + 0.5 * DOF * np.linalg.slogdet(rate)[1]
        - 0.5 * dof * np.linalg.slogdet(after)[1]
        + 0.5 * DIM * np.log(KAPPA / kappa)
    )


def test_an_exact_posterior_is_called_exact(diagnosis, x):
    """K = 1: every importance ratio is the evidence, so there is no tail, no gap and no error."""
    assert diagnosis.khat == 0.0
    np.testing.assert_allclose(diagnosis["log evidence"].value, log_evidence(x), rtol=1e-9)
    assert abs(diagnosis["gap"].value) < 1e-6
    assert diagnosis["gap"].verdict == "good"
    assert diagnosis["k-hat"].verdict == "good"
    assert diagnosis.weights.effective_draws > 255


def test_terms_sum_to_the_bound(diagnosis, fit):
    np.testing.assert_allclose(sum(diagnosis.terms.values()), fit.elbo.elbo, rtol=1e-12)


@pytest.mark.slow
def test_a_q_that_is_too_narrow_is_found_out(fit):
    """Pseudo-counts multiplied by four: sds halved, ratios with a heavy tail."""
    inner = fit.posterior.params.components
    with jax.enable_x64(True):
        more = {name: 4.0 * getattr(inner, name) for name in ("count", "first", "second", "dof")}
    narrow = dataclasses.replace(fit.posterior.params, components=dataclasses.replace(inner, **more))
    wrong = dataclasses.replace(fit, posterior=dataclasses.replace(fit.posterior, params=narrow))
    found = wrong.diagnose(num_draws=512)
    assert found["k-hat"].verdict == "bad"
    assert found["log evidence"].verdict == "unknown"
    with pytest.raises(SpecError, match=r"khat must be <= 0\.7"):
        found.resample(10)


@pytest.mark.slow
def test_data_the_model_cannot_make(fit, x):
    """Skewed data under one normal component: the predictive check names statistic and column."""
    skewed = x.copy()
    skewed[:, 1] = np.exp(skewed[:, 1])
    other = vigmm.fit(
        skewed, model=fit.posterior.model, train=vigmm.Train(holdout=0.0, min_steps=20), moves=None
    )
    found = other.diagnose(num_draws=32)
    assert found["posterior predictive"].verdict == "caution"
    assert "x1" in found["posterior predictive"].meaning


@pytest.mark.slow
def test_data_the_prior_did_not_expect(diagnosis, fit, x):
    assert diagnosis["prior"].verdict == "good"
    far = vigmm.fit(
        x + 1000.0,
        model=fit.posterior.model,
        train=vigmm.Train(holdout=0.0, min_steps=20),
        moves=None,
        dtype="float64",
    )
    found = far.diagnose(num_draws=32)
    assert found["prior"].verdict == "caution"


@pytest.mark.slow
def test_resampled_draws_are_closer(fit, x, model):
    """Blocks after a short run, resampled by importance: means agree with the exact posterior."""
    short = vigmm.fit(
        x, model=model, family=Blocks(), train=vigmm.Train(holdout=0.0, min_steps=200), dtype="float64"
    )
    found = short.diagnose(num_draws=1024)
    assert found.khat < 0.7
    draws = found.resample(4000, seed=1)
    exact = fit.posterior.draw(jax.random.key(0), 4000)
    error = exact.means.std(axis=0) / np.sqrt(found.weights.effective_draws)
    assert np.all(np.abs(draws.means.mean(axis=0) - exact.means.mean(axis=0)) < 5 * error)


def test_missing_values_are_missing_in_replicates_too(fit, x):
    """Gaps are no surprise; a column of which nothing was seen is not checked."""
    gaps = x.copy()
    gaps[::3, 0] = np.nan
    whole = predictive_checks(fit.posterior, gaps, jax.random.key(0))
    assert len(whole) == 12
    assert all(np.isfinite([check.observed, check.low, check.high]).all() for check in whole)
    assert min(check.probability for check in whole) > 0.01
    gaps[:, 0] = np.nan
    left = predictive_checks(fit.posterior, gaps, jax.random.key(0))
    assert {check.column for check in left} == {"x1"}


def test_every_finding_reads_as_a_sentence(diagnosis):
    text = str(diagnosis)
    for finding in diagnosis.findings:
        assert finding.name in text
        assert len(finding.meaning) > 20
    json.dumps(diagnosis.to_dict())
    with pytest.raises(KeyError, match="there are k-hat"):
        _ = diagnosis["nothing"]


def test_restarts_are_compared(fit):
    found = fit.diagnose(num_draws=16, restarts=1)["agreement of restarts"]
    assert found.value == 1.0
    assert found.verdict == "good"


def test_adjusted_rand():
    """Known values: identical up to names, one of two rows moved, and Hubert and Arabie's null mean of 0."""
    one = np.array([0, 0, 1, 1, 2, 2])
    assert adjusted_rand(one, one[::-1]) == 1.0
    rng = np.random.default_rng(0)
    null = [adjusted_rand(rng.integers(0, 3, 200), rng.integers(0, 4, 200)) for _ in range(200)]
    assert abs(np.mean(null)) < 5 * np.std(null) / np.sqrt(200)


def test_tail_probability():
    values = np.arange(99.0)
    assert tail_probability(49.0, values) == 1.0
    np.testing.assert_allclose(tail_probability(-1.0, values), 0.02)
    np.testing.assert_allclose(tail_probability(1000.0, values), 0.02)
