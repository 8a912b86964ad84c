"""Natural gradients of conjugate components: the inverse Fisher information times a gradient.

In standard parameters the Fisher information falls apart: a mean has kappa E[Lambda], kappa has
D/(2 kappa^2), and only a precision's two parameters depend on each other. So the gradient is carried to
standard parameters, divided there, and the step carried back to the additive ones; nothing is inverted, and
nothing cancels for large counts.
"""

from __future__ import annotations

import jax.numpy as jnp

from vigmm.math import gamma
from vigmm.math.linalg import einsum, outer
from vigmm.math.special import trigamma_gap
from vigmm.models.covariance import normal_gamma as ng
from vigmm.models.covariance import normal_wishart as nw

__all__ = ["normal_gamma", "normal_wishart"]


def normal_wishart(params: nw.Natural, grads: nw.Natural) -> nw.Natural:
    """Of Normal-Wishart distributions.

    For (nu, B) the Fisher information is [[sum_i psi'(h_i)/4, -B^-1/2], [-B^-1/2, nu/2 B^-1 x B^-1]], h_i the
    half degrees of freedom. So d nu = (g_nu + tr(B G)/nu) / s and dB = 2/nu B G B + (d nu/nu) B, with the
    Schur complement s = sum_i psi'(h_i)/4 - D/(2 nu), in which 1/h_i - 2/nu is taken together.
    """
    standard = nw.from_natural(params)
    kappa, dof, offset = params.count[:, None], params.dof, standard.loc - params.centre
    num, dim = offset.shape
    rate = einsum("kij,klj->kil", standard.rate_factor, standard.rate_factor)
    inner = 0.5 * (grads.second + jnp.swapaxes(grads.second, -1, -2))
    pull = einsum("kij,kj->ki", nw.spread(inner, num), offset)
    loc_grad = kappa * (grads.first + 2.0 * pull)
    kappa_grad = grads.count + jnp.sum(offset * (grads.first + pull), axis=-1)

    loc = einsum("kij,kj->ki", nw.spread(rate, num), loc_grad) / (kappa * nw.spread(dof, num)[:, None])
    count = 2.0 / dim * params.count**2 * kappa_grad
    below = jnp.arange(dim - 1, -1, -1, dtype=dof.dtype)[None]
    half = 0.5 * (dof[:, None] - below)
    schur = 0.25 * jnp.sum(trigamma_gap(half) + below / (half * dof[:, None]), axis=-1)
    dof_step = (grads.dof + jnp.sum(rate * inner, axis=(-2, -1)) / dof) / schur
    turned = einsum("kij,kjl->kil", einsum("kij,kjl->kil", rate, inner), rate)
    rate_step = (2.0 * turned + dof_step[:, None, None] * rate) / dof[:, None, None]

    cross = (kappa * loc)[:, :, None] * offset[:, None, :]
    squares = count[:, None, None] * outer(offset) + cross + jnp.swapaxes(cross, -1, -2)
    return nw.Natural(
        count=count,
        first=count[:, None] * offset + kappa * loc,
        second=rate_step + nw.pooled(squares, rate.shape[0]),
        dof=dof_step,
        centre=jnp.zeros_like(params.centre),
    )


def normal_gamma(params: ng.Natural, grads: ng.Natural) -> ng.Natural:
    """Of Normal-Gamma distributions."""
    standard = ng.from_natural(params)
    kappa, offset = params.count[:, None], standard.loc - params.centre
    pull = 0.5 * ng.share(grads.second, offset) * offset
    loc_grad = kappa * (grads.first + 2.0 * pull)
    kappa_grad = grads.count + jnp.sum(offset * (grads.first + pull), axis=-1)

    precision = ng.share(standard.shape / standard.rate, offset)
    loc = loc_grad / (kappa * precision)
    count = 2.0 / offset.shape[1] * params.count**2 * kappa_grad
    shape, rate = gamma.natural_gradient(standard.shape, standard.rate, grads.shape, grads.second)
    squares = 0.5 * count[:, None] * offset**2 + kappa * loc * offset
    return ng.Natural(
        count=count,
        first=count[:, None] * offset + kappa * loc,
        second=rate + ng.gather(squares, rate),
        shape=shape,
        centre=jnp.zeros_like(params.centre),
    )
