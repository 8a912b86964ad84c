"""A reader of optimised HLO text: computations, instructions, and what their shapes weigh.

Only what counting needs is understood: names, shapes with layouts, operands, called computations and trip
counts. A line that looks like an instruction and cannot be read is an error, so nothing is silently left out.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Computation", "Instruction", "Module", "Shape", "parse", "shapes_of"]

_BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16}
_NUMBERED = re.compile(r"[a-z]+?(\d+)")
_SHAPE = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_TILE = re.compile(r"T\(([\d,]+)\)")
_SPACE = re.compile(r"S\((\d+)\)")
_NAME = re.compile(r"%([\w.\-]+)")
_HEAD = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^  (ROOT )?%([\w.\-]+) = ")
_CALLS = re.compile(r"\b(calls|to_apply|body|condition|true_computation|false_computation)=%([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclass(frozen=True)
class Shape:
    """One array: its type, dimensions, memory space (0 is device memory) and layout."""

    dtype: str
    dims: tuple[int, ...]
    space: int = 0
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        return math.prod(self.dims)

    @property
    def bits(self) -> int:
        if self.dtype in _BITS:
            return _BITS[self.dtype]
        found = _NUMBERED.match(self.dtype)
        if found is None:
            raise ValueError(f"unknown element type {self.dtype!r}")
        return int(found.group(1))

    @property
    def logical_bytes(self) -> int:
        """Bytes of the numbers themselves."""
        return (self.elements * self.bits + 7) // 8

    @property
    def bytes(self) -> int:
        """Bytes that the array takes in its layout: a tile of (8, 128) pads the two fastest dimensions."""
        if not self.tile or not self.dims or not self.order:
            return self.logical_bytes
        padded = list(self.dims)
        for place, size in enumerate(reversed(self.tile)):
            if place < len(self.order):
                axis = self.order[place]
                padded[axis] = -(-padded[axis] // size) * size
        return (math.prod(padded) * self.bits + 7) // 8


@dataclass(frozen=True)
class Instruction:
    """One line: `rest` is what follows the operands."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    literal: str
    rest: str
    root: bool

    @functools.cached_property
    def called(self) -> dict[str, str]:
        """Names of called computations by role."""
        found = dict(_CALLS.findall(self.rest))
        branches = _BRANCHES.search(self.rest)
        if branches is not None:
            found |= {f"branch{i}": name for i, name in enumerate(_NAME.findall(branches.group(1)))}
        return found

    @property
    def trips(self) -> int | None:
        """Trip count of a loop, where the compiler wrote it down."""
        found = _TRIPS.search(self.rest)
        return None if found is None else int(found.group(1))

    def attribute(self, pattern: str) -> str | None:
        found = re.search(pattern, self.rest)
        return None if found is None else found.group(1)


@dataclass(frozen=True)
class Computation:
    name: str
    instructions: tuple[Instruction, ...]

    @functools.cached_property
    def by_name(self) -> dict[str, Instruction]:
        return {one.name: one for one in self.instructions}

    @functools.cached_property
    def users(self) -> dict[str, tuple[Instruction, ...]]:
        found: dict[str, list[Instruction]] = {}
        for one in self.instructions:
            for operand in dict.fromkeys(one.operands):
                found.setdefault(operand, []).append(one)
        return {name: tuple(users) for name, users in found.items()}

    @functools.cached_property
    def parameters(self) -> tuple[Instruction, ...]:
        own = [one for one in self.instructions if one.opcode == "parameter"]
        return tuple(sorted(own, key=lambda one: int(one.literal)))

    @property
    def root(self) -> Instruction:
        return next(one for one in self.instructions if one.root)


@dataclass(frozen=True)
class Module:
    computations: dict[str, Computation]
    entry: Computation

    def trips(self, loop: Instruction) -> int:
        """How often a `while` runs: as noted, or as ``counter < constant`` says for a counter from 0."""
        if loop.trips is not None:
            return loop.trips
        found = set(self._limits(self.computations[loop.called["condition"]]))
        if len(found) != 1:
            raise ValueError(f"the trip count of %{loop.name} is not known")
        return found.pop()

    def _limits(self, condition: Computation) -> Iterator[int]:
        for one in condition.instructions:
            if one.opcode == "constant" and one.shapes[0].dtype in ("s32", "u32") and not one.shapes[0].dims:
                yield int(one.literal)
            if one.opcode == "fusion":
                yield from self._limits(self.computations[one.called["calls"]])


def parse(text: str) -> Module:
    """Read ``compiled.as_text()``."""
    computations: dict[str, Computation] = {}
    entry: str | None = None
    name: str | None = None
    lines: list[Instruction] = []
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head is not None:
            name, lines = head.group(2), []
            entry = name if head.group(1) else entry
        elif name is not None and line.startswith("}"):
            computations[name] = Computation(name, tuple(lines))
            name = None
        elif name is not None and " = " in line:
            lines.append(_instruction(line))
    if entry is None:
        raise ValueError("the text has no entry computation")
    return Module(computations, computations[entry])


def shapes_of(text: str) -> tuple[Shape, ...]:
    """The arrays of a type, a tuple's in order."""
    return tuple(_shape(*found) for found in _SHAPE.findall(text))


def _shape(dtype: str, dims: str, layout: str) -> Shape:
    order, _, rest = layout.partition(":")
    tile, space = _TILE.search(rest), _SPACE.search(rest)
    return Shape(
        dtype=dtype,
        dims=tuple(int(d.removeprefix("<=")) for d in dims.split(",") if d),
        space=int(space.group(1)) if space else 0,
        order=tuple(int(d) for d in order.split(",") if d),
        tile=tuple(int(d) for d in tile.group(1).split(",")) if tile else (),
    )


def _instruction(line: str) -> Instruction:
    head = _LINE.match(line)
    if head is None:
        raise ValueError(f"cannot read the line {line[:120]!r}")
    kind, place = _until(line, head.end(), " ")
    opcode, place = _until(line, place + 1, "(")
    inside, place = _until(line, place + 1, ")")
    return Instruction(
        name=head.group(2),
        opcode=opcode,
        shapes=shapes_of(kind),
        operands=tuple(_NAME.findall(inside)),
        literal=inside,
        rest=line[place + 1 :],
        root=head.group(1) is not None,
    )


def _until(line: str, start: int, stop: str) -> tuple[str, int]:
    """The text up to `stop` outside of brackets, and where it is."""
    depth, place = 0, start
    while place < len(line):
        letter = line[place]
        if depth == 0 and letter == stop:
            return line[start:place], place
        depth += (letter in "([{") - (letter in ")]}")
        place += 1
    raise ValueError(f"no {stop!r} in the line {line[:120]!r}")
