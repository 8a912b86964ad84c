"""Splits and births: every component is cut in two, and coordinate ascent decides what comes of it.

The cut is a hyperplane d . (x - m) > t of component (m, C), aimed in one of two ways:

- *axis*: through the mean, across a random direction that C was applied to a few times: a component that
  covers two clusters is mostly long.
- *birth*: half-way between the mean and a row that it explains badly, drawn with probability proportional to
  its responsibility times its squared Mahalanobis distance: a small cluster far out, or one that lies off the
  long axis.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from vigmm.core.effort import program
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.sampler import Rows
from vigmm.math.linalg import cholesky, einsum, tril_inverse
from vigmm.models import Mixture, Prior
from vigmm.train.moves.mixture import (
    MOVES,
    Slots,
    assemble,
    read,
    responsibilities,
    row_sum,
    search_work,
    tile_of,
)

__all__ = ["WAYS", "split"]

WAYS = ("axis", "birth")

_POWER_STEPS = 20


@program(search_work(2 * MOVES), static_argnames=("model",))
def split(model: Mixture, prior: Prior, slots: Slots, rows: Rows, key: PRNGKey, way: Int[Array, ""]) -> Slots:
    """Every component in two; at most half of the slots may be in use.

    Args:
        model: the mixture of S slots, S even.
        prior: its hyperparameters.
        slots: the posterior that is cut.
        rows: the data.
        key: draws directions and rows.
        way: index into `WAYS`.
    """
    posterior, theta = read(model, slots)
    half = model.num_components // 2
    dim = rows.x.shape[1]
    loc, covs = model.structure.moments(model.algebra.gaussian_fit(posterior.components)[0], dim)
    loc, root = loc[:half], cholesky(covs[:half])
    whitener = tril_inverse(root)
    noise = jax.random.normal(key, (half, dim), rows.x.dtype)

    def whiten(x: Float[Array, "B D"]) -> Float[Array, "B H D"]:
        return einsum("bhj,hij->bhi", x[:, None, :] - loc[None], whitener)

    def resp(piece: Batch) -> Float[Array, "B H"]:
        return piece.weight[:, None] * responsibilities(model, theta, piece.x)[0][:, :half]

    def axis() -> tuple[Array, Array]:
        def body(_: int, d: Float[Array, "H D"]) -> Float[Array, "H D"]:
            return _unit(einsum("hij,hj->hi", covs[:half], d))

        d = lax.fori_loop(0, _POWER_STEPS, body, _unit(noise))
        return d, jnp.zeros((half,), d.dtype)

    def birth() -> tuple[Array, Array]:
        def one(piece: Batch, key: PRNGKey) -> tuple[Array, Array]:
            z = whiten(piece.x)
            score = jnp.log(resp(piece)) + jnp.log(jnp.sum(z**2, axis=-1))
            # The largest of the scores plus Gumbel noise is a draw proportional to their exponentials.
            score = score + jax.random.gumbel(key, score.shape, score.dtype)
            best = jnp.argmax(score, axis=0)
            return jnp.take_along_axis(score, best[None], axis=0)[0], piece.x[best]

        batch = Batch(x=rows.x, weight=rows.weight)
        far = _best_rows(one, batch, tile_of(model, rows), key)
        d = einsum("hji,hjk,hk->hi", whitener, whitener, far - loc)
        return d, 0.5 * jnp.sum(d * (far - loc), axis=-1)

    direction, level = lax.switch(way, (axis, birth))
    centre = jnp.concatenate([loc, loc])
    edge = einsum("hd,hd->h", loc, direction) + level

    def one(piece: Batch) -> Any:
        r = resp(piece)
        above = einsum("bd,hd->bh", piece.x, direction) > edge[None]
        both = jnp.concatenate([jnp.where(above, 0.0, r), jnp.where(above, r, 0.0)], axis=-1)
        return model.algebra.stats(piece.x, both, centre)

    return assemble(model, prior, slots.before, row_sum(one, model, rows), centre)


def _unit(d: Float[Array, "H D"]) -> Float[Array, "H D"]:
    return d / jnp.maximum(jnp.linalg.norm(d, axis=-1, keepdims=True), 1e-30)


def _best_rows(score: Any, batch: Batch, tile: int, key: PRNGKey) -> Float[Array, "H D"]:
    """For each component the row with the largest score, tile by tile."""
    rows = batch.x.shape[0]
    tile = min(tile, rows)
    count = -(-rows // tile)
    # The last tile overlaps the one before it: rows that are seen twice are drawn a little more often.
    starts = jnp.minimum(jnp.arange(count) * tile, rows - tile)

    def body(best: tuple[Array, Array], start: Array) -> tuple[tuple[Array, Array], None]:
        piece = Batch(
            x=lax.dynamic_slice_in_dim(batch.x, start, tile),
            weight=lax.dynamic_slice_in_dim(batch.weight, start, tile),
        )
        value, x = score(piece, jax.random.fold_in(key, start))
        better = value > best[0]
        return (jnp.where(better, value, best[0]), jnp.where(better[:, None], x, best[1])), None

    first = Batch(x=batch.x[:tile], weight=batch.weight[:tile])
    shapes = jax.eval_shape(score, first, key)
    lowest = jnp.full(shapes[0].shape, -jnp.inf, shapes[0].dtype)
    (_, x), _ = lax.scan(body, (lowest, jnp.zeros(shapes[1].shape, shapes[1].dtype)), starts)
    return x
