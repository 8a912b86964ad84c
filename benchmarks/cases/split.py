"""Tables as cases: scaled, cut into training and held-out rows, and described."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.cases.base import CaseData
from benchmarks.protocol import Array

__all__ = ["from_table", "standardised"]


def standardised(x: Array) -> Array:
    """Columns with mean 0 and sd 1; a constant column becomes 0."""
    sd = x.std(0)
    scaled: Array = (x - x.mean(0)) / np.where(sd > 0, sd, 1.0)
    return scaled


def from_table(
    x: Array,
    facts: Mapping[str, Any],
    *,
    rows: int | None,
    share: float = 0.2,
    labels: Array | None = None,
) -> CaseData:
    """A case of a table, in an order of its own seed.

    Args:
        x: all rows, scaled.
        facts: `k_max`, `batch_size`, `source` and what else is to be told.
        rows: training rows, fewer than there are for a trial; None for all that are not held out.
        share: of the rows, held out.
        labels: of all rows.
    """
    order = np.random.default_rng(0).permutation(len(x))
    cut = int((1 - share) * len(x))
    train, held = order[:cut][: rows or cut], order[cut:]
    if rows is not None:
        held = held[: max(500, rows // 4)]
    known = {"rows": len(train), "dim": x.shape[1], "heldout": len(held)}
    return CaseData(
        x[train].astype(np.float32),
        x[held].astype(np.float32),
        {},
        {**facts, **known},
        None if labels is None else labels[held],
    )
