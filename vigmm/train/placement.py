"""Rows over devices: each has a share of them, the state is the same on all, and sums are over all shares.

Every device runs the same compiled steps on its own rows (`jax.shard_map`), and where a step sums over rows
the sums are added up over the devices (`vigmm.core.axes`): one reduction of the size of the statistics or the
gradient per step. The batch of a step is the same rows as on one device: each device takes those of them that
it has, of which there is room for some more than its part. In the rare step in which one device has more than
that, rows are handed on so that all have equally many. So the result does not depend on the number of devices
beyond the order in which sums are rounded.

What has no need of all rows, such as the contest of restarts on a subsample, is spread the other way: the
rows are on every device, and each has its share of the work (`alike` and `abreast`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from vigmm.core.axes import rows_over
from vigmm.core.processes import ALONE, Group
from vigmm.core.struct import require, spec
from vigmm.core.typing import Batch
from vigmm.data.feed import Feed, Resident
from vigmm.data.sampler import Minibatch, Rows, counted

__all__ = [
    "AXIS",
    "DeviceShares",
    "OverDevices",
    "Placed",
    "Spread",
    "abreast",
    "alike",
    "everywhere",
    "on_host",
    "over_devices",
    "spread",
]

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
        here, ends = lax.axis_index(AXIS), np.cumsum(self.counts)
        first, last = (jnp.asarray(edge, index.dtype)[here] for edge in (ends - self.counts, ends))
        mine = (index >= first) & (index < last) & (times > 0)
        room = self.room

        def kept() -> Batch:
            # Compacted before anything is gathered: of all the batch this reads the numbers of rows only.
            slot = jnp.where(mine, jnp.cumsum(mine, dtype=jnp.int32) - 1, room)
            at = jnp.zeros(room, index.dtype).at[slot].set(index - first, mode="drop")
            heavy = jnp.zeros(room, times.dtype).at[slot].set(times, mode="drop")
            return Batch(x=data.x[at], weight=counted(data.weight[at], heavy))

        def handed_on() -> Batch:
            at = jnp.where(mine, index - first, 0)
            x = jnp.where(mine[:, None], data.x[at], jnp.zeros((), data.x.dtype))
            weight = counted(data.weight[at], jnp.where(mine, times, 0))
            return Batch(x=_share(x, shares, room), weight=_share(weight, shares, room))

        most = lax.pmax(jnp.sum(mine, dtype=jnp.int32), AXIS)  # type: ignore[no-untyped-call]
        batch: Batch = lax.cond(most <= room, kept, handed_on)
        return batch

    @property
    def room(self) -> int:
        """Rows of each device's batch: four standard deviations more than what is expected of a device.

        The rows of a batch are drawn without replacement, so their number on a device is hypergeometric.
        """
        n, most = sum(self.counts), max(self.counts)
        size = self.inner.rows_per_batch(n)
        share = most / n
        variance = size * share * (1 - share) * (n - size) / max(n - 1, 1)
        return min(math.ceil(size * share + 4 * math.sqrt(variance)), size, most)


def _share(values: Array, shares: int, room: int) -> Array:
    """This device's part of rows of which every one is on one device, and 0 on all others: to the bit."""
    size = -(-len(values) // shares)
    filled = jnp.pad(values, [(0, size * shares - len(values))] + [(0, 0)] * (values.ndim - 1))
    shared: Array = lax.psum_scatter(  # type: ignore[no-untyped-call]
        filled, AXIS, scatter_dimension=0, tiled=True
    )
    return jnp.pad(shared, [(0, room - size)] + [(0, 0)] * (values.ndim - 1))


@dataclasses.dataclass(frozen=True)
class Placed:
    """All rows, each on one of several devices.

    Args:
        rows: arrays over the mesh, shares one after the other, each filled up to the same length.
        where: the shares.
        weight: sum of the weights.
    """

    rows: Rows
    where: DeviceShares
    weight: float

    @property
    def group(self) -> Group:
        """The processes that have the rows."""
        return self.where.group

    @property
    def num_rows(self) -> int:
        """N."""
        return sum(self.where.counts)

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

    def feed(self, sampler: Minibatch, key: Key[Array, ""]) -> contextlib.AbstractContextManager[Feed]:
        """One portion that lasts for ever."""
        feed: Feed = Resident(self.rows, self.where.sampler(sampler), self.where.mesh)
        return contextlib.nullcontext(feed)


@dataclasses.dataclass(frozen=True)
class DeviceShares:
    """Stretches of neighbouring rows of nearly equal length, one on each device.

    Args:
        mesh: the devices, those of a process together.
        group: the processes.
        counts: rows on every device.
    """

    mesh: Mesh
    group: Group
    counts: tuple[int, ...]

    def put(self, x: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> Rows:
        """This process's rows on its devices; its last row, with weight 0, fills up the shares."""
        along = NamedSharding(self.mesh, PartitionSpec(AXIS))  # type: ignore[no-untyped-call]
        length, local = max(self.counts), self.mesh.size // self.group.count
        counts = self.counts[self.group.index * local : (self.group.index + 1) * local]
        xs, weights, at = [], [], 0
        for device, count in zip(self.mesh.local_devices, counts, strict=True):
            part = np.empty((length, x.shape[1]), x.dtype)
            part[:count], part[count:] = x[at : at + count], x[-1]
            heavy = np.zeros(length, weight.dtype)
            heavy[:count] = weight[at : at + count]
            xs.append(jax.device_put(part, device))
            weights.append(jax.device_put(heavy, device))
            at += count
        rows = length * self.mesh.size
        return Rows(
            x=jax.make_array_from_single_device_arrays((rows, x.shape[1]), along, xs),
            weight=jax.make_array_from_single_device_arrays((rows,), along, weights),
        )

    def sampler(self, sampler: Minibatch) -> Spread:
        """Cuts the batches of `sampler` out of the rows of all devices."""
        return Spread(sampler, self.counts)


@dataclasses.dataclass(frozen=True)
class OverDevices:
    """Rows in equal shares on the devices of a mesh, those of each process on its own.

    Args:
        mesh: the devices, those of a process together.
        group: the processes.
    """

    mesh: Mesh
    group: Group = ALONE

    @property
    def own(self) -> Mesh | None:
        """This process's devices, for work that every process does alike; None for one device."""
        mine = self.mesh.local_devices
        return _mesh_of(mine) if len(mine) > 1 else None

    def shares(self, rows: int) -> DeviceShares:
        """For so many rows of this process; to be called by all processes alike."""
        local = self.mesh.size // self.group.count
        every = self.group.counts(rows)
        counts = [
            min(max(count - share * -(-count // local), 0), -(-count // local))
            for count in every
            for share in range(local)
        ]
        return DeviceShares(self.mesh, self.group, tuple(counts))

    def place(self, x: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> Placed:
        """Rows that stay."""
        where = self.shares(len(x))
        total = float(self.group.total(np.array(np.sum(weight, dtype=np.float64))))
        return Placed(where.put(x, weight), where, total)


def over_devices(count: int | None, group: Group = ALONE) -> OverDevices | None:
    """Rows over so many devices; None where one is enough.

    Args:
        count: number of devices; None for all accelerators, and one CPU. Several processes use all they have.
        group: the processes.

    Raises:
        SpecError: if there are not so many, or the processes do not have equally many.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if count is None:
        alone = devices[0].platform == "cpu" and group.count == 1
        count = 1 if alone else len(devices)
    most = len(devices)
    require(1 <= count <= most, "train.devices", f"between 1 and {most}, the devices", count)
    if group.count > 1:
        require(count == most, "train.devices", f"{most}, all devices of all processes, or null", count)
        local = len(jax.local_devices())
        require(local * group.count == most, "train.devices", "equally many in each process", local)
    elif count == 1:
        return None
    return OverDevices(_mesh_of(devices[:count]), group)


def _mesh_of(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def spread(function: F, mesh: Mesh | None, *, rows: int) -> F:
    """`function` on every device of a mesh, each with its share of one argument and all of the others.

    Args:
        function: of positional arguments; its results must be the same on all devices.
        mesh: the devices; None for `function` itself.
        rows: position of the argument that is shared out.
    """
    if mesh is None:
        return function

    def shared(*args: Any) -> Any:
        def inside(*args: Any) -> Any:
            with rows_over(AXIS):
                return function(*args)

        whole, share = (PartitionSpec(*axes) for axes in ((), (AXIS,)))  # type: ignore[no-untyped-call]
        specs = tuple(share if i == rows else whole for i in range(len(args)))
        return jax.shard_map(inside, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False)(*args)

    made: Any = shared
    found: F = made
    return found


def alike(function: F, mesh: Mesh | None) -> F:
    """`function` on every device of a mesh, with the same arguments and the same results.

    Args:
        function: of positional arguments; where it calls `abreast`, the devices share the work.
        mesh: the devices; None for `function` itself.
    """
    if mesh is None:
        return function
    whole = PartitionSpec()  # type: ignore[no-untyped-call]
    made: Any = jax.shard_map(function, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
    found: F = made
    return found


def abreast(function: F, mesh: Mesh | None) -> F:
    """`function` of stacks, inside `alike`: each device has its stretch of them, and all get all results.

    Args:
        function: of arrays with a leading axis, to such arrays; one part at a time.
        mesh: the devices, whose number divides the leading axis; None for `function` itself.
    """
    if mesh is None:
        return function

    def shared(*args: Any) -> Any:
        def part(leaf: Array) -> Array:
            size = leaf.shape[0] // mesh.size
            return lax.dynamic_slice_in_dim(leaf, lax.axis_index(AXIS) * size, size)

        mine = function(*jax.tree.map(part, args))
        return jax.tree.map(lambda leaf: lax.all_gather(leaf, AXIS, tiled=True), mine)

    made: Any = shared
    found: F = made
    return found


def everywhere(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays that are the same in all processes, on all devices of a mesh."""
    if mesh is None:
        return tree
    whole = NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]

    def one(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(leaf)))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, whole, lambda index: host[index])

    return jax.tree.map(one, tree)


def on_host(tree: Any, mesh: Mesh | None) -> Any:
    """What is the same on all devices of a mesh, free to go to any device."""
    return tree if mesh is None else jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)
