"""What a fit reads before it begins: moments, held-out rows, and all other rows, or a sample of a stream."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from vigmm.core import rng
from vigmm.data.arrays import ArraySource
from vigmm.data.device import chosen_rows, holdout_index, holdout_split, host_rows, to_rows
from vigmm.data.feed import Layout, OneDevice, TrainingData
from vigmm.data.missing import observed_moments
from vigmm.data.moments import Moments, Standardizer, compute_moments
from vigmm.data.protocol import Source, blocks, check_weight
from vigmm.data.sampler import Rows
from vigmm.data.stream import Stream

__all__ = ["Held", "Intake", "Survey", "survey", "take_in"]


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a pass over all rows tells before any of them is used.

    Args:
        moments: of all rows, held-out ones too; of what is typical where outliers rule.
        patterns: which columns are observed, once for every combination that occurs; None where none is
            missing.
    """

    moments: Moments
    patterns: Bool[np.ndarray, "M D"] | None

    @property
    def standardizer(self) -> Standardizer:
        """Centring and scaling."""
        return Standardizer.from_moments(self.moments)


@dataclasses.dataclass(frozen=True)
class Held:
    """Rows that are not trained on.

    Args:
        raw: in the user's units.
        rows: standardised, on the device.
        weight: their sample weights.
    """

    raw: Float[np.ndarray, "n D"]
    rows: Rows
    weight: Float[np.ndarray, " n"] | None


@dataclasses.dataclass(frozen=True)
class Intake:
    """The rows of a fit.

    Args:
        data: what is trained on: rows on the device, or a stream.
        sample: rows on one device that represent them: the same, or a uniform sample where there are many.
        index: which of the user's rows the sample is, sorted.
        held: rows that are held out.
        num_rows: number of the user's rows, held-out ones included.
    """

    data: TrainingData
    sample: Rows
    index: Int[np.ndarray, " n"]
    held: Held
    num_rows: int

    @property
    def train_rows(self) -> int:
        """Number of rows that are trained on."""
        return self.num_rows - len(self.held.raw)


def survey(source: Source, weight: Float[np.ndarray, " N"] | None, *, missing: bool, dtype: Any) -> Survey:
    """Read all rows once (twice with missing values) and keep their moments.

    Args:
        source: the rows.
        weight: sample weights.
        missing: whether NaN stands for a missing value.
        dtype: float type of the computation; see `Moments.typical`.
    """
    if missing:
        return Survey(*observed_moments(source, weight=weight))
    return Survey(compute_moments(source, weight=weight).typical(np.dtype(dtype)), None)


def take_in(
    source: Source,
    seen: Survey,
    *,
    dtype: Any,
    holdout: float,
    most_held: int,
    portion: int | None,
    sample: int,
    key: Key[Array, ""],
    weight: Float[np.ndarray, " N"] | None = None,
    layout: Layout | None = None,
) -> Intake:
    """Hold some rows out; put the others on the device, or make a stream of them.

    Args:
        source: N rows.
        seen: their moments.
        dtype: float type on the device.
        holdout: share of the rows to hold out.
        most_held: the most rows to hold out.
        portion: rows of a stream's portion; None where rows stay on the device.
        sample: rows of the sample, where there are more.
        key: chooses the rows that are held out, and the sample.
        weight: sample weights.
        layout: how rows come to lie on devices.
    """
    layout = layout or OneDevice()
    missing, standard = seen.patterns is not None, seen.standardizer
    split, draw = rng.stream(key, "split"), rng.stream(key, "sample")
    if portion is not None:
        heavy = None if weight is None else check_weight(weight, len(source), source.name)
        kept = holdout_index(len(source), holdout, most_held, split)
        index = _others(len(source), kept, sample, draw)
        held, rows = _read(source, seen, dtype, heavy, kept, index)
        stream = Stream(
            source, standard, np.dtype(dtype), portion, weight=heavy, without=kept, missing=missing,
            layout=layout,
        )  # fmt: skip
        return Intake(stream, rows, index, held, len(source))
    train, kept = holdout_split(len(source), holdout, most_held, split)
    chosen = train if len(kept) else None
    x, heavy = host_rows(source, standard, dtype, index=chosen, weight=weight, missing=missing)
    data = layout.place(x, heavy)
    others = to_rows(source, standard, dtype, index=kept, weight=weight, missing=missing)
    held = Held(np.asarray(source[kept]), others, _of(weight, kept))
    if len(train) <= sample and isinstance(data, Rows):
        return Intake(data, data, train, held, len(source))
    places = chosen_rows(len(train), min(sample, len(train)), draw)
    return Intake(data, OneDevice().put(x[places], heavy[places]), train[places], held, len(source))


def _others(
    count: int, kept: Int[np.ndarray, " held"], size: int, key: Key[Array, ""]
) -> Int[np.ndarray, " n"]:
    """Numbers of up to `size` of the rows that are not `kept`, drawn uniformly, sorted."""
    # As many more as might be held out, so that enough are left.
    drawn = chosen_rows(count, min(count, size + len(kept)), key)
    drawn = np.setdiff1d(drawn, kept, assume_unique=True)
    fewer = rng.on_host(rng.stream(key, "fewer")).permutation(len(drawn))[:size]
    return np.sort(drawn[fewer])


def _read(
    source: Source,
    seen: Survey,
    dtype: Any,
    weight: Float[np.ndarray, " N"] | None,
    kept: Int[np.ndarray, " held"],
    index: Int[np.ndarray, " n"],
) -> tuple[Held, Rows]:
    """Held-out rows and others, in one pass over the files."""
    both = np.union1d(index, kept)
    values = np.concatenate([source[:0], *(block for _, block in blocks(source, index=both))])

    def some(index: Int[np.ndarray, " n"]) -> tuple[Float[np.ndarray, "n D"], Rows]:
        raw = values[np.searchsorted(both, index)]
        if len(index) == 0:
            empty = np.zeros((0, source.dim), dtype)
            return raw, OneDevice().put(empty, np.zeros(0, dtype))
        named = ArraySource(raw, columns=source.columns, name=source.name)
        missing = seen.patterns is not None
        rows = to_rows(named, seen.standardizer, dtype, weight=_of(weight, index), missing=missing)
        return raw, rows

    raw, held = some(kept)
    return Held(raw, held, _of(weight, kept)), some(index)[1]


def _of(weight: Float[np.ndarray, " N"] | None, index: Int[np.ndarray, " n"]) -> np.ndarray | None:
    return None if weight is None else np.asarray(weight, np.float64)[index]
