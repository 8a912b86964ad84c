"""From a run folder to one HTML file."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vigmm.core.errors import OutputError
from vigmm.report.bins import Axis
from vigmm.report.clusters import Clusters, describe, listed, row_columns
from vigmm.report.page import (
    assemble,
    clusters_section,
    lead,
    moments_of,
    record_sections,
    trust_section,
)
from vigmm.report.rows import GRID, RowFacts, scan
from vigmm.report.run import FinishedRun, open_run
from vigmm.report.traces import traces
from vigmm.report.tree import Join
from vigmm.report.trust import Trust, judge
from vigmm.rundir import plain, write_text

__all__ = ["Report", "write_report"]

REPORT = "report.html"
_MARK = '<meta name="generator" content="vigmm '
_MOST_BYTES = 2_500_000
"""Grids of pairwise views together; a page stays below 5 MB."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What was written.

    Args:
        path: the file.
        size: its bytes.
        verdict: ``good``, ``caution``, ``bad`` or ``unknown``.
        sentence: the verdict in words.
        left_out: what the page lacks, and why; one sentence each.
    """

    path: Path
    size: int
    verdict: str
    sentence: str
    left_out: tuple[str, ...]


def write_report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    data: str | None = None,
    diagnosis: bool | None = None,
    num_draws: int | None = None,
    restarts: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Report:
    """Write the report of a run.

    Args:
        run: the folder that ``vigmm fit`` wrote.
        out: the file; ``report.html`` in that folder by default. An older report is replaced, no other file.
        data: where the rows are now, if not where the configuration says.
        diagnosis: whether to compute what needs all rows in memory; by default if they are few enough.
        num_draws: draws for importance weights; by default what a few seconds allow.
        restarts: further fits from other seeds, to compare this one with.
        tell: is told what is being done, where it takes a while.

    Raises:
        ModelFileError: if it is no run folder, or has no results.
        DataError: if `data` are not the rows of the run.
        OutputError: if the file cannot be written.
    """
    target = Path(run).expanduser() / REPORT if out is None else Path(out).expanduser()
    if out is not None and not target.parent.is_dir():
        raise OutputError(f"{out} cannot be written: there is no folder {target.parent}; make it first")
    _check_target(target)
    opened = open_run(run, data=data)
    trust = judge(opened, diagnosis=diagnosis, num_draws=num_draws, restarts=restarts, tell=tell)
    if opened.source is not None:
        tell(f"reading {len(opened.source):,} rows")
    text = render(opened, trust)
    write_text(target, text)
    kind, sentence = trust.sentence()
    left_out = [f"k-hat, evidence and predictive checks: {trust.left_out}"] if trust.left_out else []
    left_out += [f"whatever shows rows: {opened.trouble}"] if opened.source is None else []
    return Report(target, len(text.encode()), kind, sentence, tuple(left_out))


def render(run: FinishedRun, trust: Trust) -> str:
    """The page as text."""
    clusters = describe(run)
    rows = scan(run, histograms=clusters.features, paired=clusters.paired)
    records = listed(run, clusters, rows)
    curves = traces(run)
    leaves, joins = clusters.tree()
    sections = [
        lead(run, trust, len(run.summary["components"])),
        trust_section(run, trust, curves),
        clusters_section(run, clusters, records, rows, _second(run, rows), len(leaves)),
        *record_sections(run, clusters, moments_of(run)),
    ]
    drawn = payload(run, trust, clusters, records, rows, curves, leaves, joins)
    return assemble(f"{run.title} – vigmm report", sections, drawn)


def payload(
    run: FinishedRun,
    trust: Trust,
    clusters: Clusters,
    records: list[dict[str, Any]],
    rows: RowFacts | None,
    curves: list[dict[str, Any]],
    leaves: list[int],
    joins: list[Join],
) -> Any:
    """What the page's script draws from, JSON-ready."""
    columns = run.posterior.columns
    blocks = trust.diagnosis.blocks if trust.diagnosis else {}
    return _short(
        plain(
            {
                "level": run.summary["level"],
                "rows": run.num_rows,
                "columns": columns,
                "features": clusters.features,
                "rowColumns": [columns[d] for d in row_columns(clusters)],
                "clusters": records,
                "traces": curves,
                "blocks": [{"name": name, "khat": khat} for name, khat in blocks.items()],
                "histograms": {}
                if rows is None
                else {d: {"x": _axis(one.x), **one.to_dict()} for d, one in rows.histograms.items()},
                "pairs": _pairs(clusters, rows),
                "certainty": None if rows is None else rows.probability,
                "tree": {"leaves": leaves, "joins": [dataclasses.asdict(join) for join in joins]},
            }
        )
    )


def _pairs(clusters: Clusters, rows: RowFacts | None) -> dict[str, Any]:
    """Axes of the pairwise views and, where there are rows, their counts: as many as fit the page."""
    paired, first = clusters.paired, clusters.first
    if rows is None:
        sds = np.sqrt(np.diagonal(clusters.covariances, axis1=1, axis2=2))
        low, high = (clusters.means - 3 * sds).min(axis=0), (clusters.means + 3 * sds).max(axis=0)
        axes = {d: Axis(float(low[d]), float(high[d] - low[d]) / GRID, GRID) for d in paired}
        shown = {d: _axis(axis) for d, axis in axes.items()}
        return {"columns": paired, "first": first, "axes": shown, "grids": {}}
    seen = {
        **{a: one.x for (a, _), one in rows.pairs.items()},
        **{b: one.y for (_, b), one in rows.pairs.items()},
    }
    grids: dict[str, Any] = {}
    size = 0
    for i, j in itertools.combinations(range(len(paired)), 2):
        made = rows.pairs[paired[i], paired[j]].to_dict()
        size += len(made["bytes"])
        if size > _MOST_BYTES:
            break
        grids[f"{i},{j}"] = made
    shown = {d: _axis(axis) for d, axis in seen.items() if axis}
    return {"columns": paired, "first": first, "axes": shown, "grids": grids}


def _second(run: FinishedRun, rows: RowFacts | None) -> dict[int, tuple[int, float]]:
    """Of the least certain rows, by their number: the second most probable component and its probability."""
    if rows is None or len(rows.doubted.number) == 0:
        return {}
    chances = run.posterior.responsibilities(rows.doubted.rows)
    if chances.shape[1] < 2:
        return {}
    found = np.argsort(-chances, axis=1, kind="stable")[:, 1]
    return {
        int(number): (int(k), float(chance[k]))
        for number, k, chance in zip(rows.doubted.number, found, chances, strict=True)
    }


def _axis(axis: Axis) -> dict[str, float]:
    return dataclasses.asdict(axis)


def _short(value: Any) -> Any:
    """Ten digits are enough for a picture."""
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    return float(f"{value:.10g}") if isinstance(value, float) else value


def _check_target(path: Path) -> None:
    """Refuse before any work is done to replace what is no report."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        if _MARK not in file.read(4096):
            raise OutputError(f"{path} exists and is no report of vigmm; choose another name with --out")
