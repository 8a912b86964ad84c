"""What families that draw from noise share: their draws, and predictives without a closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vigmm.core.typing import PRNGKey
from vigmm.families.base import Family, Reparameterised
from vigmm.models import Mixture, Position, Prior

__all__ = ["averaged", "log_predictive", "sample", "size"]


def size(loc: Any) -> int:
    """How many coordinates a position has."""
    return sum(leaf.size for leaf in jax.tree.leaves(loc))


def sample(
    family: Reparameterised, model: Mixture, params: Any, key: PRNGKey
) -> tuple[Position, Float[Array, ""]]:
    """One draw and its log q, from standard normal noise."""
    # One call for all leaves: every call to the generator costs a second of compilation.
    dtype = jax.tree.leaves(params.loc)[0].dtype
    return family.push(model, params, jax.random.normal(key, (family.noise_size(model, params),), dtype))


def log_predictive(
    family: Family,
    model: Mixture,
    params: Any,
    prior: Prior,
    x: Float[Array, "B D"],
    key: PRNGKey,
    *,
    num_draws: int,
) -> Float[Array, "B KZ"]:
    """Log (1/S) sum_s pi_k^s p(x_b | component k of draw s), one draw in memory at a time."""

    def joint(one: PRNGKey) -> Float[Array, "B KZ"]:
        u, _ = family.sample(model, params, one)
        return model.log_joint(model.constrain(prior, u), x)

    return averaged(joint, jax.random.split(key, num_draws))


def averaged(joint: Callable[[Any], Float[Array, "B KZ"]], each: Any) -> Float[Array, "B KZ"]:
    """Log of the mean of exp(joint) over the leading axis of `each`, one at a time."""

    def add(total: Float[Array, "B KZ"], one: Any) -> tuple[Float[Array, "B KZ"], None]:
        return jnp.logaddexp(total, joint(one)), None

    shape = jax.eval_shape(lambda each: joint(jax.tree.map(lambda leaf: leaf[0], each)), each)
    none = jnp.full(shape.shape, -jnp.inf, shape.dtype)
    total, _ = lax.scan(add, none, each)
    return total - math.log(jax.tree.leaves(each)[0].shape[0])
