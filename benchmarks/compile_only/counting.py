"""What a compiled program moves and computes, counted from its optimised HLO.

A scheduled instruction (a kernel) reads its operands from device memory and writes its results there; inside
a fusion nothing is moved. So with n(i) the number of times instruction i runs,

    bytes = sum_i n(i) (bytes of operands + bytes of results),                                            (1)

where a slice counts for what it takes, an update in place for what it changes, and an array that the compiler
put into on-chip memory for nothing. Arithmetic is that of matrix products alone, 2 per multiply-add. A
processor with a cache may find in it what (1) counts as read: (1) bounds the traffic from above. Kernels that
were written by hand are counted by what they say of themselves (`kernels.py`).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.compile_only.hlo import Computation, Instruction, Module, Shape
from benchmarks.compile_only.kernels import TARGET, Kernel, Key

__all__ = ["Collective", "Counts", "count"]

_FREE = {
    "after-all", "bitcast", "constant", "copy-done", "get-tuple-element", "opt-barrier", "parameter",
    "partition-id", "replica-id", "tuple",
}  # fmt: skip
_SLICES = {"dynamic-slice", "slice", "gather"}
_ALIASES = {"bitcast", "get-tuple-element", "reshape"}
COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast",
)  # fmt: skip


@dataclass(frozen=True)
class Collective:
    """One exchange between devices: its kind, the bytes of its result on a device, and how often it runs."""

    kind: str
    bytes: int
    times: int


@dataclass(frozen=True)
class Counts:
    """Totals of one run of the program on one device.

    `kernels` are scheduled instructions that move bytes, `cycles` what a compiler estimates that it notes,
    `runs` (times, bytes, flops) of each instruction, and `largest` those that move most.
    """

    bytes: int
    flops: int
    kernels: int
    cycles: int
    collectives: tuple[Collective, ...]
    runs: tuple[tuple[int, int, int], ...]
    largest: tuple[tuple[int, str], ...]


def count(
    module: Module,
    *,
    on_chip: Callable[[int], bool] = lambda space: False,
    least: bool = False,
    written: Mapping[Key, Kernel] | None = None,
) -> Counts:
    """Equation (1) and its companions.

    Args:
        module: the optimised program.
        on_chip: whether a memory space is on the chip, so that moving to and from it is not counted.
        least: of a conditional's branches count the one with the least arithmetic and traffic, else the most.
        written: the kernels in it that were written by hand.

    Raises:
        KeyError: if the program calls a kernel that is not among them.
    """
    counter = _Counter(module, on_chip, least, written or {})
    scheduled = list(counter.scheduled(module.entry, 1))
    runs = tuple((n, counter.moved(where, one), counter.flops(where, one)) for where, one, n in scheduled)
    collectives = {
        (kind, one.name if one is outer else one.attribute(r"channel_id=(\d+)")): Collective(
            kind, _result(one), n
        )
        for _, outer, n in scheduled
        for one in counter.inside(outer)
        if (kind := one.opcode.removesuffix("-start")) in COLLECTIVES
    }
    moved = [(n * size, one) for (n, size, _), (_, one, _) in zip(runs, scheduled, strict=True)]
    return Counts(
        bytes=sum(n * size for n, size, _ in runs),
        flops=sum(n * flops for n, _, flops in runs),
        kernels=sum(n for n, size, _ in runs if size),
        cycles=sum(n * int(one.attribute(r'"estimated_cycles":"(\d+)"') or 0) for _, one, n in scheduled),
        collectives=tuple(collectives.values()),
        runs=tuple(run for run in runs if run[1] or run[2]),
        largest=tuple(
            (size, f"{one.opcode} {_path(one)}") for size, one in sorted(moved, key=lambda m: -m[0])[:6]
        ),
    )


def _path(one: Instruction) -> str:
    return one.attribute(r'op_name="([^"]*)"') or one.name


def _result(one: Instruction) -> int:
    """Bytes of a collective's result; a started one returns (operands, results)."""
    shapes = one.shapes
    if one.opcode in ("all-gather-start", "collective-permute-start"):
        shapes = [s for s in shapes if s.dtype != "u32" or s.dims]  # type: ignore[assignment]
        shapes = shapes[len(shapes) // 2 :]
    return sum(shape.logical_bytes for shape in shapes)


class _Counter:
    def __init__(
        self,
        module: Module,
        on_chip: Callable[[int], bool],
        least: bool,
        written: Mapping[Key, Kernel],
    ) -> None:
        self._module = module
        self._kernels = written
        self._choose: Callable[..., Any] = min if least else max
        self._on_chip = on_chip

    def _called(self, one: Instruction, role: str) -> Computation:
        return self._module.computations[one.called[role]]

    def scheduled(self, where: Computation, times: int) -> Iterator[tuple[Computation, Instruction, int]]:
        """Instructions that run by themselves, with how often."""
        for one in where.instructions:
            if one.opcode == "while":
                trips = self._module.trips(one)
                yield from self.scheduled(self._called(one, "body"), times * trips)
                yield from self.scheduled(self._called(one, "condition"), times * trips)
            elif one.opcode == "conditional":
                branches = [list(self.scheduled(self._called(one, role), times)) for role in one.called]
                yield from self._choose(branches, key=self._work)
            elif one.opcode in ("call", "async-start"):
                role = "calls" if "calls" in one.called else "to_apply"
                yield from self.scheduled(self._called(one, role), times)
            elif one.opcode not in _FREE and not one.opcode.endswith("-done"):
                yield where, one, times

    def _work(self, runs: list[tuple[Computation, Instruction, int]]) -> tuple[int, int]:
        flops = sum(times * self.flops(where, one) for where, one, times in runs)
        return flops, sum(times * self.moved(where, one) for where, one, times in runs)

    def inside(self, one: Instruction) -> Iterator[Instruction]:
        """An instruction and, of a fusion, all that is fused."""
        yield one
        if one.opcode == "fusion":
            for inner in self._called(one, "calls").instructions:
                yield from self.inside(inner)

    # Bytes --------------------------------------------------------------------------------

    def _weight(self, shape: Shape) -> int:
        return 0 if self._on_chip(shape.space) else shape.bytes

    def moved(self, where: Computation, one: Instruction) -> int:
        """Bytes read and written by one run of a scheduled instruction."""
        target = one.attribute(r'custom_call_target="([^"]*)"') or ""
        if target == "AllocateBuffer":
            return 0
        if target == TARGET:
            return self._written_kernel(one).bytes
        reads = [(where.by_name[name], name) for name in dict.fromkeys(one.operands)]
        if one.opcode == "fusion":
            inner = self._called(one, "calls")
            read = sum(
                min(self._read(inner, inner.parameters[one.operands.index(name)]), self._all(operand))
                if not self._hidden(operand)
                else 0
                for operand, name in reads
            )
            return read + self._written(inner, one)
        if one.opcode in _SLICES:
            indices = sum(self._all(operand) for operand, _ in reads[1:])
            source = 0 if self._hidden(reads[0][0]) else _slice_bytes(one)
            return source + indices + self._all(one)
        if one.opcode in ("dynamic-update-slice", "scatter"):
            return 2 * sum(self._all(operand) for operand, _ in reads[1:])
        written = one.shapes
        if one.opcode == "custom-call":
            written = tuple(shape for shape in written if shape.dtype != "s8")  # a library's scratch
        if one.opcode == "copy-start":
            written = written[:1]
        if one.opcode.endswith("-start") and one.opcode.removesuffix("-start") in COLLECTIVES:
            return sum(self._all(operand) for operand, _ in reads) + _result(one)
        return sum(self._all(operand) for operand, _ in reads) + sum(map(self._weight, written))

    def _all(self, one: Instruction) -> int:
        return 0 if one.opcode == "constant" else sum(map(self._weight, one.shapes))

    def _hidden(self, one: Instruction) -> bool:
        return all(self._on_chip(shape.space) for shape in one.shapes)

    def _read(self, inner: Computation, value: Instruction) -> int:
        """Bytes of a fused parameter that are needed: slices of it, or all."""
        total = 0
        whole = sum(shape.bytes for shape in value.shapes)
        for user in inner.users.get(value.name, ()):
            first = user.operands[0] == value.name and value.name not in user.operands[1:]
            if user.opcode in _SLICES and first:
                total += _slice_bytes(user)
            elif user.opcode == "dynamic-update-slice" and first:
                continue  # updated in place: what is not changed is not read
            elif user.opcode in _ALIASES:
                total += self._read(inner, user)
            elif user.opcode == "fusion":
                nested = self._called(user, "calls")
                total += self._read(nested, nested.parameters[user.operands.index(value.name)])
            elif user.opcode != "tuple":
                return whole
        return min(total, whole)

    def _written(self, inner: Computation, fusion: Instruction) -> int:
        """Bytes that a fusion writes: its results, or the part that it updates in place."""
        root = inner.root
        parts = [inner.by_name[name] for name in root.operands] if root.opcode == "tuple" else [root]
        if len(parts) != len(fusion.shapes):
            return sum(map(self._weight, fusion.shapes))
        total = 0
        for part, shape in zip(parts, fusion.shapes, strict=True):
            while part.opcode in ("bitcast", "reshape"):
                part = inner.by_name[part.operands[0]]
            if part.opcode == "dynamic-update-slice" and not self._on_chip(shape.space):
                total += sum(s.bytes for s in inner.by_name[part.operands[1]].shapes)
            else:
                total += self._weight(shape)
        return total

    # Arithmetic ---------------------------------------------------------------------------

    def flops(self, where: Computation, one: Instruction) -> int:
        """Arithmetic of matrix products in a scheduled instruction, fused ones included."""
        if one.opcode == "fusion":
            inner = self._called(one, "calls")
            return sum(self.flops(inner, fused) for fused in inner.instructions)
        if one.opcode == "dot":
            return _dot(one, where.by_name[one.operands[0]].shapes[0], r"lhs_contracting_dims=\{([\d,]*)\}")
        if one.opcode == "convolution":
            return _convolution(one, *(where.by_name[name].shapes[0] for name in one.operands[:2]))
        target = one.attribute(r'custom_call_target="([^"]*)"') or ""
        if (
            one.opcode == "custom-call"
            and target.startswith("__cublas$")
            and "gemm_backend_config" in one.rest
        ):
            left = where.by_name[one.operands[0]].shapes[0]
            return _dot(one, left, r'"lhs_contracting_dimensions":\[([\d",]*)\]')
        return self._written_kernel(one).flops if target == TARGET else 0

    def _written_kernel(self, one: Instruction) -> Kernel:
        path = _path(one).split("/")
        return self._kernels[path[-2], tuple(shape.dims for shape in one.shapes)]


def _slice_bytes(one: Instruction) -> int:
    return sum(shape.bytes for shape in one.shapes)


def _dot(one: Instruction, left: Shape, pattern: str) -> int:
    axes = [int(d) for d in (one.attribute(pattern) or "").replace('"', "").split(",") if d]
    return 2 * one.shapes[0].elements * math.prod(left.dims[axis] for axis in axes)


def _convolution(one: Instruction, left: Shape, right: Shape) -> int:
    """2 x batch x output features x input features x pairs of places that meet, padding left out."""
    labels = one.attribute(r"dim_labels=([\w>\-]+)") or ""
    lhs, rhs, out = re.split(r"_|->", labels)
    window = one.attribute(r"window=\{([^}]*)\}") or ""
    given = dict(part.split("=") for part in window.split())
    pairs = 1
    for place in itertools.count():
        if str(place) not in out:
            break
        name = str(place)
        taps = right.dims[rhs.index(name)]
        field = [given[key].split("x")[place] if key in given else d for key, d in _WINDOW]
        low = int(field[1].split("_")[0])
        pairs *= _meetings(
            source=left.dims[lhs.index(name)], taps=taps, places=one.shapes[0].dims[out.index(name)],
            stride=int(field[0]), low=low, base=int(field[2]), dilation=int(field[3]),
        )  # fmt: skip
    batch, features = one.shapes[0].dims[out.index("b")], one.shapes[0].dims[out.index("f")]
    # The kernel's input features are those of one group; groups of the batch share the work.
    inputs = right.dims[rhs.index("i")]
    return 2 * batch * features * inputs * pairs


_WINDOW = (("stride", "1"), ("pad", "0_0"), ("lhs_dilate", "1"), ("rhs_dilate", "1"))


def _meetings(*, source: int, taps: int, places: int, stride: int, low: int, base: int, dilation: int) -> int:
    """Pairs (place of the result, tap of the kernel) that meet an element and not padding."""
    total = 0
    reach = (source - 1) * base
    for tap in range(taps):
        offset = tap * dilation - low
        if base == 1:
            first = max(0, -(offset // stride) if offset < 0 else 0)
            last = (reach - offset) // stride
            total += max(0, min(places - 1, last) - first + 1)
        else:
            total += sum(
                0 <= place * stride + offset <= reach and (place * stride + offset) % base == 0
                for place in range(places)
            )
    return total
