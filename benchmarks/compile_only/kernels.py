"""What hand-written kernels move and compute, which an optimised program calls and says nothing about.

A Pallas kernel states what it reads and writes: each program of its grid has a block of every operand and
result. Counted is

    bytes = number of programs x sum of the bytes of its blocks                                           (1)

whole blocks even where they reach beyond an array or are read in part (of a whitener, the lower triangle).
What a program reads a second time it is taken to find in its processor's first-level cache: it works on tiles
of at most 64 KiB. What two programs read counts twice, as for the compiler's own kernels. Arithmetic is that
of matrix products in the kernel's own program, 2 per multiply-add, times the turns of the loops around them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr

__all__ = ["TARGET", "Kernel", "Key", "kernels"]

TARGET = "__gpu$xla.gpu.triton"
"""What a program calls where it has such a kernel: XLA compiles its Triton code with the rest."""

Key = tuple[str, tuple[tuple[int, ...], ...]]
"""Name of a kernel and the shapes of its results: what a program says of a call."""


@dataclass(frozen=True)
class Kernel:
    """One run of a kernel."""

    bytes: int
    flops: int


def kernels(program: ClosedJaxpr) -> dict[Key, Kernel]:
    """Every kernel that a traced program calls, but for those that are to be interpreted.

    Raises:
        ValueError: if two cannot be told apart, or how often a product runs is not known.
    """
    found: dict[Key, Kernel] = {}
    for call in _calls(program.jaxpr):
        grid = call.params["grid_mapping"]
        programs = math.prod(grid.grid)
        moved = sum(
            math.prod(_size(side) for side in block.block_shape) * block.array_aval.dtype.itemsize
            for block in grid.block_mappings
        )
        key = (call.params["name"], tuple(map(_shape, call.outvars)))
        made = Kernel(bytes=programs * moved, flops=programs * _flops(call.params["jaxpr"]))
        if found.setdefault(key, made) != made:
            raise ValueError(f"two kernels {key}")
    return found


def _size(side: Any) -> int:
    """Of a block along an axis: a number of elements, or one where the axis is left out."""
    return int(getattr(side, "block_size", 1))


def _calls(program: Jaxpr) -> Iterator[Any]:
    for one in program.eqns:
        if one.primitive.name != "pallas_call":
            for inner in _inside(one):
                yield from _calls(inner)
        elif not one.params["interpret"]:
            yield one


def _inside(one: Any) -> Iterator[Jaxpr]:
    for value in one.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, Jaxpr):
                yield part


def _flops(program: Jaxpr) -> int:
    total = 0
    for one in program.eqns:
        name = one.primitive.name
        if name == "dot_general":
            ((axes, _), _) = one.params["dimension_numbers"]
            left, out = (_shape(value) for value in (one.invars[0], one.outvars[0]))
            total += 2 * math.prod(out) * math.prod(left[axis] for axis in axes)
            continue
        inner = sum(map(_flops, _inside(one)))
        if inner and name in ("while", "cond"):
            raise ValueError(f"a {name} in a kernel: how often its products run is not known")
        total += inner * (one.params["length"] if name == "scan" else 1)
    return total


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.aval.shape)
