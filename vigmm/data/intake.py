"""What a fit reads before it begins: moments, held-out rows, and all other rows, or a sample of a stream."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from vigmm.core import rng
from vigmm.core.processes import ALONE, Group
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


def survey(
    source: Source,
    weight: Float[np.ndarray, " N"] | None,
    *,
    missing: bool,
    dtype: Any,
    group: Group = ALONE,
) -> Survey:
    """Read all rows once (twice with missing values) and keep their moments.

    Args:
        source: the rows, or this process's share of them.
        weight: sample weights of these rows.
        missing: whether NaN stands for a missing value.
        dtype: float type of the computation; see `Moments.typical`.
        group: processes that share the rows.
    """
    if missing:
        return Survey(*observed_moments(source, weight=weight, group=group))
    return Survey(compute_moments(source, weight=weight, group=group).typical(np.dtype(dtype)), None)


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
        weight: sample weights of this process's rows, of which `survey` has found some positive.
        layout: how rows come to lie on devices.
    """
    layout = layout or OneDevice()
    missing, standard = seen.patterns is not None, seen.standardizer
    mine = _Mine.of(len(source), layout.group)
    split, draw = rng.stream(key, "split"), rng.stream(key, "sample")
    if portion is not None:
        heavy = None if weight is None else check_weight(weight, len(source), source.name, group=None)
        kept = holdout_index(mine.total, holdout, most_held, split)
        index = _others(mine.total, kept, sample, draw)
        held, rows = _read(source, seen, dtype, heavy, kept, index, mine)
        stream = Stream(
            source, standard, np.dtype(dtype), portion, weight=heavy, without=mine.of_these(kept),
            missing=missing, layout=layout,
        )  # fmt: skip
        return Intake(stream, rows, index, held, mine.total)
    train, kept = holdout_split(mine.total, holdout, most_held, split)
    here = mine.of_these(train)
    chosen = here if len(here) < len(source) else None
    x, heavy = host_rows(source, standard, dtype, index=chosen, weight=weight, missing=missing)
    data = layout.place(x, heavy)
    held, _ = _read(source, seen, dtype, weight, kept, kept[:0], mine)
    if len(train) <= sample and isinstance(data, Rows):
        return Intake(data, data, train, held, mine.total)
    places = chosen_rows(len(train), min(sample, len(train)), draw)
    before = int(np.searchsorted(train, mine.first))
    local = places[(places >= before) & (places < before + len(here))] - before
    some = OneDevice().put(layout.group.joined(x[local]), layout.group.joined(heavy[local]))
    return Intake(data, some, train[places], held, mine.total)


@dataclasses.dataclass(frozen=True)
class _Mine:
    """Which of the rows of all processes are this one's.

    Args:
        first: number of the first.
        count: how many.
        total: rows of all processes.
        group: the processes.
    """

    first: int
    count: int
    total: int
    group: Group

    @staticmethod
    def of(count: int, group: Group) -> _Mine:
        counts = group.counts(count)
        return _Mine(sum(counts[: group.index]), count, sum(counts), group)

    def of_these(self, index: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
        """Those of some sorted row numbers that are here, by their numbers here."""
        low, high = np.searchsorted(index, [self.first, self.first + self.count])
        here: np.ndarray = index[low:high] - self.first
        return here


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
    mine: _Mine,
) -> tuple[Held, Rows]:
    """Held-out rows and others, of all processes and for all of them, in one pass over the files."""
    both = np.union1d(index, kept)
    here = mine.of_these(both)
    values = mine.group.joined(
        np.concatenate([source[:0], *(block for _, block in blocks(source, index=here))])
    )
    heavy = None if weight is None else mine.group.joined(_of(weight, here))

    def some(index: Int[np.ndarray, " n"]) -> tuple[Held, Rows]:
        at = np.searchsorted(both, index)
        raw, load = values[at], None if heavy is None else heavy[at]
        if len(index) == 0:
            rows = OneDevice().put(np.zeros((0, source.dim), dtype), np.zeros(0, dtype))
            return Held(raw, rows, load), rows
        named = ArraySource(raw, columns=source.columns, name=source.name)
        missing = seen.patterns is not None
        rows = to_rows(named, seen.standardizer, dtype, weight=load, missing=missing)
        return Held(raw, rows, load), rows

    return some(kept)[0], some(index)[1]


def _of(weight: Float[np.ndarray, " N"], index: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    chosen: np.ndarray = np.asarray(weight, np.float64)[index]
    return chosen
