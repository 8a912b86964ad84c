"""What is done to every row under every component: shares, and weighted moments about many centres.

    first_k = sum_b w_bk (x_b - c_k),     second_k = sum_b w_bk (x_b - c_k)(x_b - c_k)^T                (1)

Rows are centred before they are squared, for each component anew: expanding the square about a common point
would be one matrix product, but loses eps |c_k - c|^2 / sd_k^2 of every variance.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vigmm.math.linalg import einsum

__all__ = ["FEW_COLUMNS", "largest", "scatter", "softmax"]

FEW_COLUMNS = 4
"""Up to so many columns arrays are laid out with the components last, and products are summed one by one:
matrix products this small are mostly overhead (on two CPU cores 0.2 against 2.5 ms for the moments of 2,048
rows, 200 components and 2 columns). Beyond, the rows come last, so that what is done to components runs along
them: a pass with 16 columns and 20 components takes half as long, one with 2 columns would take four times.
"""


def scatter(
    x: Float[Array, "B D"], weight: Float[Array, "B K"], centre: Float[Array, "K D"]
) -> tuple[Float[Array, "K D"], Float[Array, "K D D"]]:
    """The two sums of equation (1)."""
    dim = x.shape[1]
    if dim > FEW_COLUMNS:
        shifted = x[None] - centre[:, None, :]
        scaled = weight.T[:, :, None] * shifted
        return jnp.sum(scaled, axis=1), einsum("kbi,kbj->kij", scaled, shifted)
    columns = [x[:, d][:, None] - centre[:, d][None] for d in range(dim)]
    heavy = [weight * column for column in columns]
    first = jnp.stack([jnp.sum(column, axis=0) for column in heavy], axis=-1)
    lower = {(i, j): jnp.sum(heavy[i] * columns[j], axis=0) for i in range(dim) for j in range(i + 1)}
    entries = [[lower[max(i, j), min(i, j)] for j in range(dim)] for i in range(dim)]
    return first, jnp.stack([jnp.stack(row, axis=-1) for row in entries], axis=-2)


def softmax(
    log_joint: Float[Array, "*S B K"], *, dim: int
) -> tuple[Float[Array, "*S B K"], Float[Array, "*S B"]]:
    """Shares of each row, and the log of their normaliser, with one exponential for both.

    A row must have an entry above -inf. Neither is meant to be differentiated.

    Args:
        log_joint: log joint densities.
        dim: D, the columns that they were made of; decides the layout.
    """
    few = dim <= FEW_COLUMNS
    joint = log_joint if few else jnp.swapaxes(log_joint, -1, -2)
    axis = -1 if few else -2
    top = jnp.max(joint, axis=axis, keepdims=True)
    mass = jnp.exp(joint - top)
    total = jnp.sum(mass, axis=axis, keepdims=True)
    shares = mass / total
    return shares if few else jnp.swapaxes(shares, -1, -2), jnp.squeeze(top + jnp.log(total), axis)


def largest(values: Float[Array, "B K"]) -> Int[Array, " B"]:
    """`jnp.argmax` of each row, as two reductions: XLA's takes 20 times as long as a maximum on a CPU.

    The first where several are largest; the last where one is not a number.
    """
    num = values.shape[-1]
    index = jnp.arange(num, dtype=jnp.int32)[None]
    top = jnp.max(values, axis=-1, keepdims=True)
    first: Array = jnp.min(jnp.where(values >= top, index, num - 1), axis=-1)
    return first
