"""Draws of the parameters with their log densities under the model and under q, over all rows, in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vigmm.core import rng
from vigmm.core.effort import pass_work, program
from vigmm.core.precision import double
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.sampler import Rows
from vigmm.estimators import Objective
from vigmm.families import Family
from vigmm.math.tiles import choose_tile, tiled_sum
from vigmm.models import Mixture, Position, Prior, passes
from vigmm.models.covariance import StructurePosition
from vigmm.posterior.draws import draw_work

__all__ = ["block_names", "ratios"]

# Draws that one compiled call weighs: enough to fill the matrix products, few enough to keep memory small.
_TOGETHER = 32
_USUAL_DRAWS = 1024


def ratios(
    objective: Objective,
    params: Any,
    prior: Prior,
    rows: Rows,
    key: PRNGKey,
    num_draws: int,
    *,
    centre: Position | None = None,
    block: tuple[str, int] | None = None,
) -> tuple[Position, Float[np.ndarray, " S"]]:
    """Draws with a leading axis, and their log p(X, u) - log q(u), in standardised units.

    With `block`, only that block is drawn and all others are held at `centre`: log ratios up to a constant.
    """
    name, number = block or (None, 0)
    model, family = objective.model, objective.family
    with jax.enable_x64(True):
        params, prior, centre = double((params, prior, centre))
        index = np.asarray(number, np.int32)
        found = []
        for first in range(0, num_draws, _TOGETHER):
            u, log_q = _draw(model, family, params, prior, _keys(key, first))
            u, log_ratio = _priced(model, family, params, prior, u, log_q, centre, index, block=name)
            found.append((u, log_ratio + _log_lik(model, prior, rows, u, centre, index, name)))
        drawn: tuple[Position, Any] = jax.tree.map(
            lambda *parts: np.concatenate([np.asarray(part) for part in parts])[:num_draws], *found
        )
    return drawn


def block_names(model: Mixture, dim: int) -> list[tuple[str, int]]:
    """The blocks of a position: the weights, every component, and what all components share."""
    weights, _, shared = model.sizes(dim)
    names = [("weights", 0)] if weights else []
    names += [("components", k) for k in range(model.num_components)]
    return names + ([("shared", 0)] if shared else [])


def _keys(key: PRNGKey, first: int) -> Array:
    keys: Array = jax.vmap(lambda i: rng.at_step(key, i))(first + jnp.arange(_TOGETHER, dtype=jnp.int32))
    return keys


# Apart from the passes over the rows: samplers are long programs that run for milliseconds.
@program(
    lambda model, family, params, prior, keys: draw_work(model, prior), static_argnames=("model", "family")
)
def _draw(model: Mixture, family: Family, params: Any, prior: Prior, keys: Array) -> tuple[Position, Array]:
    drawn: tuple[Position, Array] = jax.vmap(lambda key: family.sample(model, params, key))(keys)
    return drawn


@program(
    lambda model, family, params, prior, *_, **__: draw_work(model, prior),
    static_argnames=("model", "family", "block"),
)
def _priced(
    model: Mixture,
    family: Family,
    params: Any,
    prior: Prior,
    u: Position,
    log_q: Float[Array, " S"],
    centre: Position | None,
    index: Int[Array, ""],
    *,
    block: str | None,
) -> tuple[Position, Float[Array, " S"]]:
    """Positions and their log p(u) - log q(u).

    With `block` only that leaf (of components: only row `index`) is as drawn, and the rest is at `centre`.
    """
    if block is not None:
        assert centre is not None
        u = jax.vmap(lambda one: _only(one, centre, block, index))(u)
        # Up to the other blocks' density at the centre, which is the same for every draw.
        log_q = jax.vmap(lambda one: family.log_prob(model, params, one))(u)
    return u, jax.vmap(lambda one: model.log_prior(prior, one))(u) - log_q


def _only(u: Position, centre: Position, block: str, index: Int[Array, ""]) -> Position:
    leaves = {"weights": centre.weights, "components": centre.components, "shared": centre.shared}
    leaf = getattr(u, block)
    leaves[block] = leaves[block].at[index].set(leaf[index]) if block == "components" else leaf
    return Position(**leaves)


def _log_lik(
    model: Mixture,
    prior: Prior,
    rows: Rows,
    u: Position,
    centre: Position | None,
    index: Int[np.ndarray, ""],
    block: str | None,
) -> Float[Array, " S"]:
    """The log likelihood of all rows at each position, by the shortest way."""
    if centre is not None and block == "weights":
        return _of_weights(model, prior, rows, u, centre)
    # Where the means are in order, one of them moves those behind it.
    if centre is not None and block == "components" and not _ordered(model, centre):
        return _of_component(model, prior, rows, u, centre, index)
    return _of_all(model, prior, rows, u)


def _work(model: Mixture, prior: Prior, rows: Rows, *_: Any) -> float:
    """Operations of a diagnosis: every draw is weighed with all rows."""
    return _USUAL_DRAWS * pass_work(rows.x.shape, model.num_components)


def _ordered(model: Mixture, u: Position) -> bool:
    return model.prior.rank(StructurePosition(components=u.components, shared=u.shared)) is not None


@program(_work, static_argnames=("model",))
def _of_all(model: Mixture, prior: Prior, rows: Rows, u: Position) -> Float[Array, " S"]:
    theta = jax.vmap(lambda one: model.constrain(prior, one))(u)
    return passes.log_lik(model, theta, _batch(rows))


@program(_work, static_argnames=("model",))
def _of_weights(
    model: Mixture, prior: Prior, rows: Rows, u: Position, centre: Position
) -> Float[Array, " S"]:
    """Positions that differ in their weights only: the densities of the components are computed once."""
    held = model.constrain(prior, centre)
    theta = jax.vmap(lambda one: model.constrain(prior, one))(u)

    def piece(batch: Batch) -> Float[Array, " S"]:
        log_components = model.log_components(held, batch.x)

        def one(log_weights: Array, log_noise: Array) -> Array:
            noise = jnp.broadcast_to(log_noise[None], (batch.x.shape[0], log_noise.shape[0]))
            joint = jnp.concatenate([log_weights[None] + log_components, noise], axis=-1)
            return jnp.sum(batch.weight * jax.nn.logsumexp(joint, axis=-1))

        summed: Array = jax.vmap(one)(theta.log_weights, theta.log_noise)
        return summed

    return _over_rows(piece, rows, model.num_components * (_TOGETHER + rows.x.shape[1]))


@program(_work, static_argnames=("model",))
def _of_component(
    model: Mixture, prior: Prior, rows: Rows, u: Position, centre: Position, index: Int[Array, ""]
) -> Float[Array, " S"]:
    """Positions that differ in one component only: what the others make of a row is computed once."""
    held = model.constrain(prior, centre)
    log_weight = held.log_weights[index]

    def alone(one: Position) -> Any:
        row = one.components[index][None]
        return model.constrain(prior, Position(weights=one.weights, components=row, shared=one.shared))

    theta = jax.vmap(alone)(u)

    def piece(batch: Batch) -> Float[Array, " S"]:
        joint = model.log_joint(held, batch.x)
        rest = jnp.where(jnp.arange(joint.shape[1], dtype=index.dtype) == index, -jnp.inf, joint)
        others = jax.nn.logsumexp(rest, axis=-1)

        def one(theta: Any) -> Array:
            mine = log_weight + model.log_components(theta, batch.x)[:, 0]
            return jnp.sum(batch.weight * jnp.logaddexp(others, mine))

        summed: Array = jax.vmap(one)(theta)
        return summed

    return _over_rows(piece, rows, (_TOGETHER + model.num_components) * rows.x.shape[1])


def _over_rows(piece: Any, rows: Rows, width: int) -> Float[Array, " S"]:
    batch = _batch(rows)
    summed: Array = tiled_sum(piece, batch, choose_tile(batch.x, width))
    return summed


def _batch(rows: Rows) -> Batch:
    return Batch(x=rows.x.astype(jnp.float64), weight=rows.weight.astype(jnp.float64))
