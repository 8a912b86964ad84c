"""At K = 1 the mean-field posterior is exact, so the bound is the log evidence to the last digit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vigmm.models import Dirichlet, DirichletProcess

pytestmark = pytest.mark.usefixtures("x64")

RTOL = 1e-10


def rows(dim: int, n: int = 40) -> np.ndarray:
    rng = np.random.default_rng(dim)
    return rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) + 3.0 * rng.normal(size=dim)


def log_evidence_by_prediction(x: np.ndarray, kappa: float, rate: float) -> float:
    """The chain rule: a product of one-step-ahead Student-t predictives (Bishop 10.81)."""
    dim = x.shape[1]
    mean, dof, b = np.zeros(dim), dim + 2.0, rate * np.eye(dim)
    total = 0.0
    for row in x:
        df = dof - dim + 1
        total += stats.multivariate_t(mean, b * (kappa + 1) / (kappa * df), df=df).logpdf(row)
        gap = row - mean
        b = b + kappa / (kappa + 1) * np.outer(gap, gap)
        mean = (kappa * mean + row) / (kappa + 1)
        kappa, dof = kappa + 1, dof + 1
    return float(total)


@pytest.mark.parametrize("weights", [Dirichlet(1.0), DirichletProcess(2.0)], ids=["dirichlet", "process"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_elbo_is_the_closed_form_evidence(exact, dim, weights):
    problem = exact.Problem(rows(dim), num_components=1, weights=weights, kappa=0.3, rate=0.7)
    one = np.ones((len(problem.x), 1))
    want = float(exact.log_marginal(problem.x, one, kappa=0.3, rate=0.7)[0])
    np.testing.assert_allclose(want, log_evidence_by_prediction(problem.x, 0.3, 0.7), rtol=RTOL)
    np.testing.assert_allclose(problem.elbo(problem.start(one)), want, rtol=RTOL)


def test_the_estimate_agrees_with_the_value_and_stays_there(exact):
    problem = exact.Problem(rows(2), num_components=1)
    start = problem.start(np.ones((len(problem.x), 1)))
    end, trace = problem.ascend(start, 3)
    want = float(exact.log_marginal(problem.x, np.ones((len(problem.x), 1)), kappa=0.1, rate=1.0)[0])
    np.testing.assert_allclose(trace, want, rtol=RTOL)
    np.testing.assert_allclose(end.components.second, start.components.second, rtol=1e-12)


def test_one_step_from_anywhere_is_exact(exact):
    """With one component the coordinate step does not depend on where it starts."""
    problem = exact.Problem(rows(2), num_components=1)
    wrong = problem.start(np.full((len(problem.x), 1), 0.2))
    want = float(exact.log_marginal(problem.x, np.ones((len(problem.x), 1)), kappa=0.1, rate=1.0)[0])
    _, trace = problem.ascend(wrong, 3)
    assert trace[0] < want - 1.0
    np.testing.assert_allclose(trace[1:], want, rtol=RTOL)


def test_the_centre_is_arithmetic_only(exact):
    """Statistics about any fixed centre describe the same posterior."""
    problem = exact.Problem(rows(2), num_components=1)
    one = np.ones((len(problem.x), 1))
    moved = problem.start(one, centre=np.array([[5.0, -2.0]]))
    np.testing.assert_allclose(problem.elbo(moved), problem.elbo(problem.start(one)), rtol=RTOL)


def test_weight_two_is_a_duplicate_row(exact):
    x, weight = rows(2, 12), np.arange(12) % 3.0
    weighted = exact.Problem(x, num_components=1, sample_weight=weight)
    repeated = np.repeat(x, weight.astype(int), axis=0)
    want = float(exact.log_marginal(repeated, np.ones((len(repeated), 1)), kappa=0.1, rate=1.0)[0])
    np.testing.assert_allclose(weighted.elbo(weighted.start(np.ones((12, 1)))), want, rtol=RTOL)
