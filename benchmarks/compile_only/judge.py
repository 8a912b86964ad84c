"""Whether the compiled steps reach the targets; nothing is rounded in their favour.

- Memory: what a step needs beside its arguments does not depend on the batch, from 100,000 rows on.
- Traffic: where a step is bound by memory, it moves at most twice the floor.
- Exchange: on several devices exactly one all-reduce, of no more than the parameters (and a few numbers).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from benchmarks.compile_only.plan import BATCHES
from benchmarks.compile_only.targets import TARGETS

__all__ = [
    "exchange_ok",
    "exchanges",
    "floor_seconds",
    "gain",
    "link_seconds",
    "memory_bound",
    "ratio",
    "verdicts",
]

Record = dict[str, Any]

_SAME = 1.01
_SPARE = 256  # bytes: the bound, its terms and its error travel with the gradient


def ratio(record: Record, what: str) -> float:
    """`what` over its floor."""
    return float(record[what] / record["floor"][what])


def memory_bound(record: Record) -> bool:
    """Whether moving the step's bytes takes longer than its arithmetic."""
    target = TARGETS[record["cell"]["target"]]
    return bool(record["bytes"] / target.bandwidth > record["flops"] / target.flops)


def floor_seconds(record: Record) -> float:
    """Roofline time of one kernel that does the floor's arithmetic and moves the floor's bytes."""
    target, floor = TARGETS[record["cell"]["target"]], record["floor"]
    return float(max(floor["bytes"] / target.bandwidth, floor["flops"] / target.flops))


def gain(record: Record) -> float:
    """Roofline over one kernel with the same arithmetic that keeps on the chip what it makes of a row."""
    target = TARGETS[record["cell"]["target"]]
    fused = max(record["floor"]["bytes"] / target.bandwidth, record["flops"] / target.flops)
    return float(record["seconds"] / fused)


def link_seconds(record: Record) -> float:
    """Time of the exchanges on a ring: 2 (n - 1)/n of an all-reduce's bytes pass each link, else half."""
    n = record["cell"]["devices"]
    link = TARGETS[record["cell"]["target"]].link
    passes = [
        (2 if one["kind"] == "all-reduce" else 1) * one["bytes"] * one["times"]
        for one in record["collectives"]
    ]
    return float((n - 1) / n * sum(passes) / link)


def exchange_ok(record: Record) -> bool:
    """One all-reduce of parameter size; besides it only what is small, and a minibatch handed on once.

    Small are the columns' mean squares and the sum of weights, by which the form of the pass is chosen. Of a
    minibatch every device is handed its share of the rows (reduce-scatter).
    """
    cell, found = record["cell"], record["collectives"]
    small = 4 * (cell["dim"] + 1)
    sums = [one for one in found if one["kind"] == "all-reduce" and one["bytes"] > small]
    handed = [one for one in found if one["kind"] == "reduce-scatter"]
    others = [one for one in found if one["kind"] not in ("all-reduce", "reduce-scatter")]
    # Rows and weights go in, and a share of them comes out.
    minibatch = cell["batch"] < cell["rows"]
    most = 4 * cell["batch"] * (cell["dim"] + 1) * (1 + 1 / cell["devices"]) + _SPARE if minibatch else 0
    return (
        len(sums) == 1
        and sums[0]["times"] == 1
        and sums[0]["bytes"] <= record["floor"]["params"] + _SPARE
        and not others
        and sum(one["bytes"] * one["times"] for one in handed) <= most
    )


def verdicts(records: Iterable[Record]) -> list[Record]:
    """One line for each target, device, method and placement: how many cells reach it, and the worst."""
    groups: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        cell = record["cell"]
        if "error" not in record and cell["tile"] is None:
            groups[cell["target"], cell["method"], cell["placement"]].append(record)
    found = []
    for (target, method, placement), group in sorted(groups.items()):
        for name, cases in (
            ("memory", _memory(group)), ("traffic", _traffic(group)), ("exchange", _exchange(group)),
        ):  # fmt: skip
            if cases:
                reached = sum(ok for ok, _, _ in cases)
                _, _, worst = max(cases, key=lambda case: (not case[0], case[1]))
                found.append(
                    {"target": target, "method": method, "placement": placement, "what": name,
                     "reached": reached, "of": len(cases), "worst": worst}
                )  # fmt: skip
    return found


def _memory(group: list[Record]) -> list[tuple[bool, float, str]]:
    by_size: dict[tuple[int, ...], dict[int, int]] = defaultdict(dict)
    for record in group:
        cell = record["cell"]
        if cell["rows"] == cell["batch"]:
            key = (cell["dim"], cell["components"], cell["devices"])
            by_size[key][cell["batch"]] = record["memory"]["temporary"]
    cases = []
    for (dim, num, _), found in by_size.items():
        few, many = found.get(BATCHES[1]), found.get(BATCHES[2])
        if few is not None and many is not None:
            growth = many / max(few, 1)
            words = f"D={dim} K={num}: {few / 2**20:.1f} to {many / 2**20:.1f} MiB"
            cases.append((growth <= _SAME, growth, words))
    return cases


def _traffic(group: list[Record]) -> list[tuple[bool, float, str]]:
    cases = []
    for record in filter(memory_bound, group):
        cell, times = record["cell"], ratio(record, "bytes")
        words = (
            f"D={cell['dim']} K={cell['components']} B={cell['batch']} x{cell['devices']}: {times:.3g} times"
        )
        cases.append((times <= 2.0, times, words))
    return cases


def _exchange(group: list[Record]) -> list[tuple[bool, float, str]]:
    cases = []
    for record in group:
        cell = record["cell"]
        if cell["devices"] > 1:
            moved = sum(one["bytes"] * one["times"] for one in record["collectives"])
            times = moved / record["floor"]["params"]
            size = f"D={cell['dim']} K={cell['components']} N={cell['rows']} B={cell['batch']}"
            cases.append((exchange_ok(record), times, f"{size} x{cell['devices']}: {exchanges(record)}"))
    return cases


def exchanges(record: Record) -> str:
    """The exchanges of a step in words: of each kind how many, how much in all, and how long on the links."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for one in record["collectives"]:
        kinds[one["kind"]] += [one["bytes"]] * one["times"]
    words = [f"{len(sizes)} {kind} of {sum(sizes) / 2**20:.3g} MiB" for kind, sizes in kinds.items()]
    return f"{', '.join(words)}: {link_seconds(record) * 1e3:.3g} ms" if words else "none"
