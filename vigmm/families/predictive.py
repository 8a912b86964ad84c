"""Posterior predictive by Monte Carlo, for families that have no closed form."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vigmm.core.typing import PRNGKey
from vigmm.families.base import Family
from vigmm.models import Mixture

__all__ = ["from_draws"]


def from_draws(
    family: Family, model: Mixture, params: Any, x: Float[Array, "B D"], key: PRNGKey, *, num_draws: int
) -> Float[Array, "B K"]:
    """Log (1/S) sum_s pi_k^s N(x_b | component k of draw s), one draw in memory at a time."""
    dim = x.shape[-1]

    def add(total: Float[Array, "B K"], one: PRNGKey) -> tuple[Float[Array, "B K"], None]:
        u, _ = family.sample(model, params, one)
        return jnp.logaddexp(total, model.log_joint(model.constrain(u, dim), x)), None

    none = jnp.full((x.shape[0], model.num_components), -jnp.inf, x.dtype)
    total, _ = lax.scan(add, none, jax.random.split(key, num_draws))
    return total - math.log(num_draws)
