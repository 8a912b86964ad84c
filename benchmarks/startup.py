"""What a user of the command line waits for before, and beside, the work: imports and compilation.

    python -m benchmarks.startup            # writes benchmarks/results/startup.json and startup.md

Every run is ``vigmm fit`` in a process of its own (`benchmarks.startup_worker`), timed from the moment at
which the process is asked for:

- *none*: compiled programs are not kept;
- *cold*: they are written to an empty folder;
- *warm*: they are found there; the same run as before.

Jobs: `configs/iris.yaml`; *mixture*, 20,000 rows of 4 columns with everything at its default; and *large*,
200,000 rows of 16 columns, likewise (K = 20).

The first step is when the contest of starts begins: its program is the first that moves parameters, and
before it the contenders were made. *Trace*, *lower* and *compile* are JAX's own measurements; traces within
traces count once. With a warm cache,
*compile* is what finding, reading and loading takes. CPU seconds are those of all threads, and what to look
at where other work is running.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import judging

__all__ = ["JOBS", "main", "run", "table"]

ROOT = Path(__file__).resolve().parent.parent
JOBS = ("iris", "mixture", "large")
KINDS = ("none", "cold", "warm")
# Rows, columns and components of the jobs that are no table of flowers.
MIXTURE, LARGE = (20_000, 4, 5), (200_000, 16, 20)
_STEPS = ("_held",)


def job(name: str, folder: Path) -> list[str]:
    """The arguments of ``vigmm fit`` for a job."""
    if name == "iris":
        return [str(ROOT / "configs" / "iris.yaml")]
    from vigmm.data.synthetic import gaussian_mixture

    rows, config = folder / "rows.npy", folder / "mixture.yaml"
    np.save(rows, gaussian_mixture(*(MIXTURE if name == "mixture" else LARGE), seed=0).x)
    config.write_text(f"data: {{path: {rows}}}\n")
    return [str(config)]


def measured(words: Sequence[str], folder: Path, cache: str) -> dict[str, Any]:
    """One run in a fresh process."""
    notes = folder / "notes.json"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "VIGMM_"))}
    kept["VIGMM_CACHE"] = cache
    load = os.getloadavg()[0]
    command = [
        sys.executable,
        "-m",
        "benchmarks.startup_worker",
        str(notes),
        repr(time.time()),
        "fit",
        *words,
    ]
    command += ["--out", str(folder / "run"), "--overwrite", "--quiet"]
    subprocess.run(command, cwd=ROOT, env=kept, check=True)
    told = json.loads(notes.read_text())
    programs = by_program(told["spans"])
    first = [(one["ready"], one["cpu"]) for one in programs if one["program"] in _STEPS]
    ready, spent = first[0] if first else (None, None)
    return {
        "load": round(load, 2),
        "cpu_seconds": told["cpu"],
        "laps": told["laps"],
        "first_step": ready,
        "first_step_cpu": spent,
        "compiled": sum(one["times"] for one in programs),
        "found": sum(one["found"] for one in programs),
        **{name: sum(one[name] for one in programs) for name in ("trace", "lower", "compile")},
        "programs": programs,
    }


def by_program(spans: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Times of every program, in the order in which they are first met."""
    found: dict[str, dict[str, Any]] = {}
    over = float("-inf")
    for span in sorted(spans, key=lambda one: one["start"]):
        name = span["program"].removeprefix("jit_").removeprefix("jit(").rstrip(")")
        end = span["start"] + span["seconds"]
        if span["kind"] == "trace":
            if end <= over:
                continue  # within the trace of another
            over = end
        empty = {"times": 0, "found": 0, "trace": 0.0, "lower": 0.0, "compile": 0.0}
        one = found.setdefault(name, {"program": name, **empty})
        one[span["kind"]] += span["seconds"]
        if span["kind"] == "compile":
            one["times"] += 1
            one["found"] += span["hit"]
            if one["times"] == 1:
                one["ready"], one["cpu"] = end, span["cpu"]
    return [one for one in found.values() if one["times"]]


def run(jobs: Sequence[str] = JOBS, repeats: int = 3) -> dict[str, Any]:
    """All runs; of each kind the one with the median time to the first step."""
    results: dict[str, Any] = {}
    for name in jobs:
        with tempfile.TemporaryDirectory() as home:
            words = job(name, Path(home))
            runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
            for number in range(repeats):
                cache = {
                    "none": "off",
                    "cold": f"{home}/programs{number}",
                    "warm": f"{home}/programs{number}",
                }
                for kind in KINDS:
                    one = measured(words, Path(home), cache[kind])
                    runs[kind].append(one)
                    print(name, kind, {k: v for k, v in one.items() if k != "programs"}, flush=True)
        ranked = {kind: sorted(made, key=lambda one: one["first_step"]) for kind, made in runs.items()}
        results[name] = {kind: made[len(made) // 2] for kind, made in ranked.items()}
    return {"repeats": repeats, "jobs": results}


def table(document: dict[str, Any]) -> str:
    """What is waited for, and the programs of the runs that kept none."""
    columns = [
        "job", "programs kept", "imports s", "first step s", "first step cpu s", "run ends s", "cpu s",
        "compiled", "found", "trace s", "lower s", "compile s", "load",
    ]  # fmt: skip
    rows: list[list[Any]] = []
    for name, kinds in document["jobs"].items():
        for kind, one in kinds.items():
            laps = one["laps"]
            ends = (
                laps["imports"],
                one["first_step"],
                one["first_step_cpu"],
                laps["end"],
                one["cpu_seconds"],
            )
            parts = (one["trace"], one["lower"], one["compile"], one["load"])
            counts = (one["compiled"] - one["found"], one["found"])
            rows.append([name, kind, *map(_round, ends), *counts, *map(_round, parts)])
    text = (
        "# Start-up\n\nMade by `python -m benchmarks.startup`; seconds from the start of the process, of the "
        f"run with the median first step among {document['repeats']}. *none*: programs are not kept; "
        "*cold*: written to an empty folder; *warm*: found there. Jobs: `configs/iris.yaml`; *mixture*: "
        f"{MIXTURE[0]:,} rows of {MIXTURE[1]} columns, everything at its default; *large*: {LARGE[0]:,} rows "
        f"of {LARGE[1]} columns, likewise (K = {LARGE[2]}).\n{judging.SHARED}\n\n"
    )
    text += judging.markdown(columns, rows)
    for name, kinds in document["jobs"].items():
        cold, warm = kinds["none"], {one["program"]: one for one in kinds["warm"]["programs"]}
        rows = []
        for one in sorted(cold["programs"], key=lambda one: -one["compile"]):
            spent = [_round(one[part], 3) for part in ("trace", "lower", "compile")]
            again = warm.get(one["program"])
            rows.append([one["program"], one["times"], *spent, again and _round(again["compile"], 3)])
        head = ["program", "times", "trace s", "lower s", "compile s", "from a warm cache s"]
        text += f"\n## {name}: every program\n\n" + judging.markdown(head, rows)
    return text


def _round(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and write."""
    parser = judging.options(__doc__, "startup")
    chosen = parser.parse_args(arguments)
    document = run(("iris",), 1) if chosen.quick else run()
    text = table(document)
    print(text)
    judging.write(chosen.out, "startup", document, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
