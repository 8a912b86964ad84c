"""Running a piece of work in a chosen float type without touching JAX's global configuration."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import numpy as np

from vigmm.core.struct import require

__all__ = ["DTYPES", "double", "precision"]

DTYPES = ("float32", "float64")


def precision(dtype: str) -> contextlib.AbstractContextManager[object]:
    """A context in which `dtype` is available: 64-bit types are enabled inside it, and only there.

    Raises:
        SpecError: if `dtype` is neither float32 nor float64.
    """
    require(dtype in DTYPES, "dtype", "'float32' or 'float64'", dtype)
    if dtype == "float64" and jax.dtypes.canonicalize_dtype("float64") != "float64":
        context: contextlib.AbstractContextManager[object] = jax.enable_x64(True)
        return context
    return contextlib.nullcontext()


def double(tree: Any) -> Any:
    """A pytree in float64, by way of the host: on the device every shape would be a program to compile."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)
