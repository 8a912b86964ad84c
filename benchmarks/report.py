"""The tables: made from the JSON files, never from memory."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.plots import draw
from benchmarks.summary import THRESHOLDS

__all__ = ["write_report"]

_INTRO = """# Benchmark results

Made by `python -m benchmarks.run` from the JSON files beside it; do not edit. Held-out figures are mean log
densities in nats per point; a *gap* is how far below a reference they are (paired over the held-out rows,
with its standard error), so smaller is better. **True** is the generator's density, **oracle** is EM started
from the true parameters: what estimation from these rows allows. Cells are medians over repeats, with
extremes in brackets where they differ. A fit is timed from the call to the finished model, start included:
*cold* is the first in a fresh process, *warm* the same once more, and compilation their difference; importing
the library is apart. Passes do not count what a start reads. A method that compiles nothing is fitted once.
Each repeat is a process of its own with another seed of the method; methods alternate. **Best** is the
highest density that any method reached in the same run; *ARI* is the adjusted Rand index of held-out rows
against known labels. A deadline, where one is named, stopped those methods that can stop in the middle.
faiss is k-means: a lower bound of the time, with Gaussians of its cells' moments for a density.
"""


def write_report(folder: Path, path: Path) -> Path:
    """Write the tables of every result in `folder`."""
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    # Other comparisons keep their results in the same folder.
    results = [result for result in found if "case" in result]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([_INTRO, *(_case(result, folder, path.parent) for result in results)]))
    return path


def _case(result: Mapping[str, Any], folder: Path, at: Path) -> str:
    facts, summary = result["facts"], result["summary"]
    done = {name: row for name, row in summary.items() if row["repeats"]}
    parts = [f"## {result['case']}\n", _about(facts), _where(result), "### Main runs\n", _main_table(done)]
    parts += _late(done, result["options"].get("deadline"))
    for target in ("best", "oracle"):
        if any(f"seconds_to_{target}_{THRESHOLDS[0]:g}" in row for row in done.values()):
            parts += [f"### Time to the {target}\n", _time_table(done, target)]
    picture = draw(result, folder)
    parts += ["### Quality against time\n"]
    if picture is not None:
        parts += [f"![Held-out density against seconds]({os.path.relpath(picture, at)})\n"]
    parts += [_budget_table(done)]
    failures = [f"- `{name}`: {error}" for name, row in summary.items() for error in row["errors"]]
    if failures:
        parts += ["### Failures\n", "\n".join(failures) + "\n"]
    return "\n".join(parts)


def _about(facts: Mapping[str, Any]) -> str:
    text = f"{facts['rows']:,} rows of {facts['dim']} columns, {facts['heldout']:,} more held out"
    if "true_components" in facts:
        floor = 0.5 / facts["k_max"]
        true_k = sum(weight > floor for weight in facts["true_weights"])
        text += (
            f", drawn from {facts['true_components']} overlapping full-covariance Gaussians ({true_k} of them"
            f" with a weight over {floor:g}, the rule by which components are counted below)"
        )
    if "source" in facts and "true_components" not in facts:
        text += f", from {facts['source']}"
    if facts.get("covariance", "full") != "full":
        text += f", {facts['covariance']} covariances"
    if facts.get("iterations") is not None:
        text += f", {facts['iterations']} passes of every method, no more and no fewer"
    text += f"; methods may use {facts['k_max']} components, minibatches have {facts['batch_size']:,} rows."
    levels = [
        f"{key} {facts[f'heldout_{key}']:.4f}" for key in ("true", "oracle") if f"heldout_{key}" in facts
    ]
    return text + (f" Held-out references: {', '.join(levels)}." if levels else "") + "\n"


def _where(result: Mapping[str, Any]) -> str:
    at = result["provenance"]
    loads = [run["load_average_before"][0] for run in result["runs"] if "error" not in run]
    own = {run["method"]: next(iter(run["versions"].items())) for run in result["runs"] if "versions" in run}
    peers = ", ".join(sorted({f"{name} {version}" for name, version in own.values()}))
    versions = ", ".join(f"{name} {version}" for name, version in at["versions"].items())
    options = result["options"]
    asked = f"{options['repeats']} repeat(s)"
    if options.get("deadline") is not None:
        asked += f", deadline {options['deadline']:g} s"
    load = f"load average before the fits {min(loads):.1f} to {max(loads):.1f}" if loads else "no fit ended"
    return (
        f"{at['date']}; {at['cpu']}, {at['cores']} cores, {at['memory_gb']:.0f} GiB; {load}"
        f" (idle is 0; above {at['cores']}, other work took part of the machine); commit"
        f" {(at['commit'] or 'none')[:12]}; {asked}; {versions}; peers: {peers or 'none'}.\n"
    )


def _late(rows: Mapping[str, Any], deadline: float | None) -> list[str]:
    """Who was, or would have been, stopped: those figures are no end by a method's own rule."""
    if deadline is None:
        return []
    late = [name for name, row in rows.items() if row["seconds"]["median"] >= deadline]
    if not late:
        return []
    names = ", ".join(f"`{name}`" for name in late)
    text = f"Took the deadline of {deadline:g} s or longer, and were stopped where they can be: {names}."
    return [text + " What they would have reached is not in these tables.\n"]


def _main_table(rows: Mapping[str, Any]) -> str:
    head = ["method", "runs", "passes", "held-out", "gap to best", "gap to true", "gap to oracle", "cold s"]
    head += ["warm s"]
    head += [
        "warm CPU s",
        "compile s",
        "s per pass",
        "import s",
        "K found",
        "K effective",
        "ARI",
        "peak MB",
        "above import",
    ]
    body = [
        [
            f"`{name}`",
            str(row["repeats"]),
            _cell(row["passes"], 0),
            _cell(row["heldout"], 4),
            _cell(row["gap_best"], 4),
            _gap(row, "gap_true"),
            _gap(row, "gap_oracle"),
            _cell(row["cold_seconds"]),
            _cell(row["seconds"]),
            _cell(row["cpu_seconds"]),
            _cell(row["compile_seconds"]),
            _cell(row["seconds_per_pass"]),
            _cell(row["import_seconds"]),
            _cell(row["found_k"], 0),
            _cell(row["effective_k"], 1),
            _cell(row.get("ari"), 3),
            _cell(row["peak_mb"], 0),
            _cell(row["peak_above_import_mb"], 0),
        ]
        for name, row in rows.items()
    ]
    return _table(head, body)


def _time_table(rows: Mapping[str, Any], target: str) -> str:
    what = {"oracle": "the oracle", "best": "the best that any method reached"}[target]
    text = (
        f"Least warm time after which a model was within so many nats of {what}, over all budgets and all"
        " models on the way; add the compilation for a first fit.\n\n"
    )
    head = ["method", "compile s"]
    head += [f"{clock} to {limit:g}" for limit in THRESHOLDS for clock in ("s", "CPU s")]
    body = [
        [f"`{name}`", _cell(row["compile_seconds"])]
        + [
            _cell(row[f"{clock}_to_{target}_{limit:g}"])
            for limit in THRESHOLDS
            for clock in ("seconds", "cpu_seconds")
        ]
        for name, row in rows.items()
    ]
    return text + _table(head, body)


def _budget_table(rows: Mapping[str, Any]) -> str:
    head = ["method", "passes", "warm s", "held-out", "gap to true", "gap to oracle"]
    body = [
        [f"`{name}`", f"{at['passes']:g}", _cell(at["seconds"]), _cell(at["heldout"], 4)]
        + [_cell(at.get(gap), 4) for gap in ("gap_true", "gap_oracle")]
        for name, row in rows.items()
        for at in _thinned(row["budgets"])
    ]
    return _table(head, body)


def _thinned(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Models whose passes grow by half at least, and the last one; the JSON has them all."""
    kept: list[dict[str, Any]] = []
    for point in points:
        if not kept or point["passes"] >= 1.5 * kept[-1]["passes"]:
            kept.append(point)
    return kept if kept[-1] is points[-1] else [*kept[:-1], points[-1]]


def _table(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _gap(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return "-"
    return f"{_cell(row[name], 4)} ± {row[name + '_se']['median']:.4f}"


def _cell(spread: Mapping[str, float | None] | None, digits: int = 2) -> str:
    """The median, and the extremes where they differ from it at this precision."""
    if spread is None:
        return "-"
    median, least, most = (
        "never" if spread[key] is None else f"{spread[key]:.{digits}f}" for key in ("median", "min", "max")
    )
    return median if least == most else f"{median} ({least} to {most})"
