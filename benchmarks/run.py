"""Run the benchmarks: ``python -m benchmarks.run [--case NAME] [--methods A B] [--full | --brief]``.

Methods alternate (A B C, A B C, ...), so that a change in the machine's load meets all of them. Costly
methods are run once, at their main budget only, unless ``--full`` is given. Each peer runs in an environment
of its own, which is built when it is first needed. A method that fails, or cannot be installed, is recorded
with its error; the others go on. All figures end in one JSON file per case, from which the tables are made.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.built import folder_of
from benchmarks.cases import BRIEF, CASES, Skipped
from benchmarks.environments import EnvironmentFailure, default_cache, interpreter, pins
from benchmarks.methods import BRIEF_METHODS, METHODS
from benchmarks.processes import call, surroundings
from benchmarks.provenance import provenance
from benchmarks.report import write_report
from benchmarks.summary import summarise

__all__ = ["main"]

OUT = Path(__file__).resolve().parent / "results"
SCHEMA = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen cases and write their results; 1 if any fit failed."""
    options = _parse(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in options.case:
        try:
            outcome = _run_case(name, options)
        except Skipped as why:
            _say(f"{name}: left out: {why}")
            continue
        failed |= any("error" in run for run in outcome["runs"])
        path = options.out / f"{name}.json"
        path.write_text(json.dumps(outcome, indent=1) + "\n")
        (options.out / f"{name}.partial").unlink()
        _say(f"wrote {path}")
    _say(f"wrote {write_report(options.out, options.report)}")
    return int(failed and options.strict)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.split("\n\n")[0])
    parser.add_argument("--case", nargs="+", choices=CASES, metavar="NAME", help="default: all of them")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="NAME", help="default: all of them")
    parser.add_argument("--repeats", type=int, help="processes for each method (default 3)")
    parser.add_argument(
        "--full", action="store_true", help="the costly methods as often as the others, at all budgets"
    )
    parser.add_argument("--quick", action="store_true", help="main budget of each method only")
    parser.add_argument(
        "--brief",
        action="store_true",
        help=f"{', '.join(BRIEF)} alone, one repeat, main budgets, short deadline: less than 15 minutes",
    )
    parser.add_argument("--rows", type=int, help="another number of rows than the case is about, for a trial")
    parser.add_argument(
        "--deadline", type=float, help="seconds after which a fit that can stop does (default: none)"
    )
    parser.add_argument("--limit", type=float, help="seconds that one process may take (default 1800)")
    parser.add_argument(
        "--memory", type=float, default=12_000.0, help="MB that one process may take (default 12000)"
    )
    parser.add_argument("--cache", type=Path, default=default_cache(), help="for environments and cases")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the JSON files")
    parser.add_argument(
        "--report", type=Path, help="file of the tables (default: RESULTS.md with the results)"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any fit failed")
    options = parser.parse_args(argv)
    # What `--brief` says, unless it is said otherwise.
    options.case = options.case or list(BRIEF if options.brief else CASES)
    options.methods = options.methods or list(BRIEF_METHODS if options.brief else METHODS)
    options.repeats = (1 if options.brief else 3) if options.repeats is None else options.repeats
    options.quick = options.quick or options.brief
    options.deadline = 15.0 if options.brief and options.deadline is None else options.deadline
    options.limit = options.limit or (150.0 if options.brief else 1800.0)
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
    folder, data = folder_of(name, options.rows, options.cache)
    _say(f"{name}: {data.x.shape[0]} x {data.x.shape[1]} rows, {len(data.heldout)} held out")
    facts = data.facts | {
        f"heldout_{key}": round(float(values.mean()), 6) for key, values in data.references.items()
    }
    del data
    kept = options.out / f"{name}.partial"  # hours of work, should anything go wrong
    for repeat in range(options.repeats):
        for method in options.methods:
            if repeat == 0 or options.full or not METHODS[method].costly:
                runs.append(_run_method(method, repeat, folder, options))
                kept.write_text(json.dumps({"facts": facts, "provenance": where, "runs": runs}))
    result = {"schema": SCHEMA, "case": name, "facts": facts, "provenance": where}
    chosen = ("repeats", "full", "quick", "deadline", "limit", "memory")
    result["options"] = {key: getattr(options, key) for key in chosen}
    return result | {"summary": summarise(facts, runs), "runs": runs}


def _run_method(method: str, repeat: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run a worker; a failure becomes a record with the last line of what it said."""
    identity: dict[str, Any] = {"method": method, "repeat": repeat, "seed": repeat}
    own = METHODS[method].environment
    if own is not None:
        identity["versions"] = pins(own)
    try:
        python = Path(sys.executable) if own is None else interpreter(own, options.cache, say=_say)
    except EnvironmentFailure as why:
        _say(f"  {method} #{repeat}: not installed: {why}")
        return identity | {"error": f"not installed: {why}"}
    with tempfile.TemporaryDirectory(prefix="vigmm-bench-") as scratch:
        request, answer = Path(scratch) / "request.json", Path(scratch) / "answer.json"
        asked = {
            "case_folder": str(folder),
            "main_budget_only": options.quick or (METHODS[method].costly and not options.full),
            "deadline": options.deadline,
        }
        request.write_text(json.dumps(identity | asked))
        command = [str(python), "-m", "benchmarks.worker", str(request), str(answer)]
        ended = call(command, limit=options.limit, memory_mb=options.memory, environment=surroundings())
        took = round(ended.seconds, 2)
        if ended.error is not None:
            _say(f"  {method} #{repeat}: failed after {took:.0f} s: {ended.error}")
            return identity | {"error": ended.error, "exit_code": ended.code, "process_seconds": took}
        run: dict[str, Any] = json.loads(answer.read_text())
    main_fit = next((fit for fit in run["fits"] if fit["kind"] == "warm"), run["fits"][0])
    _say(
        f"  {method} #{repeat}: held-out {main_fit['heldout']:.4f} in {main_fit['seconds']:.2f} s"
        f" ({run['fits'][0]['seconds']:.2f} s cold), process {took:.0f} s"
    )
    return identity | run | {"process_seconds": took}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
