"""The tables of `benchmarks.compile_only`, made from its records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from benchmarks.compile_only import judge, plan
from benchmarks.compile_only.forms import FORMS
from benchmarks.compile_only.judge import Record
from benchmarks.compile_only.targets import TARGETS

__all__ = ["text"]

_HEAD = """# Compiled for devices that are not there

Made by `python -m benchmarks.compile_only`; do not edit. One training step, compiled ahead of time; nothing
was run. *temp* is the compiler's working memory beside arguments and results. *bytes* and *flops* are counted
from the optimised program (`counting.py`) for one device, as multiples of the floor (`cells.Floor`: each row
and parameter read once, the new state written once; two products with the distinct monomials of a row). Bytes
are those that kernels ask for: a cache may answer some of them, so they bound the traffic from above; on the
TPU what the compiler put into vector memory counts for nothing. A kernel that was written by hand (`fused`:
`natural` with `kernel="pallas"`) is counted by its grid and its blocks (`kernels.py`), and its text is
compiled by XLA with the rest of the step. *roofline* adds the kernels one after the
other, each as slow as its arithmetic or its bytes; *floor* is that of one kernel that does the floor; *gain*
is roofline over one kernel with the program's own arithmetic that keeps on the chip what it makes of a row;
*compiler* is the TPU compiler's own estimate, its cycles at 1.5 GHz; *kernels* are started in a step. Where
the program chooses between two forms of the pass while it runs, there is a line for the *least* work and one
for the *most*: features where their rounding is harmless, and whitened rows.

`auto` is the step of one device with rows laid along the devices; `shared` is the step as the engine runs it
there: each device has its own rows, and sums over rows are summed over devices.
"""


def text(document: dict[str, Any]) -> str:
    """Everything, as text."""
    records = document["cells"]
    parts = [_HEAD, _figures(records), _verdicts(records)]
    for name, target in TARGETS.items():
        own = [record for record in records if record["cell"]["target"] == name]
        if own:
            parts += [f"## {target.title}\n", _steps(own), _tiles(own), _forms(own), _errors(own, name)]
    return "\n".join(part for part in parts if part)


def _table(head: str, rows: Iterable[str]) -> str:
    body = list(rows)
    if not body:
        return ""
    names = head.split("|")
    line = "|".join(" --- " if i < 1 else " ---: " for i in range(len(names)))
    return f"| {head.replace('|', ' | ')} |\n|{line}|\n" + "".join(f"{row}\n" for row in body)


def _row(*values: Any) -> str:
    return "| " + " | ".join(str(value) for value in values) + " |"


def _figures(records: list[Record]) -> str:
    present = {record["cell"]["target"] for record in records}
    rows = [
        _row(
            t.title,
            f"{t.flops / 1e12:.1f}",
            f"{t.bandwidth / 1e9:.0f}",
            f"{t.link / 1e9:.0f}",
            "; ".join(t.sources),
        )
        for t in TARGETS.values()
        if t.name in present
    ]
    head = "device|float32 TFLOP/s|memory GB/s|link GB/s|public source"
    return "## Figures of the devices\n\n" + _table(head, rows)


def _verdicts(records: list[Record]) -> str:
    rows = []
    for one in judge.verdicts(record for record in records if record["cell"]["method"] not in FORMS):
        word = "reached" if one["reached"] == one["of"] else "**missed**"
        rows.append(
            _row(
                one["target"],
                one["method"],
                one["placement"],
                one["what"],
                word,
                f"{one['reached']}/{one['of']}",
                one["worst"],
            )
        )
    about = (
        "*memory*: independent of the batch; *traffic*: at most twice the floor, in cells bound by memory;\n"
        "*exchange*: exactly one all-reduce of parameter size. The last column is the worst cell.\n\n"
    )
    return "## Targets\n\n" + about + _table("device|method|placement|target|verdict|cells|worst", rows)


def _steps(records: list[Record]) -> str:
    rows = []
    for record in records:
        cell = record["cell"]
        if "error" in record or cell["method"] in FORMS or cell["tile"]:
            continue
        batch = f"{cell['batch']:,}" + ("" if cell["batch"] == cell["rows"] else f" of {cell['rows']:,}")
        rows.append(
            _row(
                cell["method"], cell["dim"], cell["components"], batch, cell["devices"], cell["placement"],
                record["branch"],
                *_measures(record), judge.exchanges(record) if cell["devices"] > 1 else "",
            )
        )  # fmt: skip
    head = f"method|D|K|batch|devices|placement|work|{_MEASURES}|exchanges"
    return "### Steps\n\n" + _table(head, rows)


_MEASURES = "temp MiB|bytes|flops|kernels|bound by|roofline ms|gain|floor ms|compiler ms"


def _measures(record: Record) -> tuple[str, ...]:
    estimate = record["compilers_seconds"]
    return (
        f"{record['memory']['temporary'] / 2**20:.1f}",
        f"{judge.ratio(record, 'bytes'):.3g}x",
        f"{judge.ratio(record, 'flops'):.2f}x",
        f"{record['kernels']:,}",
        "memory" if judge.memory_bound(record) else "arithmetic",
        f"{record['seconds'] * 1e3:.3g}",
        f"{judge.gain(record):.1f}x",
        f"{judge.floor_seconds(record) * 1e3:.3g}",
        "" if estimate is None else f"{estimate * 1e3:.3g}",
    )


def _tiles(records: list[Record]) -> str:
    rows = [
        _row(r["cell"]["tile"], r["cell"]["dim"], r["cell"]["components"], r["branch"], *_measures(r))
        for r in records
        if "error" not in r and r["cell"]["tile"] and r["cell"]["method"] not in FORMS
    ]
    return _section("Rows per tile, `natural`", "", _table(f"tile|D|K|work|{_MEASURES}", rows))


def _forms(records: list[Record]) -> str:
    rows = []
    for record in records:
        cell = record["cell"]
        if "error" not in record and cell["method"] in FORMS:
            rows.append(
                _row(cell["method"], cell["dim"], cell["components"], cell["tile"], *_measures(record))
            )
    about = "The pass over the rows alone, in three forms (`forms.py`).\n\n"
    return _section("Forms of the tile", about, _table(f"form|D|K|tile|{_MEASURES}", rows))


def _errors(records: list[Record], target: str) -> str:
    done = [record["cell"] for record in records]
    left = [cell.name for cell in plan.cells(target) if dataclasses.asdict(cell) not in done]
    lines = [f"- {record['cell']}: {record['error']}" for record in records if "error" in record]
    if left:
        lines.append(f"- without a result yet (`--missing` compiles them): {'; '.join(left)}")
    return _section("Not compiled", "", "".join(f"{line}\n" for line in lines))


def _section(title: str, about: str, body: str) -> str:
    return f"### {title}\n\n{about}{body}" if body else ""
