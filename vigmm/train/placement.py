"""Rows over devices: each has a share of them, the state is the same on all, and sums are over all shares.

Every device runs the same compiled steps on its own rows (`jax.shard_map`), and where a step sums over rows
the sums are added up over the devices (`vigmm.core.axes`): one reduction of the size of the statistics or the
gradient per step. The batch of a step is the same rows as on one device. Each device takes those that it
has, and hands them on so that all have equally many (one reduce-scatter of B x D numbers, where each number
comes from one device only); a batch that is all rows stays where it is. So the result does not depend on the
number of devices beyond the order in which sums are rounded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from vigmm.core.axes import rows_over
from vigmm.core.struct import require, spec
from vigmm.core.typing import Batch
from vigmm.data.feed import Feed, Portion
from vigmm.data.sampler import Minibatch, Rows, Sampler

__all__ = ["AXIS", "OverDevices", "Placed", "Spread", "on_host", "over_devices", "spread"]

AXIS = "data"
F = TypeVar("F", bound=Callable[..., Any])


@spec
class Spread:
    """A sampler of rows that lie on several devices, for use inside `spread`.

    Args:
        inner: cuts batches out of all rows.
        counts: rows of each device; what its array holds beyond them fills it up.
    """

    inner: Minibatch
    counts: tuple[int, ...]

    def steps_per_epoch(self, n: int) -> int:
        """Steps in which each of the rows of all devices is seen once; `n` is not asked."""
        return self.inner.steps_per_epoch(sum(self.counts))

    def pick(self, data: Rows, key: Key[Array, ""], step: Int[Array, ""] | int) -> Batch:
        """This device's share of the batch of one step.

        Args:
            data: this device's rows.
            key: the stream of batch keys of this run.
            step: number of the step, from 0.
        """
        n, shares = sum(self.counts), len(self.counts)
        if self.inner.steps_per_epoch(n) == 1:
            return Batch(x=data.x, weight=data.weight)
        index, times = self.inner.places(n, key, step)
        fill = -len(index) % shares
        index, times = jnp.pad(index, (0, fill)), jnp.pad(times, (0, fill))
        ends = np.cumsum(self.counts)
        owner = jnp.searchsorted(jnp.asarray(ends, index.dtype), index, side="right")
        mine = owner == lax.axis_index(AXIS)
        first = jnp.asarray(ends - self.counts, index.dtype)[lax.axis_index(AXIS)]
        place = jnp.where(mine, index - first, 0)
        x = jnp.where(mine[:, None], data.x[place], jnp.zeros((), data.x.dtype))
        used = mine & (times > 0)
        weight = jnp.where(used, data.weight[place] * times.astype(data.weight.dtype), 0)
        # Every row has one owner: sums over devices are that row, to the bit.
        return Batch(x=_share(x), weight=_share(weight))


def _share(values: Array) -> Array:
    shared: Array = lax.psum_scatter(  # type: ignore[no-untyped-call]
        values, AXIS, scatter_dimension=0, tiled=True
    )
    return shared


@dataclasses.dataclass(frozen=True)
class Placed:
    """All rows, each on one of several devices.

    Args:
        rows: arrays over the mesh, shares one after the other, each filled up to the same length.
        layout: where they lie.
        counts: rows of each device.
        weight: sum of the weights.
    """

    rows: Rows
    layout: OverDevices
    counts: tuple[int, ...]
    weight: float

    @property
    def num_rows(self) -> int:
        """N."""
        return sum(self.counts)

    @property
    def dim(self) -> int:
        """D."""
        return self.rows.dim

    @property
    def dtype(self) -> Any:
        """Float type of the rows and the weights."""
        return self.rows.dtype

    def total_weight(self) -> float:
        """Sum of the weights of all rows."""
        return self.weight

    def pieces(self) -> Iterator[Rows]:
        """The shares of this process's devices, one by one, for programs of one device."""
        shares = zip(self.rows.x.addressable_shards, self.rows.weight.addressable_shards, strict=True)
        for x, weight in shares:
            yield Rows(x=jnp.asarray(np.asarray(x.data)), weight=jnp.asarray(np.asarray(weight.data)))

    def filled(self) -> Placed:
        """The same with 0, which is a column's mean, for what is missing."""
        return dataclasses.replace(self, rows=self.rows.filled())

    def feed(self, sampler: Minibatch, key: Key[Array, ""]) -> Any:
        """One portion that lasts for ever."""
        from contextlib import nullcontext

        feed: Feed = _PlacedFeed(self, Spread(sampler, self.counts))
        return nullcontext(feed)


class _PlacedFeed:
    waited = 0.0

    def __init__(self, placed: Placed, sampler: Spread) -> None:
        self.sampler: Sampler = sampler
        self.mesh: Mesh | None = placed.layout.mesh
        self.steps_per_pass = sampler.steps_per_epoch(placed.num_rows)
        self._portion = Portion(placed.rows, 2**31 - 1)

    def at(self, step: int) -> Portion:
        """All rows."""
        return self._portion


@dataclasses.dataclass(frozen=True)
class OverDevices:
    """Equal shares of neighbouring rows on each device of a mesh."""

    mesh: Mesh

    def place(self, x: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> Placed:
        """Rows that stay."""
        return Placed(
            self.put(x, weight), self, self._counts(len(x)), float(np.sum(weight, dtype=np.float64))
        )

    def put(self, x: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> Rows:
        """Rows on the devices; the last row, with weight 0, fills up the last shares."""
        shares = self.mesh.size
        length = -(-len(x) // shares)
        counts = self._counts(len(x))
        ends = np.cumsum(counts)
        x_full = np.empty((shares * length, x.shape[1]), x.dtype)
        weight_full = np.zeros(shares * length, weight.dtype)
        for share, (count, end) in enumerate(zip(counts, ends.tolist(), strict=True)):
            at = share * length
            x_full[at : at + count], x_full[at + count : at + length] = x[end - count : end], x[-1]
            weight_full[at : at + count] = weight[end - count : end]
        along = NamedSharding(self.mesh, PartitionSpec(AXIS))  # type: ignore[no-untyped-call]
        return Rows(x=jax.device_put(x_full, along), weight=jax.device_put(weight_full, along))

    def sampler(self, sampler: Minibatch, rows: int) -> Sampler:
        """Cuts batches out of so many rows that `put` has placed."""
        return Spread(sampler, self._counts(rows))

    def _counts(self, rows: int) -> tuple[int, ...]:
        length = -(-rows // self.mesh.size)
        return tuple(int(np.clip(rows - share * length, 0, length)) for share in range(self.mesh.size))


def over_devices(count: int | None) -> OverDevices | None:
    """Rows over so many of this machine's devices; None where one is enough.

    Args:
        count: number of devices; None for all accelerators, and one CPU.

    Raises:
        SpecError: if there are not so many.
    """
    devices = jax.devices()
    if count is None:
        count = 1 if devices[0].platform == "cpu" else len(devices)
    require(1 <= count <= len(devices), "train.devices", f"between 1 and {len(devices)}, the devices", count)
    if count == 1:
        return None
    return OverDevices(Mesh(np.array(devices[:count]), (AXIS,), axis_types=(AxisType.Auto,)))


def spread(function: F, mesh: Mesh | None, *, rows: int) -> F:
    """`function` on every device of a mesh, each with its share of one argument and all of the others.

    Args:
        function: of positional arguments; its results must be the same on all devices.
        mesh: the devices; None for `function` itself.
        rows: position of the argument that is shared out.
    """
    if mesh is None:
        return function

    def everywhere(*args: Any) -> Any:
        def inside(*args: Any) -> Any:
            with rows_over(AXIS):
                return function(*args)

        whole, share = (PartitionSpec(*axes) for axes in ((), (AXIS,)))  # type: ignore[no-untyped-call]
        specs = tuple(share if i == rows else whole for i in range(len(args)))
        return jax.shard_map(inside, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False)(*args)

    made: Any = everywhere
    found: F = made
    return found


def on_host(tree: Any, mesh: Mesh | None) -> Any:
    """What is the same on all devices of a mesh, free to go to any device."""
    return tree if mesh is None else jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)
