"""Counts of rows on grids, for each component, and how they travel in a page.

Counts are exact: every row is in a bin of a grid or among those outside its frame. They are embedded as
compressed bytes and not as an image, because a page could only colour an image anew by reading it back from a
canvas, which browsers that guard against fingerprints answer with noise.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import zlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Axis", "Counts", "axis_of", "pack", "unpack"]

_FINE = 2_000
_TAIL, _PAD = 0.001, 0.03


@dataclasses.dataclass(frozen=True)
class Axis:
    """Equal bins from `low` on.

    Args:
        low: lower edge of the first bin.
        width: of a bin.
        count: how many bins.
    """

    low: float
    width: float
    count: int

    @property
    def high(self) -> float:
        """Upper edge of the last bin."""
        return self.low + self.width * self.count

    def index(self, x: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
        """The bin of each value; -1 outside the axis and for NaN."""
        with np.errstate(invalid="ignore", over="ignore"):
            place = np.floor((x - self.low) / self.width)
            inside = (place >= 0) & (place < self.count)
        return np.where(inside, place, -1).astype(np.int64)


def axis_of(values: Float[np.ndarray, " N"], most: int) -> Axis:
    """An axis of at most `most` bins that holds all but the outermost per mille of the values, and a margin.

    Where values lie on a lattice (integers, tenths) every bin holds equally many points of it: otherwise
    full and half-full bins alternate, and show a pattern that is not in the data.
    """
    values = np.sort(values[np.isfinite(values)])
    if len(values) == 0:
        return Axis(-0.5, 1.0, 1)
    cut = math.floor(_TAIL * len(values)) if len(values) > _FINE else 0
    low, high = float(values[cut]), float(values[len(values) - 1 - cut])
    step = _lattice(values)
    if step is not None:
        points = round((high - low) / step) + 1
        join = -(-points // most)
        while (count := -(-points // join) + 2 * math.ceil(_PAD * points / join)) > most and join < points:
            join += 1
        return Axis(low - step / 2 - math.ceil(_PAD * points / join) * step * join, step * join, count)
    if not high > low:
        width = max(abs(low) * 1e-3, 1e-9)
        return Axis(low - width / 2, width, 1)
    pad = _PAD * (high - low)
    return Axis(low - pad, (high - low + 2 * pad) / most, most)


def _lattice(values: Float[np.ndarray, " N"]) -> float | None:
    """The distance of which all differences of sorted values are multiples, if there is one to be seen."""
    points = np.unique(values)
    if not 2 <= len(points) <= min(_FINE, len(values) // 2):
        return None
    gaps = np.diff(points)
    # Decimal fractions are not exact: gaps that differ by rounding only are one gap.
    gaps = gaps[gaps > 1e-9 * (points[-1] - points[0])]
    step = float(gaps.min())
    multiples = gaps / step
    return step if np.all(np.abs(multiples - np.round(multiples)) < 1e-3) else None


class Counts:
    """Rows of each component in the bins of one or two axes.

    Args:
        num: how many components.
        x: the axis along.
        y: the axis up, for a grid.
    """

    def __init__(self, num: int, x: Axis, y: Axis | None = None) -> None:
        self.x, self.y = x, y
        self.shape = (num, x.count) if y is None else (num, y.count, x.count)
        self.inside = np.zeros(self.shape, np.int64)
        self.outside = np.zeros(num, np.int64)

    def add(
        self,
        component: Int[np.ndarray, " N"],
        x: Int[np.ndarray, " N"],
        y: Int[np.ndarray, " N"] | None = None,
    ) -> None:
        """Count rows by their component and the bins from `Axis.index`."""
        num = self.shape[0]
        place = (
            component * self.x.count + x if y is None else (component * self.shape[1] + y) * self.x.count + x
        )
        held = x >= 0 if y is None else (x >= 0) & (y >= 0)
        size = math.prod(self.shape)
        self.inside += np.bincount(place[held], minlength=size).reshape(self.shape)
        self.outside += np.bincount(component[~held], minlength=num)

    def to_dict(self) -> dict[str, Any]:
        """What the page needs."""
        return {"outside": self.outside, "shape": list(self.shape), **pack(self.inside)}


def pack(counts: Int[np.ndarray, "*shape"]) -> dict[str, Any]:
    """Counts as base64 of compressed bytes: all lowest bytes, then all second ones, and so on."""
    top = int(counts.max(initial=0))
    planes = max(1, -(-top.bit_length() // 8))
    raw = b"".join((counts >> (8 * p) & 255).astype(np.uint8).tobytes() for p in range(planes))
    return {"planes": planes, "bytes": base64.b64encode(zlib.compress(raw, 9)).decode("ascii")}


def unpack(packed: dict[str, Any]) -> Int[np.ndarray, "*shape"]:
    """What `pack` was given, from what `Counts.to_dict` says."""
    raw = np.frombuffer(zlib.decompress(base64.b64decode(packed["bytes"])), np.uint8)
    planes = raw.reshape(packed["planes"], *packed["shape"]).astype(np.int64)
    return np.asarray(sum(plane << (8 * p) for p, plane in enumerate(planes)))
