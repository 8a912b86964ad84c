"""One pass over the rows: how many each component has, where they lie, and which are worth a look.

Rows are read by blocks and never all held: memory is that of a block and of the grids.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vigmm.data.protocol import CHUNK, Source, evenly_spaced
from vigmm.posterior import Assignments
from vigmm.report.bins import Axis, Counts, axis_of
from vigmm.report.extremes import Best
from vigmm.report.run import FinishedRun
from vigmm.rundir.results import ASSIGNMENTS

__all__ = ["RowFacts", "scan"]

GRID, BINS = 96, 40
"""Bins along each side of a pairwise view, and of a column's histogram."""

TYPICAL, EDGE, WORTH_A_LOOK = 3, 2, 10
"""Rows of each component that are shown from its centre and its rim, and doubtful or unusual rows in all."""

SURE = 0.8
"""Rows whose component is less probable than this are doubtful."""

LEVELS = 20
"""Bins of the probabilities."""

_SAMPLE = 20_000


@dataclasses.dataclass(eq=False)
class RowFacts:
    """What the pass found. Components are in the model's order; behind them, if there is noise, the noise.

    Args:
        count: rows of each component.
        certainty: mean probability of the component, over its rows.
        doubtful: rows of each component that are doubtful.
        probability: rows in equal bins of the probability, from 0 to 1.
        histograms: counts of each column by its number.
        pairs: counts of pairs of columns, (along, up).
        typical: of each component, rows of the highest density.
        edge: of each component, rows of the lowest density.
        doubted: the least certain rows.
        unusual: rows of the lowest density of all.
    """

    count: Int[np.ndarray, " K"]
    certainty: Float[np.ndarray, " K"]
    doubtful: Int[np.ndarray, " K"]
    probability: Int[np.ndarray, " P"]
    histograms: dict[int, Counts]
    pairs: dict[tuple[int, int], Counts]
    typical: list[Best]
    edge: list[Best]
    doubted: Best
    unusual: Best


def scan(run: FinishedRun, *, histograms: Sequence[int], paired: Sequence[int]) -> RowFacts | None:
    """Read all rows once; None where they cannot be had.

    Args:
        run: the run.
        histograms: columns to count along.
        paired: columns to count in all pairs.
    """
    source = run.source
    if source is None:
        return None
    num = run.posterior.num_components + (run.posterior.model.noise is not None)
    sample = evenly_spaced(source, _SAMPLE)
    axes = {d: axis_of(sample[:, d], GRID) for d in paired}
    found = _empty(num, sample, axes, histograms)
    certain = np.zeros(num)
    # Where rows were skipped, the source knows the numbers of the others in the file.
    numbers: Callable[[int, int], Int[np.ndarray, " n"]] = getattr(source, "row_numbers", np.arange)
    for start, block, part in _assigned(run, source):
        rows = np.asarray(block, np.float64)
        # Noise is labelled -1 and counted last.
        which = np.where(part.component < 0, num - 1, part.component).astype(np.int64)
        probability = part.probability.astype(np.float64)
        found.count += np.bincount(which, minlength=num)
        certain += np.bincount(which, weights=probability, minlength=num)
        found.doubtful += np.bincount(which[probability < SURE], minlength=num)
        level = np.minimum((probability * LEVELS).astype(np.int64), LEVELS - 1)
        found.probability += np.bincount(level, minlength=LEVELS)
        _count(found, axes, rows, which)
        number = numbers(start, start + len(rows))
        _look(found, rows, which, probability, part.log_density.astype(np.float64), number)
    with np.errstate(invalid="ignore"):
        found.certainty = certain / found.count
    return found


def _empty(
    num: int, sample: Float[np.ndarray, "n D"], axes: dict[int, Axis], histograms: Sequence[int]
) -> RowFacts:
    dim = sample.shape[1]
    return RowFacts(
        count=np.zeros(num, np.int64),
        certainty=np.zeros(num),
        doubtful=np.zeros(num, np.int64),
        probability=np.zeros(LEVELS, np.int64),
        histograms={d: Counts(num, axis_of(sample[:, d], BINS)) for d in histograms},
        pairs={(a, b): Counts(num, axes[a], axes[b]) for a, b in itertools.combinations(axes, 2)},
        typical=[Best(TYPICAL, dim, extra=2) for _ in range(num)],
        edge=[Best(EDGE, dim, extra=2) for _ in range(num)],
        doubted=Best(WORTH_A_LOOK, dim, extra=2),
        unusual=Best(WORTH_A_LOOK, dim, extra=2),
    )


def _assigned(run: FinishedRun, source: Source) -> Iterator[tuple[int, Any, Assignments]]:
    """Blocks of rows with their assignments: those that the run wrote, or else the model's own."""
    path = run.path / ASSIGNMENTS
    if not path.is_file():
        for start, part in run.posterior.assign_blocks(source):
            yield start, source[start : start + len(part.component)], part
        return
    import pyarrow.parquet as pq

    names = ["component", "probability", "log_density"]
    with pq.ParquetFile(path) as file:
        start = 0
        for batch in file.iter_batches(CHUNK, columns=names):
            component, probability, log_density = (column.to_numpy() for column in batch.columns)
            part = Assignments(component=component, probability=probability, log_density=log_density)
            yield start, source[start : start + len(component)], part
            start += len(component)


def _count(
    found: RowFacts, axes: dict[int, Axis], rows: Float[np.ndarray, "n D"], which: Int[np.ndarray, " n"]
) -> None:
    for d, counts in found.histograms.items():
        counts.add(which, counts.x.index(rows[:, d]))
    index = {d: axes[d].index(rows[:, d]) for d in {d for pair in found.pairs for d in pair}}
    for (a, b), counts in found.pairs.items():
        counts.add(which, index[a], index[b])


def _look(
    found: RowFacts,
    rows: Float[np.ndarray, "n D"],
    which: Int[np.ndarray, " n"],
    probability: Float[np.ndarray, " n"],
    log_density: Float[np.ndarray, " n"],
    number: Int[np.ndarray, " n"],
) -> None:
    """Keep the rows worth a look: those of component k are ranked by log p(x, z = k)."""
    extra = np.stack([which.astype(np.float64), probability], axis=1)
    found.doubted.offer(number, -probability, rows, extra)
    found.unusual.offer(number, -log_density, rows, extra)
    joint = log_density + np.log(probability)
    order = np.argsort(which, kind="stable")
    edges = np.searchsorted(which[order], np.arange(len(found.count) + 1))
    for k in range(len(found.count)):
        mine = order[edges[k] : edges[k + 1]]
        found.typical[k].offer(number[mine], joint[mine], rows[mine], extra[mine])
        found.edge[k].offer(number[mine], -joint[mine], rows[mine], extra[mine])
