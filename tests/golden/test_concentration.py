"""An inferred concentration, and a last stick that is free: bounds against exact answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from vigmm.models import Dirichlet, DirichletProcess, Gamma

pytestmark = pytest.mark.usefixtures("x64")

RTOL = 1e-8
FREE = DirichletProcess(1.0, last_stick="free")


def in_order(problem, params):
    """Start anew from the hard assignment, components in order of size: what sticks expect."""
    labels = problem.labels(params)
    order = np.argsort(-np.bincount(labels, minlength=problem.num_components), kind="stable")
    return problem.start(np.eye(problem.num_components)[np.argsort(order)[labels]])


def test_a_free_last_stick(exact, golden, faithful_z):
    """The golden file's K sticks: the mass beyond the truncation costs 4.6 nats."""
    problem = exact.Problem(faithful_z, num_components=2, weights=FREE)
    found = -np.inf
    for seed in range(3):
        params, _ = problem.ascend(problem.random_start(seed), 200)
        found = max(found, problem.ascend(in_order(problem, params), 200)[1][-1])
    np.testing.assert_allclose(found, -425.704431, atol=1e-6)
    np.testing.assert_allclose(found, golden["dp_elbo_K_sticks_gamma1"]["faithful_z_K2"], rtol=RTOL)


def test_a_free_last_stick_with_eight_components(exact, golden, asterisk):
    x, labels = asterisk
    problem = exact.Problem(x, num_components=8, weights=FREE, rate=0.1)
    params, _ = problem.ascend(problem.start(np.eye(8)[labels]), 150)
    _, trace = problem.ascend(in_order(problem, params), 150)
    np.testing.assert_allclose(trace[-1], golden["dp_elbo_K_sticks_gamma1"]["asterisk_K8_sorted"], rtol=RTOL)


@pytest.mark.parametrize("last_stick", ["one", "free"])
@pytest.mark.parametrize(
    "hyper", [Gamma(), Gamma(0.1, 0.01), Gamma(30.0, 2.0)], ids=["wide", "flat", "sharp"]
)
def test_never_falls_with_an_inferred_concentration(exact, hyper, last_stick):
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(size=(40, 2)) * s + c for s, c in ((0.1, -2.0), (1.0, 0.0), (0.3, 3.0))])
    weights = DirichletProcess(hyper=hyper, last_stick=last_stick)
    problem = exact.Problem(x, num_components=6, weights=weights)
    for seed in range(3):
        _, trace = problem.ascend(problem.random_start(seed), 120)
        assert np.diff(trace).min() > -1e-10 * np.abs(trace[-1])
        assert trace[-1] > trace[0] + 1.0


def test_one_component_does_not_care(exact, faithful_z):
    """Without sticks there is nothing to learn about the concentration: the bound is the evidence."""
    plain = exact.Problem(faithful_z, num_components=1, weights=Dirichlet(1.0))
    inferred = exact.Problem(faithful_z, num_components=1, weights=DirichletProcess(hyper=Gamma(2.0, 3.0)))
    one = np.ones((len(faithful_z), 1))
    want = float(exact.log_marginal(faithful_z, one, kappa=0.1, rate=1.0)[0])
    np.testing.assert_allclose(plain.elbo(plain.start(one)), want, rtol=1e-10)
    params, trace = inferred.ascend(inferred.start(one), 2)
    np.testing.assert_allclose(trace, want, rtol=1e-10)
    np.testing.assert_allclose([params.weights.shape[0], params.weights.rate[0]], [2.0, 3.0], rtol=1e-12)


def log_evidence(exact, problem, hyper, last_stick):
    """Sum over assignments and quadrature over log gamma, parameters integrated out."""
    found = exact.enumerate(problem)
    one_hot = np.eye(problem.num_components)[found.labels]
    counts = one_hot.sum(1)
    beyond = np.cumsum(counts[:, ::-1], 1)[:, ::-1]
    if last_stick == "one":
        own, rest = counts[:, :-1], beyond[:, 1:]
    else:
        own, rest = counts, np.append(beyond[:, 1:], np.zeros((len(counts), 1)), axis=1)
    marginal = exact.log_marginal(problem.x, one_hot, kappa=problem.kappa, rate=problem.rate).sum(1)
    log_gamma = np.linspace(-12.0, 8.0, 1601)
    log_p = hyper.shape * (np.log(hyper.rate) + log_gamma) - hyper.rate * np.exp(log_gamma)
    log_p = log_p - special.gammaln(hyper.shape)
    given = [
        special.logsumexp((special.betaln(1 + own, g + rest) - special.betaln(1.0, g)).sum(1) + marginal)
        for g in np.exp(log_gamma)
    ]
    return special.logsumexp(log_p + given) + np.log(log_gamma[1] - log_gamma[0])


@pytest.mark.parametrize("last_stick", ["one", "free"])
def test_below_the_evidence_and_close(exact, last_stick):
    """Two clusters far apart, so that the assignments hold no surprise: only q's independence is lost."""
    x = np.random.default_rng(0).normal(size=(8, 2)) + 8.0 * (np.arange(8)[:, None] >= 5)
    hyper = Gamma(1.5, 0.8)
    problem = exact.Problem(x, weights=DirichletProcess(hyper=hyper, last_stick=last_stick))
    want = log_evidence(exact, problem, hyper, last_stick)
    # The quadrature is exact: with a hyperprior that all but fixes gamma it gives what a known gamma gives.
    known = exact.Problem(x, weights=DirichletProcess(2.0))
    sharp = log_evidence(exact, known, Gamma(4e3, 2e3), "one")
    np.testing.assert_allclose(sharp, exact.enumerate(known).evidence, atol=1e-3)
    params, trace = problem.ascend(problem.start(np.eye(2)[(np.arange(8) >= 5).astype(int)]), 200)
    assert trace[-1] < want
    # Both orders of the two clusters add to the evidence, log 2 at most, which q leaves out.
    assert trace[-1] > want - np.log(2.0) - 0.5
    # At the optimum q(gamma) is its full conditional.
    assert float(params.weights.shape[0]) == pytest.approx(hyper.shape + (1 if last_stick == "one" else 2))
