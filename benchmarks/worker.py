"""One method on one case in a process of its own: ``python -m benchmarks.worker REQUEST RESULT``.

A process of its own, because peak memory, import time and the first compilation are properties of a process.
The order: import, fit from cold at the main budget, note the peak memory, fit again warm, fit the other
budgets. Densities of held-out rows are computed only when every clock has stopped.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from benchmarks.cases.base import CaseData
from benchmarks.methods import METHODS, settings
from benchmarks.protocol import Array, Clock, Cost, Fitted, LogDensity, Method, Problem
from benchmarks.scores import adjusted_rand

__all__ = ["main"]


def main(request_path: str, result_path: str) -> None:
    """Do what the request says and write the result."""
    request = json.loads(Path(request_path).read_text())
    data = CaseData.load(Path(request["case_folder"]))
    facts = data.facts
    problem = Problem(
        data.x, facts["k_max"], facts["batch_size"], request["seed"],
        facts.get("covariance", "full"), facts.get("iterations"), request["deadline"],
        str(Path(request["case_folder"]) / "x.npy"),
    )  # fmt: skip
    clock = Clock()
    METHODS[request["method"]].load()
    imported = clock.lap()
    method = METHODS[request["method"]].tune(problem)
    result: dict[str, Any] = {
        "method": request["method"],
        "repeat": request["repeat"],
        "seed": request["seed"],
        "settings": settings(method),
        "python": platform.python_version(),
        "load_average_before": [round(x, 2) for x in os.getloadavg()],
        "import": imported.to_dict(),
    }
    result["blas_threads"] = _threads()
    before = _peak_mb()
    budgets = method.budgets[:1] if request["main_budget_only"] else method.budgets
    if problem.iterations is not None:
        budgets = (float(problem.iterations),)
    timed = [("cold", *_timed(method, problem, budgets[0]))]
    result["rss_mb"] = {"before_fit": before, "peak": _peak_mb()}
    if method.reruns:
        timed.append(("warm", *_timed(method, problem, budgets[0])))
    for passes in budgets[1:]:
        # Another budget may compile something again: the second of two runs is the warm one.
        first, fitted = _timed(method, problem, passes)
        second = _timed(method, problem, passes)[0] if method.reruns else first
        timed.append(("budget", min(first, second, key=lambda cost: cost.seconds), fitted))
    # The models on the way of a cold fit are those of the warm one: only their times differ.
    traced = "warm" if method.reruns else "cold"
    with threadpool_limits(1):  # the judge's products are small too
        result["fits"] = [_judge(kind, cost, fitted, data, traced == kind) for kind, cost, fitted in timed]
    result["load_average_after"] = [round(x, 2) for x in os.getloadavg()]
    Path(result_path).write_text(json.dumps(result))


def _timed(method: Method, problem: Problem, passes: float) -> tuple[Cost, Fitted]:
    clock = Clock()
    fitted = method.fit(problem, passes, clock)
    return clock.lap(), fitted


def _judge(kind: str, cost: Cost, fitted: Fitted, data: CaseData, traced: bool) -> dict[str, Any]:
    """Held-out quality of a fit and of the models on its way."""
    weights = np.asarray(fitted.weights(), np.float64)
    labels = {}
    if data.labels is not None and fitted.predict is not None:
        labels = {"ari": round(adjusted_rand(data.labels, np.asarray(fitted.predict(data.heldout))), 5)}
    positive = weights[weights > 0]
    return {
        "kind": kind,
        **cost.to_dict(),
        "passes": fitted.passes,
        **_quality(fitted.log_density, data),
        **labels,
        # A component counts when it has more than half an equal share of the weight.
        "found_k": int((weights > 0.5 / data.facts["k_max"]).sum()),
        "effective_k": round(float(np.exp(-(positive * np.log(positive)).sum())), 2),
        "trace": [
            {
                **point.cost.to_dict(),
                "passes": point.passes,
                **(_quality(point.log_density, data) if traced else {}),
            }
            for point in fitted.trace
        ],
        "notes": dict(fitted.notes),
    }


def _quality(log_density: LogDensity, data: CaseData) -> dict[str, Any]:
    """Mean held-out log density, and how far it is below the references, paired over the rows."""
    values: Array = np.asarray(log_density(data.heldout), np.float64)
    if not np.isfinite(values).all():
        raise FloatingPointError(f"{int((~np.isfinite(values)).sum())} held-out densities are not finite")
    out: dict[str, Any] = {"heldout": round(float(values.mean()), 6)}
    for name, reference in data.references.items():
        gap = reference - values
        out[f"gap_{name}"] = round(float(gap.mean()), 6)
        out[f"gap_{name}_se"] = round(float(gap.std(ddof=1) / np.sqrt(len(gap))), 6)
    return out


def _peak_mb() -> float:
    """Largest resident set of this process so far.

    Linux's own mark of it, where there is one: what `getrusage` says includes who started this process.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 2**10, 1)
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _threads() -> list[dict[str, Any]]:
    """Thread pools of the libraries that are loaded; JAX has one of its own, as large as the machine."""
    return [{"api": pool["internal_api"], "threads": pool["num_threads"]} for pool in threadpool_info()]


if __name__ == "__main__":
    main(*sys.argv[1:])
