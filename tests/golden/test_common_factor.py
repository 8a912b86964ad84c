"""A common factor of all covariances, inferred: against quadrature over it, and against one that is known.

At K = 1 the evidence given the factor is a ratio of normalisers, so that one integral gives the evidence.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import vigmm
from vigmm.core.typing import Batch
from vigmm.estimators import Natural
from vigmm.families import Conjugate, MeanField, guess, untouched
from vigmm.models import (
    DataScale,
    Diag,
    Dirichlet,
    FactorAnalytic,
    Full,
    Gamma,
    Mixture,
    NormalWishart,
    Tied,
    passes,
)
from vigmm.models.covariance import StructurePosition
from vigmm.optim import Memoized
from vigmm.posterior.psis import smooth
from vigmm.train import Train

pytestmark = pytest.mark.usefixtures("x64")

FAMILY, NATURAL = Conjugate(), Natural()
HYPER = Gamma(2.0, 2.0)
N, DIM = 30, 2


def problem(covariance, k, hyper=HYPER, spread=0.2):
    """Rows that are tighter than the prior expects, by half and more."""
    model = Mixture(
        num_components=k, weights=Dirichlet(1.0), covariance=covariance, prior=NormalWishart(hyper=hyper)
    )
    rng = np.random.default_rng(0)
    own = np.arange(N) % k
    x = spread * rng.normal(size=(N, DIM)) @ [[1.0, 0.5], [0.0, 0.7]] + 1.5 * own[:, None]
    unit = DataScale(mean=np.zeros(DIM), cov=np.eye(DIM), center=np.zeros(DIM), scale=np.ones(DIM))
    prior = model.build_prior(unit, dtype=jnp.float64)
    batch = Batch(x=jnp.asarray(x), weight=jnp.ones(N))
    return SimpleNamespace(model=model, prior=prior, batch=batch, start=untouched(model, prior))


@functools.partial(jax.jit, static_argnames=("model", "steps"))
def ascend(model, params, prior, batch, *, steps):
    """Coordinate ascent from `params`, with the bound before every step."""

    def body(params, _):
        found = NATURAL.estimate(model, FAMILY, params, prior, batch, jax.random.key(0))
        return jax.tree.map(jnp.subtract, params, found.grads), found.elbo

    return jax.lax.scan(body, params, length=steps)


@functools.partial(jax.jit, static_argnames=("model",))
def log_evidence_given(model, prior, batch, factors):
    """log p(X | s) at K = 1: posterior over prior normaliser, for many s."""
    algebra, centre = model.algebra, jnp.zeros((1, DIM))
    stats = algebra.stats(batch.x, batch.weight[:, None], centre)

    def one(factor):
        before = algebra.natural(model.structure.scaled(prior.components, factor), centre)
        after = jax.tree.map(jnp.add, before, stats)
        return algebra.log_partition(after) - algebra.log_partition(before)

    return jax.vmap(one)(factors) - 0.5 * N * DIM * jnp.log(2 * jnp.pi)


def log_evidence(case):
    grid = np.linspace(-12.0, 5.0, 4001)
    given = np.asarray(log_evidence_given(case.model, case.prior, case.batch, jnp.exp(jnp.asarray(grid))))
    density = np.array([float(case.model.prior.hyper.log_prob(jnp.asarray(one))) for one in grid[::4000]])
    shape, rate = HYPER.shape, HYPER.rate
    log_p = shape * np.log(rate) - np.log(1.0) + shape * grid - rate * np.exp(grid)  # Gamma(2) = 1
    np.testing.assert_allclose(density, log_p[::4000], rtol=1e-12)
    return float(logsumexp(given + log_p) + np.log(grid[1] - grid[0]))


@functools.partial(jax.jit, static_argnames=("family", "model"))
def log_ratios(family, model, params, prior, batch):
    def one(key):
        u, log_q = family.sample(model, params, key)
        theta = jax.tree.map(lambda leaf: leaf[None], model.constrain(prior, u))
        return passes.log_lik(model, theta, batch)[0] + model.log_prior(prior, u) - log_q

    return jax.lax.map(one, jax.random.split(jax.random.key(1), 2000))


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "covariance", [Full(), pytest.param(Tied(), marks=slow), pytest.param(Diag(), marks=slow)], ids=str
)
def test_bound_and_draws_know_the_evidence(covariance):
    """The bound is below it by what q(s) q(rest) loses, and importance sampling from q finds it."""
    case = problem(covariance, 1)
    want = log_evidence(case)
    params, trace = ascend(case.model, case.start, case.prior, case.batch, steps=40)
    trace = np.asarray(trace)
    assert np.diff(trace).min() > -1e-9
    assert want - 0.5 < trace[-1] < want
    found = smooth(np.asarray(log_ratios(FAMILY, case.model, params, case.prior, case.batch)))
    assert found.khat < 0.7
    assert found.se < 0.05
    assert abs(found.log_evidence - want) < 5 * found.se
    # It did move: the rows are tighter than the prior expects.
    assert 0.05 < float(params.factor.mean) < 0.7


def test_a_factor_that_is_known_is_no_factor():
    """Under Gamma(c, c) with a huge c: today's bound, and today's posterior."""
    sure, plain = (problem(Full(), 2, hyper=hyper) for hyper in (Gamma(1e8, 1e8), None))
    ends = [ascend(case.model, case.start, case.prior, case.batch, steps=10) for case in (sure, plain)]
    (one, two), (trace, want) = zip(*ends, strict=True)
    np.testing.assert_allclose(trace, want, atol=1e-5)
    np.testing.assert_allclose(one.components.second, two.components.second, rtol=1e-5)
    assert two.factor is None


@slow
def test_full_steps_never_lower_the_bound():
    case = problem(Full(), 2)
    rng = np.random.default_rng(2)
    resp = jnp.asarray(rng.dirichlet([0.5, 0.5], N))
    stats = case.model.algebra.stats(case.batch.x, resp, jnp.zeros((2, DIM)))
    far = FAMILY.target(case.model, case.prior, case.start, resp.sum(0), stats)
    for spread in (1e-3, 1.0, 1e3):
        moved = type(far.factor)(shape=far.factor.shape, rate=far.factor.rate * spread)
        params = type(far)(weights=far.weights, components=far.components, factor=moved)
        _, trace = ascend(case.model, params, case.prior, case.batch, steps=10)
        assert np.diff(np.asarray(trace)).min() > -1e-9


@slow
def test_a_gaussian_family_has_it_too():
    """The same coordinate, near the same place, and so the same evidence."""
    case = problem(Full(), 1)
    params, _ = ascend(case.model, case.start, case.prior, case.batch, steps=40)
    q = MeanField().init(case.model, guess(case.model, case.prior, params, case.prior))
    np.testing.assert_allclose(np.exp(q.loc.shared[-1]), params.factor.mean, rtol=0.1)
    found = smooth(np.asarray(log_ratios(MeanField(), case.model, q, case.prior, case.batch)))
    assert abs(found.log_evidence - log_evidence(case)) < 5 * max(found.se, 0.1)


@slow
@pytest.mark.parametrize("covariance", [Full(), FactorAnalytic(rank=1)], ids=["full", "low_rank"])
def test_factor_is_a_change_of_units_of_covariances(covariance):
    """log p(covariances | s) is that at one with covariances divided by s, and the volume of that."""
    model = Mixture(num_components=2, covariance=covariance, prior=NormalWishart(hyper=HYPER))
    known = Mixture(num_components=2, covariance=covariance)
    assert model.position_size(DIM) == known.position_size(DIM) + 1
    unit = DataScale(mean=np.zeros(DIM), cov=np.eye(DIM), center=np.zeros(DIM), scale=np.ones(DIM))
    prior = known.build_prior(unit, dtype=jnp.float64)
    rng = np.random.default_rng(0)
    u = 0.3 * rng.normal(size=(2, known.sizes(DIM)[1]))
    # Means at their prior mean, where the density given the covariances is a power of s alone.
    u[:, :DIM] = np.asarray(prior.components.loc)
    log_s, moved = 0.7, u.copy()
    if covariance == Full():  # W / root s: the logarithms of the diagonal, and the entries below
        moved[:, DIM : 2 * DIM] -= 0.5 * log_s
        moved[:, 2 * DIM :] *= np.exp(-0.5 * log_s)
        volume = 0.5 * log_s * u[:, 2 * DIM :].size
    else:  # the noise's roots, and the factors, which grow
        moved[:, DIM : 2 * DIM] -= 0.5 * log_s
        moved[:, 2 * DIM :] *= np.exp(0.5 * log_s)
        volume = -0.5 * log_s * u[:, 2 * DIM :].size
    structure = model.structure

    def log_prob(built, components):
        position = StructurePosition(components=jnp.asarray(components), shared=jnp.zeros(0))
        return float(structure.log_prob(built, position))

    scaled = structure.scaled(prior.components, jnp.exp(jnp.asarray(log_s)))
    means = -0.5 * log_s * 2 * DIM  # two means of DIM columns, each sd times root s
    found = log_prob(scaled, moved)
    np.testing.assert_allclose(found, log_prob(prior.components, u) + volume + means, rtol=1e-10)


@slow
def test_fit_with_it():
    """Through the whole of `fit`, by passes over all rows and by remembered batches."""
    x = np.asarray(problem(Full(), 2).batch.x)
    # Thirty times what would be expected: a user who got it wrong.
    model, wrong = (
        Mixture(num_components=2, weights=Dirichlet(1.0), prior=NormalWishart(scale=30.0, hyper=hyper))
        for hyper in (HYPER, None)
    )
    config = Train(batch_size=N, holdout=0.0)
    fit, plain = (
        vigmm.fit(x, model=one, train=config, moves=None, dtype="float64") for one in (model, wrong)
    )
    assert fit.outcome.ok
    assert fit.elbo.elbo > plain.elbo.elbo + 5
    assert fit.manifest["prior"]["factor"] == {"shape": 2.0, "rate": 2.0}
    batches = Train(batch_size=N // 4, holdout=0.0, passes=200)
    other = vigmm.fit(x, model=model, optimizer=Memoized(), train=batches, moves=None, dtype="float64")
    np.testing.assert_allclose(other.elbo.elbo, fit.elbo.elbo, atol=1e-3)


@slow
@pytest.mark.parametrize("covariance", [Full(), Diag()], ids=["full", "diag"])
def test_a_wrong_scale_does_not_decide_how_many_there_are(covariance):
    """Three clusters far apart; a prior that expects covariances a hundred times as large."""
    rng = np.random.default_rng(0)
    x = np.repeat([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]], 60, axis=0) + 0.3 * rng.normal(size=(180, 2))

    def found(hyper):
        prior = NormalWishart(scale=100.0, hyper=hyper)
        fit = vigmm.fit(x, model=Mixture(num_components=6, covariance=covariance, prior=prior))
        return fit.posterior.model.num_components, fit.elbo.elbo

    (count, bound), (_, known) = found(HYPER), found(None)
    assert count == 3
    assert bound > known + 100
