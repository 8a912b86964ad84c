"""The mean-field family: Gaussian draws, their densities, and a start near the conjugate posterior."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vigmm.core.typing import Batch
from vigmm.estimators import Natural, Objective, Pathwise
from vigmm.families import Conjugate, ConjugateParams, MeanField, MeanFieldParams, guess
from vigmm.models import DataScale, Dirichlet, DirichletProcess, Mixture, Position

pytestmark = pytest.mark.usefixtures("x64")

FAMILY = MeanField()
MODEL = Mixture(num_components=2)
DRAWS = 50_000


def params(dim=2):
    rng = np.random.default_rng(0)
    _, size, _ = MODEL.sizes(dim)
    loc = Position(
        weights=jnp.asarray(rng.normal(size=1)),
        components=jnp.asarray(rng.normal(size=(2, size))),
        shared=jnp.zeros((0,)),
    )
    log_scale = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) - 1.0), loc)
    return MeanFieldParams(loc=loc, log_scale=log_scale)


def flat(position, axis=0):
    components = np.asarray(position.components)
    return np.concatenate(
        [np.asarray(position.weights), components.reshape(*components.shape[:axis], -1)], axis=axis
    )


def test_draws_are_independent_gaussians():
    q = params()
    u, _ = jax.vmap(lambda k: FAMILY.sample(MODEL, q, k))(jax.random.split(jax.random.key(0), DRAWS))
    standard = (flat(u, 1) - flat(q.loc)) / np.exp(flat(q.log_scale))
    for column in standard.T:
        assert stats.kstest(column, "norm").pvalue > 1e-4
    correlation = np.corrcoef(standard, rowvar=False)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / np.sqrt(DRAWS)


def test_log_prob_and_entropy_are_scipy_s():
    q = params()
    u = params(dim=2).log_scale
    want = stats.norm(flat(q.loc), np.exp(flat(q.log_scale)))
    np.testing.assert_allclose(FAMILY.log_prob(MODEL, q, u), want.logpdf(flat(u)).sum(), rtol=1e-12)
    np.testing.assert_allclose(FAMILY.entropy(MODEL, q), want.entropy().sum(), rtol=1e-12)


def test_log_q_comes_from_the_noise():
    """At scales of 1e-12 the sample no longer knows its noise: inverting it would give nonsense."""
    with jax.enable_x64(False):
        loc = Position(weights=jnp.full((1,), 3.0), components=jnp.full((2, 5), 3.0), shared=jnp.zeros((0,)))
        q = MeanFieldParams(loc=loc, log_scale=jax.tree.map(lambda leaf: jnp.full_like(leaf, -28.0), loc))
        log_q = np.asarray(
            jax.vmap(lambda k: FAMILY.sample(MODEL, q, k)[1])(jax.random.split(jax.random.key(0), 2000))
        )
        entropy = float(FAMILY.entropy(MODEL, q))
    assert abs(-log_q.mean() - entropy) < 5 * log_q.std() / np.sqrt(2000)
    # A sum of 11 squares of standard normals, halved.
    assert log_q.std() == pytest.approx(np.sqrt(11 / 2), rel=0.2)


def test_draws_are_differentiable():
    """u = loc + exp(log_scale) noise: slope 1 in loc, u - loc in log_scale."""
    q, key = params(), jax.random.key(0)
    u, _ = FAMILY.sample(MODEL, q, key)
    grads = jax.grad(
        lambda q: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(FAMILY.sample(MODEL, q, key)[0]))
    )(q)
    np.testing.assert_allclose(flat(grads.loc), 1.0, rtol=1e-14)
    np.testing.assert_allclose(flat(grads.log_scale), flat(u) - flat(q.loc), rtol=1e-12)


@functools.partial(jax.jit, static_argnames=("model",))
def conjugate(model, prior, x, resp, centre):
    empty = ConjugateParams(weights=prior.weights, components=model.algebra.natural(prior.components, centre))
    return Conjugate().target(model, prior, empty, resp.sum(0), model.algebra.stats(x, resp, centre))


@functools.partial(jax.jit, static_argnames=("model",))
def bounds(model, prior, start, batch):
    """The conjugate bound, and one-sample estimates of the mean-field bound at its start."""
    exact = Objective(model=model, family=Conjugate(), estimator=Natural())
    sampled = Objective(model=model, family=FAMILY, estimator=Pathwise())
    q = FAMILY.init(model, guess(model, prior, start, prior))
    keys = jax.random.split(jax.random.key(0), 400)
    values = jax.vmap(lambda k: jax.tree.reduce(jnp.add, sampled.value(q, prior, batch, k)))(keys)
    return jax.tree.reduce(jnp.add, exact.value(start, prior, batch, keys[0])), values


def start(weights, correlation, *, k=6, n=3000, dim=3):
    """k components of which every other is empty, on data of two clusters with correlated columns."""
    rng = np.random.default_rng(0)
    used = np.arange(0, k, 2)
    labels = rng.choice(used, n)
    mix = np.linalg.cholesky((1 - correlation) * np.eye(dim) + correlation)
    x = rng.normal(size=(n, dim)) @ mix.T + 4.0 * rng.normal(size=(k, dim))[labels]
    x = (x - x.mean(0)) / x.std(0)
    believed = Mixture(num_components=k, weights=weights)
    zero, one = np.zeros(dim), np.ones(dim)
    data = DataScale(mean=zero, cov=np.cov(x.T), center=zero, scale=one)
    prior = believed.build_prior(data, dtype=jnp.float64)
    resp = np.eye(k)[labels]
    centre = resp.T @ x / np.maximum(resp.sum(0), 1)[:, None]
    # The prior is an argument: one model without it compiles once for all of them.
    model = Mixture(num_components=k)
    params = conjugate(model, prior, *map(jnp.asarray, (x, resp, centre)))
    return model, prior, params, Batch(x=jnp.asarray(x), weight=jnp.ones(n))


@pytest.mark.parametrize(
    ("weights", "correlation"),
    [(Dirichlet(1.0), 0.0), (DirichletProcess(1.0), 0.0), (Dirichlet(0.05), 0.0), (Dirichlet(1.0), 0.97)],
    ids=["dirichlet", "process", "sparse", "correlated"],
)
def test_start_is_close_to_the_conjugate_bound(weights, correlation):
    """Some nats per coordinate at most: not the thousands that a wrong tail or scale costs.

    Two things go wrong if moments are matched blindly. log v of an empty component under a sparse prior is
    far from Gaussian, and a Gaussian of its variance gives the component weight. And where columns are
    correlated, independent Gaussians as wide as the marginals leave the ridge that they share.
    """
    model, prior, params, batch = start(weights, correlation)
    exact, values = bounds(model, prior, params, batch)
    error = float(np.std(values)) / np.sqrt(len(values))
    assert float(np.mean(values)) > float(exact) - model.position_size(3) - 5 * error
    # The noise of one sample tells the same: some nats, not hundreds.
    assert np.std(values) < 2.0 * np.sqrt(model.position_size(3))


def test_predictive_is_the_mean_of_densities():
    """At a tiny scale every draw is the location, and so is the predictive."""
    q = params()
    still = MeanFieldParams(loc=q.loc, log_scale=jax.tree.map(lambda leaf: leaf - 30.0, q.log_scale))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(5, 2)))
    unit = DataScale(mean=np.zeros(2), cov=np.eye(2), center=np.zeros(2), scale=np.ones(2))
    prior = MODEL.build_prior(unit, dtype=jnp.float64)
    found = FAMILY.log_predictive(MODEL, still, prior, x, jax.random.key(0), num_draws=3)
    np.testing.assert_allclose(found, MODEL.log_joint(MODEL.constrain(prior, q.loc), x), rtol=1e-9)


def test_weights_are_those_of_the_central_position():
    q = params()
    v = 1 / (1 + np.exp(-float(q.loc.weights[0])))
    np.testing.assert_allclose(FAMILY.weights(MODEL, q), [v, 1 - v], rtol=1e-12)
