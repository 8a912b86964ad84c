"""Standard normal noise for S draws: independent, in mirrored pairs, or spread evenly.

All three have exactly standard normal draws, so every estimator stays unbiased; they differ in how the
draws of one step depend on each other. Near the optimum mirrored pairs quiet the gradient of the location
only; evenly spread draws quiet the bound and the scales too.

References:
    Owen (1995) for randomised low-discrepancy points; Cranley and Patterson (1976) for the random shift;
    Buchholz, Wenzel and Mandt (2018), Quasi-Monte Carlo variational inference, ICML.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, Float

from vigmm.core.struct import require
from vigmm.core.typing import PRNGKey

__all__ = ["NOISES", "Noise", "check", "draw", "standard_error"]

Noise = Literal["iid", "antithetic", "qmc"]
NOISES: tuple[Noise, ...] = ("iid", "antithetic", "qmc")

# SciPy's direction numbers end there.
_SOBOL_DIMENSIONS = 21_201


def check(noise: Noise, num_samples: int) -> None:
    """Raise `SpecError` unless `noise` is known and can make so many draws."""
    require(noise in NOISES, "noise", " or ".join(map(repr, NOISES)), noise)
    even = noise != "antithetic" or num_samples % 2 == 0
    require(even, "num_samples", "even, for antithetic pairs", num_samples)
    binary = noise != "qmc" or (num_samples >= 2 and num_samples & (num_samples - 1) == 0)
    require(binary, "num_samples", "a power of two from 2 on, for quasi-Monte Carlo", num_samples)


def draw(noise: Noise, key: PRNGKey, num_samples: int, size: int, dtype: Any) -> Float[Array, "S M"]:
    """Noise for S draws of M numbers each."""
    if noise == "antithetic":
        half: Array = jax.random.normal(key, (num_samples // 2, size), dtype)
        return jnp.concatenate([half, -half])
    if noise == "qmc":
        shift = jax.random.uniform(key, (1, size), dtype)
        points = jnp.asarray(_sobol(num_samples, size), dtype) + shift
        # Open interval: the quantile of 0 is minus infinity.
        tiny = float(np.finfo(dtype).eps)
        normal: Array = ndtri(jnp.clip(points - jnp.floor(points), tiny, 1.0 - tiny))
        return normal
    plain: Array = jax.random.normal(key, (num_samples, size), dtype)
    return plain


@functools.lru_cache(maxsize=32)
def _sobol(num_samples: int, size: int) -> Float[np.ndarray, "S M"]:
    from scipy.stats import qmc

    few = f"'iid' or 'antithetic' for more than {_SOBOL_DIMENSIONS} coordinates"
    require(size <= _SOBOL_DIMENSIONS, "noise", few, f"qmc with {size}")
    points: np.ndarray = qmc.Sobol(size, scramble=False).random(num_samples)
    return points


def standard_error(noise: Noise, values: Float[Array, " S"]) -> Float[Array, ""]:
    """Monte-Carlo standard error of the mean of `values`; infinite where one draw says nothing of it.

    Antithetic pairs count as one value each. For quasi-Monte Carlo it is that of independent draws: an upper
    bound, as long as spreading the draws does not hurt.
    """
    if noise == "antithetic":
        half = values.shape[0] // 2
        values = 0.5 * (values[:half] + values[half:])
    count = values.shape[0]
    if count == 1:
        return jnp.full((), jnp.inf, values.dtype)
    error: Array = jnp.std(values, ddof=1) / count**0.5
    return error
