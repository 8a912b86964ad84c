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
from vigmm.estimators.sampling import log_densities
from vigmm.families import Family
from vigmm.models import Mixture, Position, Prior

__all__ = ["block_names", "ratios"]

# Draws that one compiled call weighs: enough to fill the matrix products, few enough to keep memory small.
_TOGETHER = 16
_USUAL_DRAWS = 1024


def _work(model: Mixture, family: Family, params: Any, prior: Prior, rows: Rows, *_: Any, **__: Any) -> float:
    """Operations of a diagnosis: every draw is weighed with all rows."""
    return _USUAL_DRAWS * pass_work(rows.x.shape, model.num_components)


@program(_work, static_argnames=("model", "family", "block"))
def _weigh(
    model: Mixture,
    family: Family,
    params: Any,
    prior: Prior,
    rows: Rows,
    keys: Array,
    centre: Position | None,
    index: Int[Array, ""],
    *,
    block: str | None,
) -> tuple[Position, Array]:
    """Positions and their log p(X, u) - log q(u).

    With `block` only that leaf (of components: only row `index`) is drawn, and the rest is at `centre`.
    """
    batch = Batch(x=rows.x.astype(jnp.float64), weight=rows.weight.astype(jnp.float64))
    u, log_q = jax.vmap(lambda key: family.sample(model, params, key))(keys)
    if block is not None:
        assert centre is not None
        u = jax.vmap(lambda one: _only(one, centre, block, index))(u)
        # Up to the other blocks' density at the centre, which is the same for every draw.
        log_q = jax.vmap(lambda one: family.log_prob(model, params, one))(u)
    found = log_densities(model, u, log_q, prior, batch, None)
    return u, found.log_ratio


def _only(u: Position, centre: Position, block: str, index: Int[Array, ""]) -> Position:
    leaves = {"weights": centre.weights, "components": centre.components, "shared": centre.shared}
    leaf = getattr(u, block)
    leaves[block] = leaves[block].at[index].set(leaf[index]) if block == "components" else leaf
    return Position(**leaves)


def _keys(key: PRNGKey, first: int) -> Array:
    keys: Array = jax.vmap(lambda i: rng.at_step(key, i))(first + jnp.arange(_TOGETHER, dtype=jnp.int32))
    return keys


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
    with jax.enable_x64(True):
        params, prior, centre = double((params, prior, centre))
        index = np.asarray(number, np.int32)
        model, family = objective.model, objective.family
        found = [
            _weigh(model, family, params, prior, rows, _keys(key, first), centre, index, block=name)
            for first in range(0, num_draws, _TOGETHER)
        ]
        drawn: tuple[Position, Any] = jax.tree.map(
            lambda *parts: np.concatenate([np.asarray(part) for part in parts]), *found
        )
    return drawn


def block_names(model: Mixture, dim: int) -> list[tuple[str, int]]:
    """The blocks of a position: the weights, every component, and what all components share."""
    weights, _, shared = model.sizes(dim)
    names = [("weights", 0)] if weights else []
    names += [("components", k) for k in range(model.num_components)]
    return names + ([("shared", 0)] if shared else [])
