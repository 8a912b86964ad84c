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

from vigmm.core.processes import ALONE, Group
from vigmm.data.sampler import Minibatch, Rows, Sampler

__all__ = [
    "Feed",
    "Layout",
    "OneDevice",
    "Portion",
    "Resident",
    "Shares",
    "Streamed",
    "TrainingData",
    "open_feed",
]

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
    """Rows that are not all on one device; see `vigmm.data.stream.Stream` and `vigmm.train.placement`."""

    @property
    def group(self) -> Group:
        """The processes that have the rows."""
        ...

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
        """This process's rows in order, in pieces of one shape; rows that fill them up have weight 0."""
        ...

    def filled(self) -> Streamed:
        """The same with 0, which is a column's mean, for what is missing."""
        ...

    def feed(self, sampler: Minibatch, key: Key[Array, ""]) -> contextlib.AbstractContextManager[Feed]:
        """Portions for the batches of `sampler`, in an order that `key` decides."""
        ...


TrainingData: TypeAlias = Rows | Streamed


class Shares(Protocol):
    """So many rows over devices, in equal shares.

    Attributes:
        mesh: the devices; None for one.
    """

    @property
    def mesh(self) -> Any:
        """The devices; None for one."""
        ...

    def put(self, x: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> Rows:
        """This process's rows, on its devices."""
        ...

    def sampler(self, sampler: Minibatch) -> Sampler:
        """Cuts the batches of `sampler` out of the rows that all processes have put there."""
        ...


class Layout(Protocol):
    """How rows of the host come to lie on devices."""

    @property
    def group(self) -> Group:
        """The processes that have the rows."""
        ...

    def shares(self, rows: int) -> Shares:
        """For so many rows of this process; to be called by all processes alike."""
        ...

    def place(self, x: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> TrainingData:
        """Rows that stay."""
        ...


@dataclasses.dataclass(frozen=True)
class OneDevice:
    """All rows on the device that JAX chooses."""

    mesh: None = None
    group: Group = ALONE

    def shares(self, rows: int) -> OneDevice:
        """Itself: nothing depends on the number of rows."""
        return self

    def place(self, x: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> Rows:
        """Rows that stay."""
        return self.put(x, weight)

    def put(self, x: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> Rows:
        """The rows. On a CPU they may share the memory of the arrays, which are left alone."""
        return Rows(x=jax.device_put(x), weight=jax.device_put(weight))

    def sampler(self, sampler: Minibatch) -> Sampler:
        """The sampler itself."""
        return sampler


class Resident:
    """All rows are on their devices: one portion that lasts for ever.

    Args:
        rows: all of them.
        sampler: cuts batches out of them.
        mesh: the devices; None for one.
    """

    waited = 0.0

    def __init__(self, rows: Rows, sampler: Sampler, mesh: Any = None) -> None:
        self.sampler, self.mesh = sampler, mesh
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
