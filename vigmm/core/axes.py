"""Rows that lie on several devices: what is summed over rows is summed over the devices as well.

A program that runs once on every device, each with its own rows (`jax.shard_map`), says so while it is
traced; sums over rows then end with a reduction. Everything else is the same on all devices, and so is the
result.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import TypeVar

import jax
from jax import lax

__all__ = ["num_shares", "rows_over", "sum_of_shares"]

T = TypeVar("T")

_axis: contextvars.ContextVar[str | None] = contextvars.ContextVar("rows_over", default=None)


@contextlib.contextmanager
def rows_over(axis: str | None) -> Iterator[None]:
    """While it lasts, traced sums over rows are over the rows of all devices of a mesh axis.

    Args:
        axis: its name; None where all devices have the same rows.
    """
    token = _axis.set(axis)
    try:
        yield
    finally:
        _axis.reset(token)


def sum_of_shares(tree: T) -> T:
    """A sum over this device's rows, as a sum over all devices' rows: one reduction for the whole tree."""
    axis = _axis.get()
    if axis is None or not jax.tree.leaves(tree):
        return tree
    total: T = lax.psum(tree, axis)  # type: ignore[no-untyped-call]
    return total


def num_shares() -> int:
    """How many devices the rows lie on."""
    axis = _axis.get()
    return 1 if axis is None else int(lax.axis_size(axis))
