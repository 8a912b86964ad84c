"""Agreement of two partitions, in NumPy alone."""

from __future__ import annotations

import numpy as np

from benchmarks.protocol import Array

__all__ = ["adjusted_rand"]


def adjusted_rand(truth: Array, found: Array) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985): 1 for the same partition, 0 on average by chance.

    With n_ij rows in group i of one and j of the other, and pairs C(n) = n (n - 1) / 2,

        (sum_ij C(n_ij) - E) / ((sum_i C(n_i.) + sum_j C(n_.j)) / 2 - E),   E = sum_i C sum_j C / C(n).
    """
    rows = np.unique(truth, return_inverse=True)[1].ravel()
    columns = np.unique(found, return_inverse=True)[1].ravel()
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1.0)

    def pairs(counts: Array) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    together, first, second = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    chance = first * second / max(pairs(np.array([float(len(rows))])), 1.0)
    most = (first + second) / 2
    return 1.0 if most == chance else (together - chance) / (most - chance)
