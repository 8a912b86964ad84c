"""Rows that come in chunks and are not kept: a conjugate posterior takes one natural-gradient step for each.

A posterior of N rows is prior + N m, m being the mean statistics of a row. A chunk of weight W makes them
known anew, as far as W rows can, and lambda moves to

    lambda <- (1 - rho) (lambda_0 + g (lambda - lambda_0)) + rho (lambda_0 + (N / W) s(chunk)).         (1)

With N fixed and g = 1 this is stochastic variational inference (Hoffman et al. 2013). Where nobody knows how
many rows there will be, N is the weight of those seen so far and g = N / (N - W) makes the old posterior one
of as many rows. With rho = W / N then nothing is forgotten, lambda <- lambda + s(chunk) (Broderick et al.
2013); a larger rho forgets chunks that were divided by a posterior that knew little.

References:
    Hoffman, Blei, Wang and Paisley (2013), Stochastic variational inference, JMLR 14; Broderick, Boyd,
    Wibisono, Wilson and Jordan (2013), Streaming variational Bayes, NIPS.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.effort import pass_work, program
from vigmm.core.typing import Batch
from vigmm.data.sampler import Rows
from vigmm.estimators import Natural
from vigmm.families import Conjugate, ConjugateParams
from vigmm.models import Mixture, Prior
from vigmm.train.recovery import all_finite

__all__ = ["absorb", "grow"]

# Chunks that one program will see, about.
_CHUNKS = 100


def _work(model: Mixture, params: Any, prior: Prior, rows: Rows, *_: Any) -> float:
    """Operations of a stream of some length."""
    return _CHUNKS * pass_work(rows.x.shape, model.num_components)


@program(_work, static_argnames=("model",))
def absorb(
    model: Mixture,
    params: ConjugateParams,
    prior: Prior,
    rows: Rows,
    growth: Float[Array, ""],
    share: Float[Array, ""],
    rate: Float[Array, ""],
) -> tuple[ConjugateParams, Float[Array, ""]]:
    """Equation (1).

    Args:
        model: the mixture.
        params: the posterior so far.
        prior: its hyperparameters.
        rows: the chunk, in the units of the posterior, with weights; those of weight 0 count nothing.
        growth: g.
        share: N / W.
        rate: rho, in (0, 1].

    Returns:
        The new posterior, or the old one where the new is not finite; and an estimate of the old one's bound
        of N rows, NaN where it could not be had.
    """
    old = _grown(model, params, prior, growth)
    batch = Batch(x=rows.x, weight=share * rows.weight)
    found = Natural().estimate(model, Conjugate(), old, prior, batch, jax.random.key(0))
    new = jax.tree.map(lambda p, g: p - rate * g, old, found.grads)
    # Standard forms are what rounding breaks first: a rate that is no longer positive definite.
    good = all_finite(new) & all_finite(Conjugate().posterior(model, new)) & jnp.isfinite(found.elbo)
    kept = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, params)
    return kept, jnp.where(good, found.elbo, jnp.nan)


@program(lambda *_: 0.0, static_argnames=("model",))
def grow(model: Mixture, params: ConjugateParams, prior: Prior, factor: Float[Array, ""]) -> ConjugateParams:
    """The posterior of `factor` times as many rows that say the same."""
    return _grown(model, params, prior, factor)


def _grown(
    model: Mixture, params: ConjugateParams, prior: Prior, factor: Float[Array, ""]
) -> ConjugateParams:
    """lambda_0 + factor (lambda - lambda_0)."""
    nothing = jnp.zeros_like(params.components.count)
    none = jax.tree.map(jnp.zeros_like, params.components)
    base = Conjugate().target(model, prior, params, nothing, none)
    grown: ConjugateParams = jax.tree.map(lambda p, b: b + factor * (p - b), params, base)
    return grown
