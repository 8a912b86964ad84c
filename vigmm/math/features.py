"""Natural features of rows: sufficient statistics of all components as one matrix product.

The log density of a Gaussian is linear in products of columns. With t(x) the features of a row and r the
responsibilities,

    log pi_k + log N_k(x) = c_k + eta_k . t(x)                                                          (1)
    L_s = sum_b w_b log sum_k exp(c_sk + eta_sk . t(x_b))                                               (2)
    dL_s / d eta_sk = sum_b w_b r_bsk t(x_b),    dL_s / d c_sk = sum_b w_b r_bsk                        (3)

so that the gradient (3) is the sufficient statistics, and a pass of coordinate ascent and a gradient are the
same sums, S draws side by side. Against rows centred for each component that is half the multiplications, and
nothing of size B x K x D.

The price is rounding: t is about the origin and not about each mean, so that large terms cancel where the
statistics become covariances. Who calls must have checked that this is harmless (`vigmm.models.passes`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vigmm.core.typing import Batch
from vigmm.math.linalg import einsum
from vigmm.math.rows import FEW_COLUMNS, softmax
from vigmm.math.tiles import LANES, tiled_sum

__all__ = ["Joint", "Kind", "features", "num_features", "sweep"]

Kind: TypeAlias = Literal["products", "squares", "square"]
"""Second-order features: x_i x_j for i <= j; x_i^2; or |x|^2 alone."""

# Products of more columns cost more to make than they save (on two CPU cores, 64 columns: 1.2 times as long).
_MANY = 600

Joint: TypeAlias = Callable[[Float[Array, "B D"], Float[Array, "B F"]], Float[Array, "S B K"]]
"""From rows and their features to log joint densities; a function may use either. Products of many columns
are not made (F = 0): there it has the rows."""


def num_features(kind: Kind, dim: int) -> int:
    """F: those of second order, the columns, and one.

    Example:
        >>> num_features("products", 3), num_features("squares", 3), num_features("square", 3)
        (10, 7, 5)
    """
    second = {"products": dim * (dim + 1) // 2, "squares": dim, "square": 1}[kind]
    return second + dim + 1


def features(kind: Kind, x: Float[Array, "B D"]) -> Float[Array, "B F"]:
    """Features of second order, the columns, and one, in this order."""
    few = x.shape[1] <= FEW_COLUMNS
    x, axis = (x, 1) if few else (x.T, 0)
    columns = jnp.split(x, x.shape[axis], axis=axis)
    if kind == "products":
        # Slices side by side: a gather of pairs is several times slower.
        second = [one * jnp.concatenate(columns[i:], axis=axis) for i, one in enumerate(columns)]
    elif kind == "squares":
        second = [x**2]
    else:
        second = [jnp.sum(x**2, axis=axis, keepdims=True)]
    made = jnp.concatenate([*second, x, jnp.ones_like(columns[0])], axis=axis)
    return made if few else made.T


def sweep(
    kind: Kind, joint: Joint, batch: Batch, tile: int, *, lanes: int = LANES
) -> tuple[Float[Array, " S"], Float[Array, "S K F"]]:
    """The sums (2) and (3) in one pass over the rows; not meant to be differentiated.

    Args:
        kind: which features.
        joint: gives equation (1).
        batch: weighted rows.
        tile: rows at a time.
        lanes: tiles that are worked on at a time.
    """
    many = kind == "products" and num_features(kind, batch.x.shape[1]) > _MANY

    def one(piece: Batch) -> tuple[Array, Array]:
        # Not left to the compiler to leave out: with 256 columns they take seconds to trace.
        t = piece.x[:, :0] if many else features(kind, piece.x)
        shares, log_norm = softmax(joint(piece.x, t), dim=piece.x.shape[1])
        value = jnp.sum(piece.weight[None] * log_norm, axis=-1)
        heavy = piece.weight[None, :, None] * shares
        return value, _products(heavy, piece.x) if many else einsum("sbk,bf->skf", heavy, t)

    found: tuple[Array, Array] = tiled_sum(one, batch, tile, lanes=lanes)
    return found


def _products(heavy: Float[Array, "S B K"], x: Float[Array, "B D"]) -> Float[Array, "S K F"]:
    """sum_b w_b r_bsk t(x_b) of the features "products", which are not made.

    Columns times shares are S K D numbers for a row, and their product with the rows has both halves of a
    symmetric matrix, but it is one product.
    """
    weighed = jnp.swapaxes(heavy, 1, 2)[:, :, None] * x.T[None, None]
    rows, columns = np.triu_indices(x.shape[1])
    second = einsum("skib,bj->skij", weighed, x)[:, :, rows, columns]
    first, count = einsum("sbk,bd->skd", heavy, x), jnp.sum(heavy, axis=1)
    return jnp.concatenate([second, first, count[..., None]], axis=-1)
