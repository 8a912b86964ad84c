"""The pathwise estimator against a closed form: at K = 1 the bound of a Gaussian q is elementary."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.scipy.special import multigammaln

from vigmm.core.errors import SpecError
from vigmm.core.typing import Batch
from vigmm.estimators import Objective, Pathwise
from vigmm.estimators import noise as noises
from vigmm.families import ConjugateParams, MeanField, MeanFieldParams, guess
from vigmm.models import DataScale, Dirichlet, Mixture, NormalWishart, Position

DIM = 2
FORMS = ("closed", "stl")
KEYS = 8_000
NU, KAPPA = 5.0, 0.5


def problem(k, dtype=jnp.float64, n=19, dim=DIM):
    """Model, prior (mean 0, rate I), rows with fractional weights, and a Gaussian q off the optimum."""
    rng = np.random.default_rng(0)
    rate = tuple(map(tuple, (np.eye(dim) / (NU - dim - 1)).tolist()))
    spec = NormalWishart(mean=(0.0,) * dim, mean_precision=KAPPA, dof=NU, covariance=rate)
    model = Mixture(num_components=k, weights=Dirichlet(1.5), prior=spec)
    unit = DataScale(mean=np.zeros(dim), cov=np.eye(dim), center=np.zeros(dim), scale=np.ones(dim))
    prior = model.build_prior(unit, dtype=dtype)
    batch = Batch(
        x=jnp.asarray(rng.normal(size=(n, dim)) + 0.5, dtype), weight=jnp.asarray(rng.uniform(0, 2, n), dtype)
    )
    _, size, _ = model.sizes(dim)
    loc = Position(
        weights=jnp.asarray(0.3 * rng.normal(size=k - 1), dtype),
        components=jnp.asarray(0.3 * rng.normal(size=(k, size)), dtype),
        shared=jnp.zeros((0,), dtype),
    )
    log_scale = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.3 - 1.5, dtype), loc)
    return model, prior, batch, MeanFieldParams(loc=loc, log_scale=log_scale)


def objective(model, **knobs):
    return Objective(model=model, family=MeanField(), estimator=Pathwise(**knobs))


def exact_bound(params, batch):
    """E_q[log lik + log prior] + H at K = 1, D = 2 for independent Gaussian coordinates, from moments.

    Position (mu_1, mu_2, t_1, t_2, l): W = [[exp t_1, 0], [l, exp t_2]], Lambda = W^T W.
    """
    m, s = params.loc.components[0], jnp.exp(params.log_scale.components[0])
    t, t_var = m[2:4], s[2:4] ** 2
    diag = jnp.exp(t + t_var / 2)  # E[W_ii]
    diag_sq = jnp.exp(2 * t + 2 * t_var)  # E[W_ii^2]
    low, low_sq = m[4], m[4] ** 2 + s[4] ** 2

    def whitened(e, e_sq):
        """E|W e|^2 for independent e with means and mean squares."""
        cross = 2 * low * diag[1] * e[..., 0] * e[..., 1]
        return diag_sq[0] * e_sq[..., 0] + low_sq * e_sq[..., 0] + diag_sq[1] * e_sq[..., 1] + cross

    gap = batch.x - m[None, :2]
    squares = whitened(gap, gap**2 + (s[:2] ** 2)[None])
    log_det = jnp.sum(t)
    log_2pi = math.log(2 * math.pi)
    log_lik = jnp.sum(batch.weight * (log_det - log_2pi - 0.5 * squares))
    normal = math.log(KAPPA) - log_2pi + log_det - 0.5 * KAPPA * whitened(m[:2], m[:2] ** 2 + s[:2] ** 2)
    # Wishart(NU, rate I) of W^T W: tr(Lambda) = |W|^2; Jacobian 2^D prod W_ii^(i+1) for (log W_ii, l).
    trace = diag_sq[0] + diag_sq[1] + low_sq
    wishart = (NU - DIM - 1) * log_det - 0.5 * trace - NU * DIM / 2 * math.log(2) - multigammaln(NU / 2, DIM)
    jacobian = DIM * math.log(2) + 2 * t[0] + 3 * t[1]
    entropy = jnp.sum(jnp.log(s)) + 5 * 0.5 * (1 + log_2pi)
    return log_lik + normal + wishart + jacobian + entropy


@functools.partial(jax.jit, static_argnames=("objective",))
def estimate(objective, params, prior, batch, key):
    return objective.estimate(params, prior, batch, key)


@functools.partial(jax.jit, static_argnames=("objective",))
def many(objective, params, prior, batch):
    """Bounds and gradients (of -bound, flat) for many keys."""

    def one(key):
        found = objective.estimate(params, prior, batch, key)
        return found.elbo, ravel_pytree(found.grads)[0]

    return jax.vmap(one)(jax.random.split(jax.random.key(0), KEYS))


def within_5_se(found, samples):
    samples = np.asarray(samples)
    error = samples.std(0) / np.sqrt(len(samples))
    assert np.all(np.abs(np.asarray(found) - samples.mean(0)) < 5 * error + 1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_bound_and_gradient_are_unbiased(x64, form):
    """Their means are the closed-form bound and its gradient."""
    model, prior, batch, params = problem(1)
    value, grads = jax.jit(jax.value_and_grad(exact_bound))(params, batch)
    values, found = many(objective(model, entropy=form), params, prior, batch)
    within_5_se(value, values)
    within_5_se(-ravel_pytree(grads)[0], found)
    # Small errors, so that the test can tell a wrong gradient from a right one.
    flat = np.abs(ravel_pytree(grads)[0])
    assert np.median(np.std(found, 0) / np.sqrt(KEYS) / flat) < 0.05


def test_gradient_is_that_of_the_value(x64):
    """At a fixed key the closed form's value is a smooth function of the parameters: central differences."""
    model, prior, batch, params = problem(2)
    target, key = objective(model), jax.random.key(0)
    flat, unravel = ravel_pytree(params)
    grads = ravel_pytree(estimate(target, params, prior, batch, key).grads)[0]
    step = 1e-5
    for direction in np.random.default_rng(0).normal(size=(6, flat.size)):
        direction = jnp.asarray(direction)
        ends = [
            float(estimate(target, unravel(flat + sign * step * direction), prior, batch, key).elbo)
            for sign in (1, -1)
        ]
        # The second-order term cancels; of the third, step^2 is left.
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), -grads @ direction, rtol=1e-6, atol=1e-5)


def test_stl_holds_the_parameters_of_log_q_fixed(x64):
    """Its gradient is the path's alone: that of log p - log q along u, times du/dparams."""
    model, prior, batch, params = problem(2)
    key, family = jax.random.key(3), MeanField()
    found = estimate(objective(model, entropy="stl"), params, prior, batch, key).grads

    @jax.jit
    def path_gradient(params):
        def path(u):
            log_lik = jnp.sum(batch.weight * model.log_lik(model.constrain(prior, u), batch.x))
            return log_lik + model.log_prior(prior, u) - family.log_prob(model, params, u)

        noise = noises.draw("iid", key, 1, family.noise_size(model, params), jnp.float64)[0]
        u, pull = jax.vjp(lambda p: family.push(model, p, noise)[0], params)
        return pull(jax.grad(path)(u))[0]

    want = path_gradient(params)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(-g, w, rtol=1e-9, atol=1e-9), found, want)


def test_samples_are_averaged(x64):
    """The mean of S samples: the same bound, with a variance S times smaller."""
    model, prior, batch, params = problem(1)
    one, four = (many(objective(model, num_samples=s), params, prior, batch) for s in (1, 4))
    for single, several in zip(one, four, strict=True):
        error = np.sqrt((np.var(single, 0) + np.var(several, 0)) / KEYS)
        assert np.all(np.abs(np.mean(single, 0) - np.mean(several, 0)) < 5 * error)
        # Variances of 8,000 draws are known to some percent.
        np.testing.assert_allclose(np.var(single, 0) / np.var(several, 0), 4.0, rtol=0.3)


def test_stl_is_quiet_where_q_is_exact(x64):
    """One component, many rows: the posterior is nearly Gaussian, and q is it.

    The closed form's gradient noise does not vanish there (its loc part has the sd 1/scale); sticking the
    landing has only what is not Gaussian in the posterior, which falls as 1/sqrt(N).
    """
    n = 100_000.0
    model, prior, batch, params = problem(1)
    # A few rows of large weight are many rows. Uncorrelated, so that q can be the posterior.
    x = np.asarray(batch.x)
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    batch = Batch(x=jnp.asarray(x), weight=jnp.full(len(x), n / len(x)))
    algebra, centre = model.algebra, jnp.zeros((1, DIM))
    stats = algebra.stats(batch.x, batch.weight[:, None], centre)
    natural = jax.tree.map(jnp.add, algebra.natural(prior.components, centre), stats)
    posterior = ConjugateParams(weights=prior.weights, components=natural)
    params = MeanField().init(model, guess(model, prior, posterior, prior))
    noise = {}
    for form in FORMS:
        _, grads = many(objective(model, entropy=form), params, prior, batch)
        noise[form] = float(np.sum(np.var(grads, 0)))
    assert noise["stl"] < 1e-2 * noise["closed"]


@pytest.mark.parametrize("form", FORMS)
def test_no_library_calls_in_the_compiled_step(form):
    """Not one: the whitener makes the likelihood a matrix product, in either direction."""
    model, prior, batch, params = problem(3, jnp.float32, n=97)
    target = objective(model, num_samples=2, entropy=form, tile=32)
    text = estimate.lower(target, params, prior, batch, jax.random.key(0)).compile().as_text()
    assert "custom-call" not in text
    # The text is a program: it does hold the loop over tiles.
    assert "while" in text


def test_float32_is_close_to_float64_without_noise():
    """At tiny scales every draw is the location, so both precisions evaluate the same point."""
    found = {}
    for dtype, x64 in ((jnp.float32, False), (jnp.float64, True)):
        with jax.enable_x64(x64):
            model, prior, batch, params = problem(2, dtype)
            still = MeanFieldParams(
                loc=params.loc, log_scale=jax.tree.map(lambda leaf: jnp.full_like(leaf, -30.0), params.loc)
            )
            one = estimate(objective(model), still, prior, batch, jax.random.key(0))
            found[dtype] = [
                np.asarray(leaf, np.float64) for leaf in (one.elbo, *jax.tree.leaves(one.grads.loc))
            ]
    eps = np.finfo(np.float32).eps
    for single, double in zip(found[jnp.float32], found[jnp.float64], strict=True):
        # A sum of 19 rows, of terms up to 1e2.
        np.testing.assert_allclose(single, double, rtol=100 * eps, atol=100 * 1e2 * eps)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_samples": 0}, "num_samples must be >= 1"),
        ({"entropy": "open"}, "entropy must be"),
        ({"tile": 0}, "tile must be >= 1"),
    ],
)
def test_refused_knobs(knobs, message):
    with pytest.raises(SpecError, match=message):
        Pathwise(**knobs)
