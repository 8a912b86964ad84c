"""From densities of standardised rows to densities in the units of the data."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vigmm.data.feed import TrainingData

__all__ = ["log_volume"]


def log_volume(rows: TrainingData, scale: Float[np.ndarray, " D"]) -> float:
    """sum_n w_n sum_d log scale_d over the values that row n has: log p(x) = log p(z) - this."""
    log_scale, total = np.log(scale), 0.0
    for piece in rows.pieces():
        weight, missing = np.asarray(piece.weight, np.float64), np.isnan(np.asarray(piece.x))
        total += float(weight.sum() * log_scale.sum())
        total -= float(weight @ (missing @ log_scale)) if missing.any() else 0.0
    return float(rows.group.total(np.array(total)))
