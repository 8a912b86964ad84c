"""Rows filled up to one of a few lengths, so that the folds of a cross-validation share compiled programs."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from vigmm.core.errors import DataError
from vigmm.data.protocol import Index, Rows2D, Source

__all__ = ["Padded", "padded_length"]

_LEAST = 256
# Lengths between two powers of two: at most an eighth of the rows is padding.
_STEPS = 8


def padded_length(rows: int) -> int:
    """The next of the lengths that rows are filled up to: 256, and eight between two powers of two.

    Example:
        >>> [padded_length(n) for n in (7, 256, 257, 800, 801, 100_000)]
        [256, 256, 288, 832, 832, 106496]
    """
    if rows <= _LEAST:
        return _LEAST
    step = (1 << ((rows - 1).bit_length() - 1)) // _STEPS
    return -(-rows // step) * step


class Padded:
    """A source whose last row is repeated, with weight 0, up to `padded_length`.

    Args:
        source: the rows.
        one_unit: whether all columns must be scaled alike; see `vigmm.data.moments.compute_moments`.

    Example:
        >>> from vigmm.data.arrays import ArraySource
        >>> some = Padded(ArraySource([[1.0], [2.0]]))
        >>> len(some), some[1:4].tolist(), float(some.weight(None).sum())
        (256, [[2.0], [2.0], [2.0]], 2.0)
    """

    def __init__(self, source: Source, *, one_unit: bool = False) -> None:
        self._source, self.one_unit = source, one_unit
        self.given = len(source)
        """Rows without the padding."""
        self._length = padded_length(self.given)
        self.name, self.dim, self.columns = source.name, source.dim, source.columns
        self.dtype: np.dtype[Any] = source.dtype

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Index) -> Rows2D:
        if isinstance(index, slice):
            if index.indices(self._length)[1] <= self.given and (index.step or 1) > 0:
                return self._source[slice(*index.indices(self._length))]
            index = np.arange(self._length)[index]
        return self._source[np.minimum(index, self.given - 1)]

    def fingerprint(self) -> str:
        """That of the rows themselves."""
        return self._source.fingerprint()

    def weight(self, sample_weight: Float[np.ndarray, " N"] | None) -> Float[np.ndarray, " M"]:
        """Weights of all rows: the user's, or ones, and then zeros."""
        heavy = np.zeros(self._length)
        heavy[: self.given] = 1.0 if sample_weight is None else sample_weight
        return heavy

    def labels(self, labels: Any) -> np.ndarray:
        """One label for each row, of whatever value where its weight is 0.

        Raises:
            DataError: if there is not one for each row that was given.
        """
        given = np.asarray(labels)
        if len(given) != self.given:
            raise DataError(
                f"init_params: there are {len(given)} labels for {self.given} rows; give one for each row, "
                "and -1 where there is none"
            )
        return np.concatenate([given, np.repeat(given[-1:], self._length - self.given)])
