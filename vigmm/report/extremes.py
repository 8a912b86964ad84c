"""The rows with the highest scores in a stream of rows, no two alike."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Best"]

# Of a block only so many are looked at closely for each that is kept: enough where a value is often repeated.
_LOOK = 64


class Best:
    """Keeps the best rows of all that are offered, with their numbers and whatever else is known of them.

    Args:
        size: how many.
        dim: columns of a row.
        extra: further values that are kept with a row.
    """

    def __init__(self, size: int, dim: int, extra: int = 0) -> None:
        self.size, self.dim = size, dim
        self.number: Int[np.ndarray, " n"] = np.empty(0, np.int64)
        self.score: Float[np.ndarray, " n"] = np.empty(0)
        self.rows: Float[np.ndarray, "n D"] = np.empty((0, dim))
        self.extra: Float[np.ndarray, "n E"] = np.empty((0, extra))

    def offer(
        self,
        number: Int[np.ndarray, " n"],
        score: Float[np.ndarray, " n"],
        rows: Float[np.ndarray, "n D"],
        extra: Float[np.ndarray, "n E"],
    ) -> None:
        """Offer rows. Of rows with equal values the first of the highest score stays."""
        if len(score) == 0 or (len(self.score) == self.size and not score.max() > self.score[-1]):
            return
        many = _LOOK * self.size
        if len(score) > many:
            near = np.argpartition(-score, many)[:many]
            number, score, rows, extra = number[near], score[near], rows[near], extra[near]
        number = np.concatenate([self.number, number])
        score = np.concatenate([self.score, score])
        rows = np.concatenate([self.rows, rows])
        extra = np.concatenate([self.extra, extra])
        order = np.lexsort((number, -score))
        _, first = np.unique(rows[order], axis=0, return_index=True)
        kept = order[np.sort(first)[: self.size]]
        self.number, self.score, self.rows, self.extra = number[kept], score[kept], rows[kept], extra[kept]
