"""Simulation-based calibration: with data from the prior predictive, true values rank uniformly among draws.

Reference: Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference algorithms
with simulation-based calibration.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import stats

import vigmm
from vigmm.estimators import Pathwise
from vigmm.families import FullRank
from vigmm.models import Diag, Dirichlet, Independent, Mixture, distribution
from vigmm.optim import Fisher
from vigmm.train import KMeansStart, Train

# 77 seconds on a quiet machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

DATA_SETS, ROWS, DRAWS, BINS = 200, 300, 99, 10
SPREAD = 20.0  # prior sd of the means: clusters of unit sd overlap in few data sets, so q's form can be right


def model() -> Mixture:
    prior = Independent(mean=distribution("Normal", loc=0, scale=SPREAD), sd=1.0, ordered=True)
    return Mixture(num_components=2, weights=Dirichlet(5.0), covariance=Diag(), prior=prior)


def simulate(rng):
    """A truth from the prior and rows from the truth."""
    means = np.sort(rng.normal(0.0, SPREAD, 2))
    weight = rng.beta(5.0, 5.0)
    label = (rng.random(ROWS) > weight).astype(int)
    return np.array([*means, weight]), (means[label] + rng.normal(size=ROWS))[:, None]


@pytest.fixture(scope="module")
def draws():
    """True values and posterior draws of (mean 1, mean 2, weight 1) for every data set."""
    rng = np.random.default_rng(0)
    truths, found = [], []
    for i in range(DATA_SETS):
        truth, x = simulate(rng)
        fit = vigmm.fit(
            x,
            model=model(),
            family=FullRank(),
            estimator=Pathwise(num_samples=8, entropy="stl"),
            optimizer=Fisher(),
            start=KMeansStart(restarts=2, steps=50, passes=1),
            train=Train(batch_size=ROWS, holdout=0, min_steps=300, passes=1, tolerance=0.0),
            seed=i,
        )
        assert fit.outcome.ok
        drawn = fit.posterior.draw(jax.random.key(i), DRAWS)
        truths.append(truth)
        found.append(np.column_stack([drawn.means[:, :, 0], drawn.weights[:, 0]]))
    return np.array(truths), np.array(found)


def p_values(truths, found):
    """Chi-square test of uniform ranks, for each quantity."""
    ranks = (found < truths[:, None]).sum(axis=1)
    counts = [np.bincount(column * BINS // (DRAWS + 1), minlength=BINS) for column in ranks.T]
    return np.array([stats.chisquare(count).pvalue for count in counts])


def test_ranks_are_uniform(draws):
    """Three tests at a joint level of 1 %: they are wrong in one of a hundred suites, and seeds are fixed."""
    found = p_values(*draws)
    assert found.min() > 0.01 / 3, found


def test_overconfident_draws_would_be_noticed(draws):
    """The same draws with their sds halved, and shifted by half an sd: what a wrong q would give."""
    truths, found = draws
    centre = found.mean(axis=1, keepdims=True)
    assert p_values(truths, centre + 0.5 * (found - centre)).max() < 1e-4
    assert p_values(truths, found + 0.5 * found.std(axis=1, keepdims=True)).max() < 1e-2
