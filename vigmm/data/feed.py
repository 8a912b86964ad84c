"""Where a run takes its rows from: all of them on the device, or one portion of a stream after the other.

The compiled steps know `Rows` and a sampler only. What changes between the two cases is on the host: a feed
says which rows the steps from some step on read, and until which. Both answers depend on (key, step) only, so
that a run that goes on later needs nothing but its step.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from vigmm.data.sampler import Minibatch, Rows, Sampler

__all__ = ["Feed", "Layout", "OneDevice", "Portion", "Resident", "Streamed", "TrainingData", "open_feed"]

_FOREVER = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Portion:
    """Rows on the device, and how long they last.

    Args:
        rows: what the steps read; the sampler cuts batches out of them.
        until: the first step that needs another portion.
    """

    rows: Rows
    until: int


class Feed(Protocol):
    """Portions by step.

    Attributes:
        steps_per_pass: steps in which every row is read once.
        sampler: cuts batches out of a portion.
        mesh: the devices that a portion lies on; None for one.
    """

    steps_per_pass: int
    sampler: Sampler
    mesh: Any

    @property
    def waited(self) -> float:
        """Seconds that steps had to wait for rows, so far."""
        ...

    def at(self, step: int) -> Portion:
        """The portion that step number `step` reads."""
        ...


class Streamed(Protocol):
    """Rows that are not all on the device; see `vigmm.data.stream.Stream`."""

    @property
    def num_rows(self) -> int:
        """N."""
        ...

    @property
    def dim(self) -> int:
        """D."""
        ...

    @property
    def dtype(self) -> Any:
        """Float type of the rows and the weights on the device."""
        ...

    def total_weight(self) -> float:
        """Sum of the weights of all rows."""
        ...

    def pieces(self) -> Iterator[Rows]:
        """All rows in order, in pieces of one shape; rows that fill up the last have weight 0."""
        ...

    def filled(self) -> Streamed:
        """The same with 0, which is a column's mean, for what is missing."""
        ...

    def feed(self, sampler: Minibatch, key: Key[Array, ""]) -> contextlib.AbstractContextManager[Feed]:
        """Portions for the batches of `sampler`, in an order that `key` decides."""
        ...


TrainingData: TypeAlias = Rows | Streamed


class Layout(Protocol):
    """How rows of the host come to lie on devices."""

    @property
    def mesh(self) -> Any:
        """The devices; None for one."""
        ...

    def place(self, x: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> TrainingData:
        """Rows that stay."""
        ...

    def put(self, x: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> Rows:
        """Rows for some steps."""
        ...

    def sampler(self, sampler: Minibatch, rows: int) -> Sampler:
        """Cuts the batches of `sampler` out of so many rows that `put` has placed."""
        ...


@dataclasses.dataclass(frozen=True)
class OneDevice:
    """All rows on the device that JAX chooses."""

    mesh: None = None

    def place(self, x: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> Rows:
        """Rows that stay."""
        return self.put(x, weight)

    def put(self, x: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> Rows:
        """Rows for some steps. On a CPU they may share the memory of the arrays, which are left alone."""
        return Rows(x=jax.device_put(x), weight=jax.device_put(weight))

    def sampler(self, sampler: Minibatch, rows: int) -> Sampler:
        """The sampler itself."""
        return sampler


class Resident:
    """All rows are on the device: one portion that lasts for ever."""

    waited = 0.0
    mesh = None

    def __init__(self, rows: Rows, sampler: Sampler) -> None:
        self.sampler = sampler
        self.steps_per_pass = sampler.steps_per_epoch(rows.num_rows)
        self._portion = Portion(rows, _FOREVER)

    def at(self, step: int) -> Portion:
        """All rows."""
        return self._portion


def open_feed(
    data: TrainingData, sampler: Minibatch, key: Key[Array, ""]
) -> contextlib.AbstractContextManager[Feed]:
    """What a run takes its rows from, as a context.

    Args:
        data: rows on the device, or a stream.
        sampler: cuts batches out of portions.
        key: decides the order of a stream.
    """
    if isinstance(data, Rows):
        resident: Feed = Resident(data, sampler)
        return contextlib.nullcontext(resident)
    return data.feed(sampler, key)
