"""The flow: densities from the noise and back, a start at the guess, a fit that mean field cannot have."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

import vigmm
from vigmm.core.errors import SpecError
from vigmm.core.typing import Batch
from vigmm.estimators import Objective, Pathwise
from vigmm.families import Flow, Guess, MeanField
from vigmm.models import DataScale, Dirichlet, FactorAnalytic, Mixture, Position
from vigmm.optim import Adam

FAMILY = Flow(num_flows=2, hidden=(8,))
MODEL = Mixture(num_components=2, weights=Dirichlet(1.0))
DRAWS = 20_000


def guess(dtype=np.float64):
    """A guess for one column: a stick, and mean and log root precision of both components."""
    rng = np.random.default_rng(0)
    make = [rng.normal(size=shape) for shape in ((1,), (2, 2), (0,))]
    names = ("weights", "components", "shared")
    loc = Position(**{n: jnp.asarray(v, dtype) for n, v in zip(names, make, strict=True)})
    scale = jax.tree.map(lambda leaf: 0.1 + jnp.abs(leaf), loc)
    return Guess(loc=loc, scale=scale, conjugate=None)


def bent(seed=1):
    """Parameters whose networks are far from zero."""
    params = FAMILY.init(MODEL, guess())
    flat, unravel = ravel_pytree(params.networks)
    noise = 0.4 * np.random.default_rng(seed).normal(size=flat.size)
    return params.replace(networks=unravel(flat + jnp.asarray(noise)))


@jax.jit
def pushed(params, noise):
    """Draws, their log q from the noise, and log q of the positions."""
    u, log_q = jax.vmap(lambda one: FAMILY.push(MODEL, params, one))(noise)
    return u, log_q, jax.vmap(lambda one: FAMILY.log_prob(MODEL, params, one))(u)


@pytest.fixture(scope="module")
def drawn():
    with jax.enable_x64(True):
        noise = jax.random.normal(jax.random.key(0), (DRAWS, 5), jnp.float64)
        u, log_q, log_prob = pushed(bent(), noise)
        flat = jax.vmap(lambda one: ravel_pytree(one)[0])(u)
        return tuple(map(np.asarray, (noise, flat, log_q, log_prob)))


def test_noise_and_inverse_tell_the_same_density(drawn):
    _, _, log_q, log_prob = drawn
    np.testing.assert_allclose(log_prob, log_q, rtol=1e-9, atol=1e-9)


def test_density_is_the_change_of_variables(drawn, x64):
    """log N(noise) - log|det du/dnoise|, the determinant by automatic differentiation."""
    noise, _, log_q, _ = drawn
    jacobian = jax.jit(jax.vmap(jax.jacobian(lambda e: ravel_pytree(FAMILY.push(MODEL, bent(), e)[0])[0])))
    found = np.asarray(jacobian(jnp.asarray(noise[:20])))
    want = stats.norm.logpdf(noise[:20]).sum(1) - np.linalg.slogdet(found)[1]
    np.testing.assert_allclose(log_q[:20], want, rtol=1e-9)
    # Two networks, one after a reversal: every coordinate sees more than itself.
    assert np.all((np.abs(found[0]) > 0).sum(1) > 1)


def test_density_integrates_to_one(drawn):
    """E_q[r / q] = 1 for a Gaussian r inside q."""
    _, flat, log_q, _ = drawn
    inside = stats.multivariate_normal(np.median(flat, 0), 0.2 * np.cov(flat.T))
    ratio = np.exp(inside.logpdf(flat) - log_q)
    error = ratio.std() / np.sqrt(DRAWS)
    assert error < 0.1
    assert abs(ratio.mean() - 1) < 5 * error


def test_starts_as_mean_field(dtype):
    start = guess(dtype)
    params, plain = FAMILY.init(MODEL, start), MeanField().init(MODEL, start)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {dtype}
    noise = jnp.asarray(np.random.default_rng(0).normal(size=5), dtype)
    one, other = FAMILY.push(MODEL, params, noise), MeanField().push(MODEL, plain, noise)
    chex.assert_trees_all_close(one, other, rtol=10 * np.finfo(dtype).eps)
    chex.assert_trees_all_equal(FAMILY.init(MODEL, start), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(FAMILY.log_prob(MODEL, params, one[0]))} == {dtype}
    np.testing.assert_allclose(
        FAMILY.weights(MODEL, params), MeanField().weights(MODEL, plain), rtol=10 * np.finfo(dtype).eps
    )


def test_is_a_spec_with_an_entropy_of_its_own():
    assert hash(Flow(hidden=(4, 4))) == hash(Flow(hidden=(4, 4)))
    for wrong in ({"num_flows": 0}, {"hidden": ()}, {"hidden": (0,)}):
        with pytest.raises(SpecError, match=r"must be (>= 1|at least one width)"):
            Flow(**wrong)
    with pytest.raises(SpecError, match="entropy must be 'sampled' or 'stl'"):
        Objective(model=MODEL, family=FAMILY, estimator=Pathwise(entropy="closed"))
    Objective(model=MODEL, family=FAMILY, estimator=Pathwise())


# A posterior that is skewed and curved: two components on eight rows of one column.
ROWS = np.array([-1.6, -1.1, -0.7, -0.2, 0.3, 0.9, 1.1, 1.3])
STEPS = 3000


@functools.cache
def bound(family):
    """ELBO at the end of a run, and its standard error over 20,000 draws."""
    with jax.enable_x64(True):
        data = DataScale(
            mean=np.zeros(1), cov=np.array([[np.var(ROWS)]]), center=np.zeros(1), scale=np.ones(1)
        )
        prior = MODEL.build_prior(data, dtype=jnp.float64)
        batch = Batch(x=jnp.asarray(ROWS[:, None]), weight=jnp.ones(8))
        zero = Position(weights=jnp.zeros(1), components=jnp.zeros((2, 2)), shared=jnp.zeros(0))
        start = Guess(
            loc=zero, scale=jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.3), zero), conjugate=None
        )
        objective = Objective(
            model=MODEL, family=family, estimator=Pathwise(num_samples=8, entropy="sampled")
        )
        optimizer = Adam(rate=0.02).build(jnp.asarray(STEPS), None)

        @jax.jit
        def fitted(params):
            def step(carry, key):
                params, state = carry
                found = objective.estimate(params, prior, batch, key)
                # Optax counts its steps in int32 and raises a float64 to that power.
                with jax.numpy_dtype_promotion("standard"):
                    updates, state = optimizer.update(found.grads, state, params)
                return (jax.tree.map(jnp.add, params, updates), state), found.elbo

            keys = jax.random.split(jax.random.key(1), STEPS)
            params = jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]
            last = Objective(
                model=MODEL, family=family, estimator=Pathwise(num_samples=20_000, entropy="sampled")
            )
            return last.estimate(params, prior, batch, jax.random.key(2))

        found = fitted(family.init(MODEL, start))
        return float(found.elbo), float(found.se)


@pytest.mark.slow
def test_fits_a_skewed_posterior_better_than_mean_field():
    (flow, flow_se), (plain, plain_se) = bound(FAMILY), bound(MeanField())
    assert flow_se < 0.1
    assert flow - plain > 5 * np.hypot(flow_se, plain_se)


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) + np.repeat([[0.0] * 3, [5.0] * 3], 100, axis=0)
    return x, vigmm.fit(
        x,
        model=Mixture(num_components=2, covariance=FactorAnalytic(rank=1)),
        family=Flow(num_flows=1, hidden=(4,)),
        train=vigmm.Train(batch_size=200, min_steps=300, passes=1, chunk_steps=100, holdout=0.0),
    )


@pytest.mark.slow
def test_a_user_names_only_the_family(fitted):
    x, fit = fitted
    assert fit.outcome.ok
    assert np.isfinite(fit.elbo.elbo)
    assert sorted(np.bincount(fit.posterior.predict(x))) == [100, 100]


@pytest.mark.slow
def test_a_file_keeps_it(fitted, tmp_path):
    x, fit = fitted
    fit.save(tmp_path)
    again = vigmm.load(tmp_path)
    assert (again.family, again.model) == (fit.posterior.family, fit.posterior.model)
    chex.assert_trees_all_equal(again.params, fit.posterior.params)
    np.testing.assert_array_equal(again.log_predictive(x), fit.posterior.log_predictive(x))


def test_equal_choices_do_not_retrace(x64):
    @functools.partial(jax.jit, static_argnames=("objective",))
    @chex.assert_max_traces(n=1)
    def value(objective, params, prior, batch, key):
        return objective.value(params, prior, batch, key)

    data = DataScale(mean=np.zeros(1), cov=np.eye(1), center=np.zeros(1), scale=np.ones(1))
    prior = MODEL.build_prior(data, dtype=jnp.float64)
    batch = Batch(x=jnp.asarray(ROWS[:, None]), weight=jnp.ones(8))
    for seed in range(2):
        family = Flow(num_flows=2, hidden=(8,))
        made = Objective(model=MODEL, family=family, estimator=Pathwise(entropy="stl"))
        value(made, family.init(MODEL, guess()), prior, batch, jax.random.key(seed))
