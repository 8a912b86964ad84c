"""log p(X) - ELBO = KL(q || posterior), both sides exact: all K^N assignments are enumerated."""

from __future__ import annotations

import numpy as np
import pytest

from vigmm.models import Dirichlet, DirichletProcess

pytestmark = pytest.mark.usefixtures("x64")

# Both sides are sums of terms below 1e2 nats in double precision.
ATOL = 1e-9


def test_stored_evidence(exact, tiny):
    name, x = tiny
    found = exact.enumerate(exact.Problem(x))
    assert len(found.labels) == 2**8
    np.testing.assert_allclose(found.evidence, exact.tiny[name]["evidence"], rtol=0, atol=ATOL)


def test_gap_is_the_divergence_at_the_fixed_point(exact, tiny):
    name, x = tiny
    problem = exact.Problem(x)
    # The best of a few starts is the optimum that the golden file holds.
    ends = [problem.ascend(problem.random_start(seed), 300) for seed in range(4)]
    params, trace = max(ends, key=lambda end: end[1][-1])
    np.testing.assert_allclose(trace[-1], exact.tiny[name]["elbo"], rtol=1e-8)
    found = exact.enumerate(problem)
    divergence = exact.kl_to_enumerated(problem, found, exact.as_numpy(params))
    assert divergence > 0.1
    np.testing.assert_allclose(found.evidence - problem.elbo(params), divergence, rtol=0, atol=ATOL)


def test_golden_file_says_the_same(exact, golden):
    for name, want in exact.tiny.items():
        assert golden["tiny_exact_log_evidence"][name] == want["evidence"]
        assert golden["elbo"][f"{name}_K2"] == want["elbo"]


@pytest.mark.parametrize(
    ("num_components", "weights"),
    [
        (2, Dirichlet(1.0)),
        (2, Dirichlet(0.1)),
        (2, DirichletProcess(2.5)),
        (3, Dirichlet(0.7)),
        (3, DirichletProcess(2.5)),
    ],
    ids=str,
)
def test_gap_is_the_divergence_anywhere(exact, num_components, weights):
    """Away from fixed points too, where every term of the bound counts and none cancels."""
    x = np.random.default_rng(4).normal(size=(7, 2)) + np.array([[0.0, 0]] * 4 + [[3.0, 1]] * 3)
    problem = exact.Problem(x, num_components=num_components, weights=weights, kappa=0.4, rate=0.6)
    found = exact.enumerate(problem)
    for seed in range(2):
        params = problem.random_start(seed)
        divergence = exact.kl_to_enumerated(problem, found, exact.as_numpy(params))
        np.testing.assert_allclose(found.evidence - problem.elbo(params), divergence, rtol=0, atol=ATOL)
