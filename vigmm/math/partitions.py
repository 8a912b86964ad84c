"""Comparing partitions of the same rows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

__all__ = ["adjusted_rand"]


def adjusted_rand(one: Int[np.ndarray, " N"], two: Int[np.ndarray, " N"]) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985): 1 for the same partition, about 0 for unrelated ones."""
    _, one = np.unique(one, return_inverse=True)
    _, two = np.unique(two, return_inverse=True)
    table = np.zeros((one.max() + 1, two.max() + 1))
    np.add.at(table, (one, two), 1)

    def pairs(counts: Float[np.ndarray, "*any"]) -> float:
        return float(np.sum(counts * (counts - 1)) / 2)

    together, rows, columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    expected = rows * columns / max(len(one) * (len(one) - 1) / 2, 1.0)
    largest = 0.5 * (rows + columns)
    return 1.0 if largest == expected else (together - expected) / (largest - expected)
