"""Natural gradients of Gaussian families: plain gradients times the inverse Fisher matrix.

The Fisher matrix is the Hessian of KL(q_theta || q_theta') in theta' at theta, by autodiff of the textbook
form of the divergence between dense Gaussians. Their means and covariances are read off `push`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from vigmm.families import Blocks, FullRank, Guess, MeanField
from vigmm.models import Full, Mixture, Position, Tied

pytestmark = pytest.mark.usefixtures("x64")

FAMILIES = [MeanField(), Blocks(), FullRank()]
# One column, and two with a shared matrix: its block is the only one of three coordinates.
PROBLEMS = {
    "one column": (Mixture(num_components=2, covariance=Full()), 1),
    "shared": (Mixture(num_components=2, covariance=Tied()), 2),
}


def start(model, dim, family, rng):
    """Parameters with every entry at random: scales that differ, and correlations."""
    weights, own, shared = model.sizes(dim)
    zero = Position(
        weights=jnp.zeros(weights),
        components=jnp.zeros((model.num_components, own)),
        shared=jnp.zeros(shared),
    )
    one = jax.tree.map(jnp.ones_like, zero)
    return like(family.init(model, Guess(loc=zero, scale=one, conjugate=None)), rng, 0.6)


def like(params, rng, size):
    return jax.tree.map(lambda leaf: jnp.asarray(size * rng.normal(size=leaf.shape)), params)


def gaussian(model, family, params):
    """Mean and factor of q: u = loc + L noise."""

    def draw(noise):
        return ravel_pytree(family.push(model, params, noise)[0])[0]

    nothing = jnp.zeros(family.noise_size(model, params))
    return draw(nothing), jax.jacobian(draw)(nothing)


@functools.partial(jax.jit, static_argnames=("model", "family"))
def fisher(model, family, params):
    """Hessian of (tr(S'^-1 S) + |m' - m|^2_{S'^-1} - M + log|S'| - log|S|) / 2 in theta', and q's L."""
    flat, unravel = ravel_pytree(params)
    loc, factor = gaussian(model, family, params)
    cov = factor @ factor.T

    def divergence(other):
        other_loc, other_factor = gaussian(model, family, unravel(other))
        other_cov = other_factor @ other_factor.T
        gap = other_loc - loc
        trace = jnp.trace(jnp.linalg.solve(other_cov, cov + jnp.outer(gap, gap)))
        log_dets = jnp.linalg.slogdet(other_cov)[1] - jnp.linalg.slogdet(cov)[1]
        return 0.5 * (trace - loc.size + log_dets)

    return jax.hessian(divergence)(flat), jax.grad(divergence)(flat), factor


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__.lower())
def test_natural_gradient_is_the_inverse_fisher_matrix_times_the_gradient(family, problem):
    model, dim = PROBLEMS[problem]
    rng = np.random.default_rng(2)
    params = start(model, dim, family, rng)
    information, slope, factor = (np.asarray(part) for part in fisher(model, family, params))
    # A divergence: least where both are the same, and curved in every direction.
    np.testing.assert_allclose(slope, 0.0, atol=1e-10)
    assert np.linalg.eigvalsh(information).min() > 0
    # The family does correlate what it can, so that the correlations are tested too.
    off_diagonal = np.count_nonzero(factor) - len(factor)
    assert off_diagonal == len(information) - 2 * len(factor)

    grads = like(params, rng, 1.0)
    found = np.asarray(ravel_pytree(family.natural_gradient(model, params, grads))[0])
    want = np.linalg.solve(information, np.asarray(ravel_pytree(grads)[0]))
    np.testing.assert_allclose(found, want, rtol=1e-8, atol=1e-8 * np.abs(want).max())
