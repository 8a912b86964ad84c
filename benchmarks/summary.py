"""From the runs of a case to one record per method: medians over repeats, with the extremes beside them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

__all__ = ["THRESHOLDS", "summarise"]

THRESHOLDS = (0.05, 0.01)
Run = Mapping[str, Any]


def summarise(facts: Mapping[str, Any], runs: Iterable[Run]) -> dict[str, Any]:
    """One record per method, in the order in which they ran.

    Times to quality are measured against two targets: the best density that any method reached, and the
    oracle where there is one.
    """
    runs = list(runs)
    good = [run for run in runs if "error" not in run]
    points = [point for run in good for fit in _warm(run) for point in (fit, *fit["trace"])]
    densities = [point["heldout"] for point in points]
    targets = {"best": max(densities, default=float("nan"))}
    if "heldout_oracle" in facts:
        targets["oracle"] = facts["heldout_oracle"]
    out: dict[str, Any] = {}
    for method in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in good if run["method"] == method]
        errors = [run["error"] for run in runs if run["method"] == method and "error" in run]
        out[method] = ({"repeats": len(mine)} | _record(mine, targets) if mine else {"repeats": 0}) | {
            "errors": errors
        }
    return out


def _record(runs: list[Run], targets: Mapping[str, float]) -> dict[str, Any]:
    main = [_main(run) for run in runs]
    record: dict[str, Any] = {
        name: _spread([fit[name] for fit in main])
        for name in ("heldout", "seconds", "cpu_seconds", "passes", "found_k", "effective_k")
    }
    if all("ari" in fit for fit in main):
        record["ari"] = _spread([fit["ari"] for fit in main])
    record["gap_best"] = _spread([targets["best"] - fit["heldout"] for fit in main])
    for name in ("gap_true", "gap_oracle"):
        if all(name in fit for fit in main):
            record[name] = _spread([fit[name] for fit in main])
            record[f"{name}_se"] = _spread([fit[f"{name}_se"] for fit in main])
    record["cold_seconds"] = _spread([run["fits"][0]["seconds"] for run in runs])
    record["cold_cpu_seconds"] = _spread([run["fits"][0]["cpu_seconds"] for run in runs])
    record["compile_seconds"] = _spread([_compilation(run) for run in runs])
    record["import_seconds"] = _spread([run["import"]["seconds"] for run in runs])
    record["seconds_per_pass"] = _spread([_slope(run) for run in runs])
    record["peak_mb"] = _spread([run["rss_mb"]["peak"] for run in runs])
    record["peak_above_import_mb"] = _spread(
        [run["rss_mb"]["peak"] - run["rss_mb"]["before_fit"] for run in runs]
    )
    for target, level in targets.items():
        for limit in THRESHOLDS:
            for clock in ("seconds", "cpu_seconds"):
                times = [_time_to(run, level, limit, clock) for run in runs]
                # A median with runs that never arrive: those count as infinite.
                record[f"{clock}_to_{target}_{limit:g}"] = _spread(times)
    record["budgets"] = _budgets(runs)
    return record


def _main(run: Run) -> Mapping[str, Any]:
    """The warm fit at the main budget, or the only one."""
    fits: list[Mapping[str, Any]] = run["fits"]
    return next((fit for fit in fits if fit["kind"] == "warm"), fits[0])


def _warm(run: Run) -> list[Mapping[str, Any]]:
    return [fit for fit in run["fits"] if fit["kind"] != "cold"] or run["fits"]


def _compilation(run: Run) -> float:
    """What the first fit of a process cost more than the same fit once more.

    Where both have a trace, at a fifth of what they share of it: all is compiled by then, and what the
    machine's load does to the rest of a long run stays out.
    """
    cold, warm = run["fits"][0], _main(run)
    later = {point["passes"]: point for point in warm["trace"]}
    shared = [point for point in cold["trace"] if point["passes"] in later]
    if shared:
        cold = shared[len(shared) // 5]
        warm = later[cold["passes"]]
    return max(0.0, float(cold["seconds"] - warm["seconds"]))


def _slope(run: Run) -> float:
    """Seconds per pass: least squares over the models on the way, or over the budgets, or the plain mean."""
    fits = _warm(run)
    trace = _main(run)["trace"]
    points = [(p["passes"], p["seconds"]) for p in (trace if len(trace) >= 2 else fits)]
    if len({passes for passes, _ in points}) < 2:
        return float(points[0][1] / points[0][0])
    passes, seconds = np.array(points).T
    return float(np.polyfit(passes, seconds, 1)[0])


def _time_to(run: Run, target: float, limit: float, clock: str) -> float:
    """Least warm time after which a model was within `limit` nats of the target; infinite if none was."""
    points = [point for fit in _warm(run) for point in (fit, *fit["trace"])]
    return min((p[clock] for p in points if target - p["heldout"] <= limit), default=float("inf"))


def _budgets(runs: list[Run]) -> list[dict[str, Any]]:
    """Quality against time: one row for each budget, or for each model on the way of a single budget."""
    rows: dict[float, list[Mapping[str, Any]]] = {}
    for run in runs:
        fits = _warm(run)
        points = [point for fit in fits for point in fit["trace"]] if len(fits) == 1 else []
        for point in (*points, *fits):
            at = rows.setdefault(round(point["passes"], 3), [])
            at[:] = [one for one in at if one["run"] != id(run)]  # the end of a fit replaces its last model
            at.append({**point, "run": id(run)})
    names = ("seconds", "heldout", "gap_true", "gap_oracle")
    return [
        {"passes": passes} | {n: _spread([p[n] for p in rows[passes]]) for n in names if n in rows[passes][0]}
        for passes in sorted(rows)
    ]


def _spread(values: list[float]) -> dict[str, float | None]:
    """Median, least and greatest; None stands for infinite, which JSON cannot say."""
    three = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {key: None if value == float("inf") else round(float(value), 5) for key, value in three.items()}
