"""What the data taught: KL(q || prior) of weights, covariances and means, in nats.

By the chain rule the divergence of all parameters is that of the weights, plus that of the covariances given
them, plus that of the means given both, on average:

    KL_g = -H(q_g | before g) - E_q[log p_g]                                               (1)

Conjugate families know both. A Gaussian q over positions knows its conditional entropies, the logarithms of
the diagonal of a Cholesky factor with the coordinates in that order; the expectation is a mean over draws. A
flow knows the entropy of no part of it: there is one number for all parameters.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from vigmm.core.effort import program
from vigmm.core.precision import double
from vigmm.families import ClosedEntropy, Conjugate, Family, Reparameterised
from vigmm.models import Mixture, Position, Prior
from vigmm.posterior.draws import draw_work

__all__ = ["divergences"]

# A covariance matrix of so many coordinates takes 128 MiB; beyond that only the sum is told.
_MOST = 4_000
# Draws through the inverse of a flow.
_FEW = 128


def divergences(
    model: Mixture, family: Family, params: Any, prior: Prior, positions: Position
) -> dict[str, tuple[float, float]]:
    """KL(q || prior) by part of the parameters, each with its Monte-Carlo standard error, 0 where exact.

    Args:
        model: the model.
        family: what q is.
        params: parameters of q.
        prior: hyperparameters.
        positions: draws of q with a leading axis.
    """
    with jax.enable_x64(True):
        params, prior, positions = double((params, prior, positions))
        if isinstance(family, Conjugate):
            terms = _closed(model, family, params, prior)
            return {name.removeprefix("neg_kl_"): (-float(value), 0.0) for name, value in terms.items()}
        size = positions.weights[0].size + positions.components[0].size + positions.shared[0].size
        # A map of normal noise whose entropy has a closed form is an affine one.
        if not (isinstance(family, Reparameterised) and isinstance(family, ClosedEntropy)) or size > _MOST:
            few = jax.tree.map(lambda leaf: leaf[:_FEW], positions)
            return {"all parameters": _mean(_log_ratio(model, family, params, prior, few))}
        priced = _log_parts(model, prior, positions)
        entropies = _entropies(model, family, params, prior, positions)
        found = {}
        for name, values in priced.items():
            if name in entropies:
                mean, se = _mean(values)
                found[name] = (-entropies[name] - mean, se)
        return found


def _mean(values: Any) -> tuple[float, float]:
    values = np.asarray(values, np.float64)
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def _entropies(
    model: Mixture, family: Reparameterised, params: Any, prior: Prior, positions: Position
) -> dict[str, float]:
    """Entropy of each part given those before it; parts without coordinates are left out."""
    one = jax.tree.map(lambda leaf: leaf[0], positions)
    labels = np.asarray(ravel_pytree(model.parts(one, prior.frame.scale.shape[0]))[0])
    order = np.argsort(labels, kind="stable")
    factor = np.asarray(_jacobian(model, family, params))[order]
    log_diag = np.log(np.abs(np.diagonal(np.linalg.qr(factor.T, mode="r"))))
    entropy = log_diag + 0.5 * (1.0 + math.log(2.0 * math.pi))
    names = ("weights", "covariances", "means", "others")
    parts = {name: labels[order] == number for number, name in enumerate(names)}
    return {name: float(entropy[mine].sum()) for name, mine in parts.items() if mine.any()}


@program(lambda *_: 0.0, static_argnames=("model", "family"))
def _closed(model: Mixture, family: Conjugate, params: Any, prior: Prior) -> dict[str, Float[Array, ""]]:
    return family.neg_kl(model, family.posterior(model, params), prior)


@program(lambda *_: 0.0, static_argnames=("model", "family"))
def _jacobian(model: Mixture, family: Reparameterised, params: Any) -> Float[Array, "P M"]:
    """A draw is loc + A noise: A."""

    def push(noise: Float[Array, " M"]) -> Float[Array, " P"]:
        return ravel_pytree(family.push(model, params, noise)[0])[0]

    still = jnp.zeros((family.noise_size(model, params),), jnp.float64)
    matrix: Array = jax.jacfwd(push)(still)
    return matrix


@program(lambda model, prior, _: draw_work(model, prior), static_argnames=("model",))
def _log_parts(model: Mixture, prior: Prior, positions: Position) -> dict[str, Float[Array, " S"]]:
    return jax.vmap(lambda u: model.log_prior_parts(prior, u))(positions)


@program(lambda model, family, params, prior, _: draw_work(model, prior), static_argnames=("model", "family"))
def _log_ratio(
    model: Mixture, family: Family, params: Any, prior: Prior, positions: Position
) -> Float[Array, " S"]:
    """Log q - log p of draws."""
    ratio: Array = jax.lax.map(
        lambda u: family.log_prob(model, params, u) - model.log_prior(prior, u), positions
    )
    return ratio
