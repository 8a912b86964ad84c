"""Compiles cells in an environment that has the plugin: JSON in, a line of records out for each cell.

python -m benchmarks.compile_only.worker < cells.json
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import Any

from benchmarks.compile_only import cells, forms
from benchmarks.compile_only.cells import Cell
from benchmarks.compile_only.counting import Counts, count
from benchmarks.compile_only.hlo import parse
from benchmarks.compile_only.kernels import kernels
from benchmarks.compile_only.targets import TARGETS, Target

__all__ = ["main", "measure"]


def measure(cell: Cell) -> list[dict[str, Any]]:
    """Compile one cell and say what the program moves, computes and keeps.

    A program that chooses between two forms of the pass while it runs gets two records: one as if it always
    took the branches with the least work, one with the most.
    """
    target = TARGETS[cell.target]
    build = forms.build if cell.method in forms.FORMS else cells.build
    problem = build(cell, target.devices(cell.devices))
    begun = time.perf_counter()
    traced = problem.function.trace(*problem.arguments)
    compiled = traced.lower().compile()
    seconds = time.perf_counter() - begun
    memory = compiled.memory_analysis()
    module = parse(compiled.as_text())
    written = kernels(traced.jaxpr)
    least, most = (count(module, on_chip=target.on_chip, least=one, written=written) for one in (True, False))
    common = {
        "compile_seconds": round(seconds, 2),
        "memory": {
            "temporary": memory.temp_size_in_bytes,
            "arguments": memory.argument_size_in_bytes,
            "output": memory.output_size_in_bytes,
            "aliased": memory.alias_size_in_bytes,
        },
        "floor": dataclasses.asdict(problem.floor),
    }
    # Other conditionals (a component that is reset) are too small to count as a form of the pass.
    branches = {"least": least, "most": most} if most.flops > 1.01 * least.flops else {"most": most}
    return [{**common, "branch": branch, **_told(target, counts)} for branch, counts in branches.items()]


def _told(target: Target, counts: Counts) -> dict[str, Any]:
    return {
        "bytes": counts.bytes,
        "flops": counts.flops,
        "kernels": counts.kernels,
        "seconds": _seconds(target, counts.runs),
        "compilers_seconds": counts.cycles / target.clock if target.clock else None,
        "collectives": [dataclasses.asdict(one) for one in counts.collectives],
        "largest": [{"bytes": size, "what": what} for size, what in counts.largest],
    }


def _seconds(target: Target, runs: tuple[tuple[int, int, int], ...]) -> float:
    """Kernels one after the other, each as slow as its arithmetic or its traffic."""
    return sum(n * max(size / target.bandwidth, flops / target.flops) for n, size, flops in runs)


def main() -> None:
    """Measure every cell on the standard input; a failure is a result too."""
    for line in json.load(sys.stdin):
        cell = Cell(**line)
        try:
            found = [{"cell": dataclasses.asdict(cell), **record} for record in measure(cell)]
        except Exception as error:  # whatever the compiler says is what is reported
            said = f"{type(error).__name__}: {error}".strip()[:500]
            found = [{"cell": dataclasses.asdict(cell), "error": said}]
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
