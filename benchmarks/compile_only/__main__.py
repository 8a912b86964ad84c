"""Compile, count, judge and write the results.

    python -m benchmarks.compile_only            # every cell: about 20 minutes for H100, 40 for TPU v5e
    python -m benchmarks.compile_only --quick    # a few cells; the results are printed and not kept

The first run installs the compiler plugins with pip, each into an environment of its own in the cache folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compile_only import plan, plugins
from benchmarks.compile_only.cells import Cell
from benchmarks.compile_only.report import text
from benchmarks.compile_only.targets import TARGETS, Target
from benchmarks.environments import EnvironmentFailure, default_cache
from benchmarks.processes import ROOT, surroundings
from benchmarks.provenance import provenance

__all__ = ["compile_cells", "main"]

RESULTS = ROOT / "benchmarks" / "results"


def compile_cells(target: Target, cells: Sequence[Cell], python: Path) -> Iterator[list[dict[str, Any]]]:
    """Records of each cell, as they are done, from a process that has the plugin.

    Raises:
        RuntimeError: if the process ends before the last cell.
    """
    command = [str(python), "-m", "benchmarks.compile_only.worker"]
    surrounding = surroundings({**target.settings, "PYTHONPATH": str(ROOT)})
    # What plugins say while they look for devices is of no use; how they end is.
    with subprocess.Popen(
        command, cwd=ROOT, env=surrounding, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([dataclasses.asdict(cell) for cell in cells]))
        process.stdin.close()
        done = 0
        for line in process.stdout:
            done += 1
            yield json.loads(line)
    if done != len(cells):
        raise RuntimeError(
            f"{target.name}: ended with {process.returncode} after {done} of {len(cells)} cells"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells of the chosen targets; what was compiled before and is still planned is kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compile_only", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--targets", nargs="+", choices=sorted(TARGETS), default=sorted(TARGETS))
    parser.add_argument("--quick", action="store_true", help="a few cells, printed and not kept")
    parser.add_argument("--missing", action="store_true", help="only cells that have no result yet")
    parser.add_argument("--cache", type=Path, default=None, help="folder of the plugins' environments")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    chosen = parser.parse_args(arguments)
    cache = chosen.cache or default_cache()
    path = chosen.out / "compile_only.json"
    document: dict[str, Any] = {"provenance": {}, "cells": []}
    if path.exists() and not chosen.quick:
        document = json.loads(path.read_text())
    code = 0
    for name in chosen.targets:
        target = TARGETS[name]
        try:
            python = plugins.interpreter(target.plugin, cache)
        except EnvironmentFailure as failure:
            print(f"{name}: {failure}", file=sys.stderr)
            code = 1
            continue
        planned = plan.cells(name, quick=chosen.quick)
        done = [record["cell"] for record in document["cells"]]
        todo = [cell for cell in planned if not (chosen.missing and dataclasses.asdict(cell) in done)]
        document["provenance"][name] = provenance() | {"plugin": plugins.wheels(target.plugin)}
        for records in compile_cells(target, todo, python):
            print(_line(records[0]), flush=True)
            document["cells"] = _merged(document["cells"], records, planned)
            if not chosen.quick:
                chosen.out.mkdir(parents=True, exist_ok=True)
                path.write_text(_lines(document))
    if chosen.quick:
        print(text(document))
    else:
        path.with_suffix(".md").write_text(text(document))
    return code


def _merged(
    old: list[dict[str, Any]], new: list[dict[str, Any]], planned: Sequence[Cell]
) -> list[dict[str, Any]]:
    """Old records without those of the new ones' cell and of cells that are no longer planned, in order."""
    place = {json.dumps(dataclasses.asdict(cell)): i for i, cell in enumerate(planned)}
    target = planned[0].target
    others = [record for record in old if record["cell"]["target"] != target]
    own = [record for record in old if record["cell"] != new[0]["cell"] and record not in others] + new
    own = [record for record in own if json.dumps(record["cell"]) in place]
    own.sort(key=lambda record: place[json.dumps(record["cell"])])
    return sorted(others + own, key=lambda record: str(record["cell"]["target"]))


def _lines(document: dict[str, Any]) -> str:
    """JSON with a line for each record."""
    cells = ",\n".join(json.dumps(record) for record in document["cells"])
    return f'{{"provenance": {json.dumps(document["provenance"])},\n"cells": [\n{cells}\n]}}\n'


def _line(record: dict[str, Any]) -> str:
    cell = " ".join(str(value) for value in record["cell"].values())
    return f"{cell}: {record.get('error') or str(record['compile_seconds']) + ' s'}"


if __name__ == "__main__":
    raise SystemExit(main())
