"""From responsibilities of rows to a conjugate posterior, in two passes over the rows, tile by tile.

    n_k = sum_b w_b r_bk,   c_k = sum_b w_b r_bk x_b / n_k,   lambda = lambda_0 + sum_b w_b r_bk s_k(x_b),

the statistics s_k about the centre c_k that the first pass found. A group without rows is empty: its additive
parameters are the prior's, about the prior's own mean, so exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vigmm.core.effort import pass_work, program
from vigmm.core.typing import Batch
from vigmm.families import Conjugate, ConjugateParams
from vigmm.math.linalg import einsum
from vigmm.math.rows import softmax
from vigmm.math.tiles import choose_tile, tiled_sum
from vigmm.models import Mixture, Prior, sticks

__all__ = ["Assign", "expected_responsibilities", "posterior_from", "posterior_of_labels", "with_columns"]

Assign: TypeAlias = Callable[[Float[Array, "B E"]], Float[Array, "B K"]]
"""From rows, with whatever columns the caller put behind theirs, to responsibilities."""


def posterior_from(
    model: Mixture, prior: Prior, rows: Batch, dim: int, assign: Assign
) -> tuple[ConjugateParams, Int[Array, " K"]]:
    """The conjugate posterior of rows that `assign` divides among K groups, in order of size.

    Args:
        model: the mixture, with K components.
        prior: its hyperparameters.
        rows: weighted rows; columns beyond the first `dim` are for `assign` alone.
        dim: D.
        assign: gives the responsibilities of a tile of rows.

    Returns:
        The posterior, and which of the groups each of its components is.
    """
    num = model.num_components
    tile = choose_tile(rows.x, num * dim)

    def sums(piece: Batch) -> tuple[Array, Array]:
        resp = piece.weight[:, None] * assign(piece.x)
        return jnp.sum(resp, axis=0), einsum("bk,bd->kd", resp, piece.x[:, :dim])

    counts, first = tiled_sum(sums, rows, tile)
    # Sorted here and not afterwards: structures that share a matrix have nothing to sort in it.
    order = jnp.argsort(-counts)
    counts, first = counts[order], first[order]
    held = counts > 0
    mean = first / jnp.where(held, counts, 1.0)[:, None]
    centre = jnp.where(held[:, None], mean, prior.components.loc)

    def stats(piece: Batch) -> Any:
        resp = piece.weight[:, None] * assign(piece.x)[:, order]
        return model.algebra.stats(piece.x[:, :dim], resp, centre)

    weights = sticks.update(prior.weights, jnp.zeros((num,), counts.dtype))
    empty = ConjugateParams(weights=weights, components=model.algebra.natural(prior.components, centre))
    return Conjugate().target(model, prior, empty, counts, tiled_sum(stats, rows, tile)), order


# Two passes over the rows.
@program(
    lambda model, prior, rows, *_: 2.0 * pass_work(rows.x.shape, model.num_components),
    static_argnames=("model",),
)
def posterior_of_labels(
    model: Mixture, prior: Prior, rows: Batch, labels: Int[Array, " B"], keep: Float[Array, " B"]
) -> tuple[ConjugateParams, Int[Array, " K"]]:
    """The conjugate posterior of a partition, and which group each component is.

    Args:
        model: the mixture.
        prior: its hyperparameters.
        rows: weighted rows.
        labels: the group of each row, below K; exact as floats up to 2^24.
        keep: 1 for rows that count, 0 for those that have no label.
    """

    def assign(x: Float[Array, "B E"]) -> Float[Array, "B K"]:
        hot: Array = jax.nn.one_hot(x[:, -1].astype(jnp.int32), model.num_components, dtype=x.dtype)
        return hot

    labelled = with_columns(Batch(x=rows.x, weight=rows.weight * keep), labels)
    return posterior_from(model, prior, labelled, rows.x.shape[1], assign)


def expected_responsibilities(model: Mixture, params: ConjugateParams) -> Assign:
    """r_bk proportional to exp(E[log pi_k] + E[log N_k(x_b)]): where coordinate ascent divides the rows."""
    family = Conjugate()
    theta = family.expected(model, family.posterior(model, params))

    def assign(x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        return softmax(model.log_joint(theta, x), dim=x.shape[1])[0]

    return assign


def with_columns(rows: Batch, labels: Int[Array, " B"]) -> Batch:
    """Rows with their labels as one more column, so that both are tiled together; exact up to 2^24."""
    return Batch(
        x=jnp.concatenate([rows.x, labels[:, None].astype(rows.x.dtype)], axis=1), weight=rows.weight
    )
