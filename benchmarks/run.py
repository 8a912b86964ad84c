"""Run the benchmarks: ``python -m benchmarks.run [--case NAME] [--methods A B] [--repeats R] [--full]``.

Methods alternate (A B C, A B C, ...), so that a change in the machine's load meets all of them. Costly
methods are run once, at their main budget only, unless ``--full`` is given. A method that fails is recorded
with its error; the others go on. All figures end in one JSON file per case, from which the tables are made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from benchmarks.cases import CASES
from benchmarks.methods import METHODS
from benchmarks.provenance import provenance
from benchmarks.report import write_report
from benchmarks.summary import summarise

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
OUT = Path(__file__).resolve().parent / "results"
SCHEMA = 1

# Nobody's threads are limited: each library gets what it takes by itself on this machine, and an inherited
# limit (some people export one) would slow one method and not another.
THREAD_LIMITS = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "XLA_FLAGS",
    "JAX_NUM_CPU_DEVICES",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen cases and write their results; 1 if any fit failed."""
    options = _parse(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in options.case:
        outcome = _run_case(name, options)
        failed |= any("error" in run for run in outcome["runs"])
        path = options.out / f"{name}.json"
        path.write_text(json.dumps(outcome, indent=1) + "\n")
        _say(f"wrote {path}")
    _say(f"wrote {write_report(options.out, options.report)}")
    return int(failed)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.split("\n\n")[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each method (default 3)")
    parser.add_argument(
        "--full", action="store_true", help="the costly methods as often as the others, at all budgets"
    )
    parser.add_argument("--quick", action="store_true", help="main budget of each method only")
    parser.add_argument("--rows", type=int, help="another number of rows than the case is about, for a trial")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds that one process may take")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the JSON files")
    parser.add_argument(
        "--report", type=Path, help="file of the tables (default: RESULTS.md with the results)"
    )
    options = parser.parse_args(argv)
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    if options.rows is not None and options.rows < 1:
        parser.error(f"--rows must be at least 1, got {options.rows}")
    if options.report is None:
        # The results that belong to the project lie one level deeper than their table.
        options.report = (OUT.parent if options.out.resolve() == OUT else options.out) / "RESULTS.md"
    return options


def _run_case(name: str, options: argparse.Namespace) -> dict[str, Any]:
    where = provenance()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="vigmm-bench-") as scratch:
        folder = Path(scratch)
        with threadpool_limits(1):  # small products: a second thread costs more than it does
            data = CASES[name].build(rows=options.rows)
        data.save(folder)
        _say(f"{name}: {data.x.shape[0]} x {data.x.shape[1]} rows, {len(data.heldout)} held out")
        facts = data.facts | {
            f"heldout_{key}": round(float(values.mean()), 6) for key, values in data.references.items()
        }
        del data
        for repeat in range(options.repeats):
            for method in options.methods:
                if repeat == 0 or options.full or not METHODS[method].costly:
                    runs.append(_run_method(method, repeat, folder, options))
    result = {"schema": SCHEMA, "case": name, "facts": facts, "provenance": where}
    result["options"] = {"repeats": options.repeats, "full": options.full, "quick": options.quick}
    return result | {"summary": summarise(facts, runs), "runs": runs}


def _run_method(method: str, repeat: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run a worker; a failure becomes a record with the last line of what it said."""
    identity = {"method": method, "repeat": repeat, "seed": repeat}
    main_only = options.quick or (METHODS[method].costly and not options.full)
    request, answer = folder / "request.json", folder / "answer.json"
    answer.unlink(missing_ok=True)
    request.write_text(json.dumps(identity | {"case_folder": str(folder), "main_budget_only": main_only}))
    environment = {key: value for key, value in os.environ.items() if key not in THREAD_LIMITS}
    command = [sys.executable, "-m", "benchmarks.worker", str(request), str(answer)]
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=options.limit
        )
        error = None if done.returncode == 0 else (done.stderr.strip() or "no message").splitlines()[-1]
        code: int | None = done.returncode
    except subprocess.TimeoutExpired:
        error, code = f"did not end within {options.limit:g} s", None
    took = round(time.perf_counter() - began, 2)
    if error is not None:
        _say(f"  {method} #{repeat}: failed after {took:.0f} s: {error}")
        return identity | {"error": error, "exit_code": code, "process_seconds": took}
    run: dict[str, Any] = json.loads(answer.read_text())
    main_fit = next((fit for fit in run["fits"] if fit["kind"] == "warm"), run["fits"][0])
    _say(
        f"  {method} #{repeat}: held-out {main_fit['heldout']:.4f} in {main_fit['seconds']:.2f} s"
        f" ({run['fits'][0]['seconds']:.2f} s cold), process {took:.0f} s"
    )
    return run | {"process_seconds": took}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
