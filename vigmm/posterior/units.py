"""From densities of standardised rows to densities in the units of the data."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vigmm.data.sampler import Rows

__all__ = ["log_volume"]


def log_volume(rows: Rows, scale: Float[np.ndarray, " D"]) -> float:
    """sum_n w_n sum_d log scale_d over the values that row n has: log p(x) = log p(z) - this."""
    weight, log_scale = np.asarray(rows.weight, np.float64), np.log(scale)
    missing = np.isnan(np.asarray(rows.x))
    whole = float(weight.sum() * log_scale.sum())
    return whole - float(weight @ (missing @ log_scale)) if missing.any() else whole
