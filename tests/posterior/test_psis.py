"""Pareto-smoothed importance sampling against distributions whose tails are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vigmm.core.errors import SpecError
from vigmm.posterior.psis import USABLE, pareto_shape, smooth


@pytest.mark.parametrize("shape", [-0.3, 0.1, 0.5, 0.9])
def test_shape_of_pareto_draws(shape):
    """Over 50 samples of 1,000 the mean estimate is within 5 standard errors, its pull to 0.5 undone."""
    rng = np.random.default_rng(0)
    count = 1000
    found = []
    for _ in range(50):
        shrunk, _ = pareto_shape(stats.genpareto(shape, scale=2.0).rvs(count, random_state=rng))
        found.append((shrunk * (count + 10) - 5) / count)
    # The posterior mean of Zhang and Stephens is biased by no more than O(1/n).
    assert abs(np.mean(found) - shape) < 5 * np.std(found) / np.sqrt(50) + 5 / count


@pytest.mark.parametrize(("ratio", "low", "high"), [(1.3, -0.2, 0.5), (0.5, 0.5, 1.2)])
def test_gaussian_proposals(ratio, low, high):
    """Of N(0, 1) weighed from N(0, ratio^2): a wide proposal is good, a narrow one has k near 1 - ratio^2."""
    rng = np.random.default_rng(1)
    u = ratio * rng.normal(size=20_000)
    found = smooth(stats.norm.logpdf(u) - stats.norm.logpdf(u, scale=ratio))
    assert low < found.khat < high
    if found.khat < USABLE:
        assert abs(found.log_evidence) < 5 * found.se
        assert found.se < 0.05
    else:
        assert found.se == np.inf


def test_evidence_is_the_log_mean():
    """The constant of the density comes back, and adds to nothing else."""
    rng = np.random.default_rng(2)
    u = 1.2 * rng.normal(size=5_000)
    log_ratios = stats.norm.logpdf(u) - stats.norm.logpdf(u, scale=1.2)
    one, two = smooth(log_ratios), smooth(log_ratios + 1234.5)
    np.testing.assert_allclose(two.log_evidence - one.log_evidence, 1234.5, rtol=1e-12)
    np.testing.assert_allclose(two.khat, one.khat, rtol=1e-6)
    np.testing.assert_allclose(np.exp(one.log_weights).sum(), 1.0, rtol=1e-12)


def test_equal_ratios_are_perfect():
    found = smooth(np.full(100, -3.0))
    assert found.khat == 0.0
    np.testing.assert_allclose(found.log_evidence, -3.0)
    np.testing.assert_allclose(found.effective_draws, 100.0)


def test_one_ratio_that_dwarfs_the_others():
    found = smooth(np.concatenate([np.linspace(0, 1, 500), [100.0]]))
    assert found.khat > USABLE
    assert found.effective_draws < 2


def test_too_few_draws_are_no_evidence():
    assert smooth(np.array([0.0, 5.0, 1.0, 2.0])).khat == np.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_densities_are_refused(bad):
    with pytest.raises(SpecError, match="log_ratios must be finite"):
        smooth(np.array([0.0, bad, 1.0]))
