"""What the data taught about each part of the parameters, against closed forms and quadrature."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

from tests.contracts.conftest import setting
from vigmm.families import FAMILIES
from vigmm.models import (
    FactorAnalytic,
    Full,
    Independent,
    Noise,
    StudentT,
    Tied,
    distribution,
)
from vigmm.posterior.divergences import divergences

# The families of Gaussians are one code here, whatever q's covariance.
CASES = {
    "meanfield": {"covariance": Full()},
    "fullrank": {"covariance": Tied(), "likelihood": StudentT(), "noise": Noise()},
    "blocks": {"prior": Independent(hyper=distribution("HalfNormal", scale=1.0)), "covariance": Full()},
    "lowrank": {"covariance": FactorAnalytic(rank=1)},
}
QUICK = ("fullrank",)
PARTS = ("weights", "covariances", "means", "others")


@functools.partial(jax.jit, static_argnames=("family", "model", "draws"))
def drawn(family, model, params, *, draws):
    keys = jax.random.split(jax.random.key(2), draws)
    return jax.vmap(lambda key: family.sample(model, params, key)[0])(keys)


@functools.partial(jax.jit, static_argnames=("model",))
def priced(model, prior, positions):
    return jax.vmap(lambda u: model.log_prior(prior, u))(positions)


def correlated(params, rng):
    """The same q, with whatever correlations it can have."""
    return jax.tree.map(lambda leaf: leaf + 0.3 * jnp.asarray(rng.normal(size=leaf.shape)), params)


def case(name, draws=4000, **changes):
    family = FAMILIES[name]()
    found = setting(family, dtype=jnp.float64, **{**CASES[name], **changes})
    params = correlated(found.params, np.random.default_rng(0))
    positions = jax.tree.map(np.asarray, drawn(family, found.model, params, draws=draws))
    return found, params, positions, divergences(found.model, family, params, found.prior, positions)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES]
)
def test_parts_add_up(name, x64):
    """To -H(q) - E[log p], and none of them below zero by more than its noise."""
    found, params, positions, parts = case(name)
    total = -float(found.family.entropy(found.model, params)) - float(
        np.mean(priced(found.model, found.prior, positions))
    )
    np.testing.assert_allclose(sum(value for value, _ in parts.values()), total, rtol=1e-9)
    assert set(parts) == set(PARTS[: 4 if name == "fullrank" else 3])
    for value, se in parts.values():
        assert se > 0
        assert value > -5 * se


def test_weights_are_right(x64):
    """One stick: q's is a Gaussian, whatever it is correlated with, and the divergence an integral."""
    found, params, positions, parts = case("fullrank")
    value, se = parts["weights"]
    flat = np.asarray(jax.vmap(lambda u: ravel_pytree(u.weights)[0])(positions))[:, 0]
    # Location and sd of that marginal, exactly: of the affine map of the noise.
    family, model = found.family, found.model

    def stick(noise):
        return family.push(model, params, noise)[0].weights[0]

    still = jnp.zeros(family.noise_size(model, params))
    loc, sd = float(stick(still)), float(jnp.linalg.norm(jax.grad(stick)(still)))
    assert abs(flat.mean() - loc) < 5 * sd / np.sqrt(len(flat))
    q = stats.norm(loc, sd)
    grid = np.linspace(loc - 9 * sd, loc + 9 * sd, 20_001)
    prior = found.prior.weights
    v = 1 / (1 + np.exp(-grid))
    log_p = stats.beta(float(prior.a[0]), float(prior.b[0])).logpdf(v) + np.log(v) + np.log1p(-v)
    want = np.trapezoid(q.pdf(grid) * (q.logpdf(grid) - log_p), grid)
    assert abs(value - want) < 5 * se
    assert se < 0.1 * want


def test_means_given_covariances_are_normal(x64):
    """What is left of the density of the components does not change with the means."""
    found, _, positions, _ = case("fullrank", draws=50)

    @jax.jit
    def parts(positions):
        return jax.vmap(lambda u: found.model.log_prior_parts(found.prior, u))(positions)

    moved = np.array(positions.components)
    moved[:, :, :2] += 1.7
    here = parts(positions)
    there = parts(type(positions)(weights=positions.weights, components=moved, shared=positions.shared))
    for name in ("weights", "covariances", "others"):
        np.testing.assert_allclose(here[name], there[name], rtol=1e-9)
    assert np.all(np.abs(np.asarray(here["means"] - there["means"])) > 1e-6)
    whole = priced(found.model, found.prior, positions)
    np.testing.assert_allclose(sum(np.asarray(here[part]) for part in PARTS), whole, rtol=1e-9)


def test_conjugate_parts_are_the_terms_of_its_bound(x64):
    family = FAMILIES["conjugate"]()
    found = setting(family, dtype=jnp.float64, covariance=Full())
    parts = divergences(found.model, family, found.params, found.prior, None)  # nothing is drawn
    posterior = family.posterior(found.model, found.params)
    terms = family.neg_kl(found.model, posterior, found.prior)
    assert {f"neg_kl_{name}": (-value, se) for name, (value, se) in parts.items()} == {
        name: (pytest.approx(float(value)), 0.0) for name, value in terms.items()
    }


@pytest.mark.slow
def test_a_flow_has_one_number(x64):
    family = FAMILIES["flow"]()
    found = setting(family, dtype=jnp.float64, covariance=Full())
    positions = drawn(family, found.model, found.params, draws=200)
    [(name, (value, se))] = divergences(found.model, family, found.params, found.prior, positions).items()
    assert name == "all parameters"
    gaussian = setting(FAMILIES["meanfield"](), dtype=jnp.float64, covariance=Full())
    # A flow begins as the mean field of the same guess.
    u = drawn(gaussian.family, gaussian.model, gaussian.params, draws=4000)
    parts = divergences(gaussian.model, gaussian.family, gaussian.params, gaussian.prior, u)
    assert abs(value - sum(one for one, _ in parts.values())) < 5 * se
