"""What is compiled: one training step of the engine, for one size of problem on so many devices.

Arguments are shapes with shardings, so nothing is allocated: rows lie along the mesh axis ``data``, and
everything else is on every device. Two placements are compared.

- ``auto``: the step of one device. The compiler sees where the rows lie and decides the rest.
- ``shared``: the step as the engine runs it on several devices (`vigmm.train.placement`): each has its own
  rows, and sums over rows are summed over devices.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vigmm.data.sampler import Minibatch, Rows
from vigmm.estimators import Natural, Objective, Pathwise
from vigmm.families import Blocks, Conjugate, ConjugateParams, MeanField, guess
from vigmm.math.tiles import choose_tile
from vigmm.models import DataScale, Mixture, Prior
from vigmm.optim import OPTIMIZERS
from vigmm.train import step as steps
from vigmm.train.placement import Spread, spread

__all__ = ["METHODS", "Cell", "Floor", "Problem", "build", "shape"]

METHODS: dict[str, tuple[Any, Any, str]] = {
    "natural": (Conjugate, Natural, "robbins_monro"),
    "fused": (Conjugate, functools.partial(Natural, kernel="pallas"), "robbins_monro"),
    "meanfield": (MeanField, Pathwise, "adam"),
    "blocks": (Blocks, Pathwise, "adam"),
}


@dataclass(frozen=True)
class Cell:
    """One compilation: `rows` is N, `batch` the rows of a step; without `tile` the engine chooses."""

    target: str
    method: str
    dim: int
    components: int
    rows: int
    batch: int
    devices: int = 1
    placement: str = "auto"
    tile: int | None = None

    @property
    def name(self) -> str:
        words = f"{self.target} {self.method} D={self.dim} K={self.components} N={self.rows} B={self.batch}"
        return f"{words} x{self.devices} {self.placement}" + (f" tile={self.tile}" if self.tile else "")


@dataclass(frozen=True)
class Floor:
    """The least that one device must do.

    Args:
        bytes: rows and weights read once; state and prior read once, the new state written once.
        flops: log densities and statistics (or the gradient) of its rows, as two matrix products with the
            D(D + 1)/2 + D + 1 distinct monomials of a row up to degree two.
        params: bytes of what has the size of the gradient: what devices must exchange.
    """

    bytes: int
    flops: int
    params: int


@dataclass(frozen=True)
class Problem:
    function: Any
    arguments: tuple[Any, ...]
    floor: Floor


def build(cell: Cell, devices: list[Any]) -> Problem:
    """The step and its arguments, as shapes on `devices`."""
    dim, num = cell.dim, cell.components
    family_type, estimator_type, optimizer = METHODS[cell.method]
    sampler: Any = Minibatch(cell.batch)
    read = cell.batch
    if shared := cell.placement == "shared":
        sampler = Spread(sampler, (cell.rows // cell.devices,) * cell.devices)
        read = sampler.room if cell.batch < cell.rows else cell.rows // cell.devices
    rows_read = shape((read, dim), None)
    # What the engine would choose there; left alone it would choose for where the program is traced.
    tile = cell.tile or choose_tile(rows_read, num * dim, backend="tpu" if cell.target == "v5e" else "gpu")
    model, family, estimator = Mixture(num_components=num), family_type(), estimator_type(tile=tile)
    objective = Objective(model=model, family=family, estimator=estimator)
    rule = OPTIMIZERS[optimizer]()
    prior = model.build_prior(_scale(dim), dtype=np.dtype(np.float32))

    def begin() -> steps.TrainState:
        components = model.algebra.natural(prior.components, jnp.zeros((num, dim), jnp.float32))
        conjugate = ConjugateParams(weights=prior.weights, components=components)
        start = family.init(model, guess(model, prior, conjugate, prior))
        return steps.init(objective, rule, start, prior, jax.random.key(0))

    state = jax.eval_shape(begin)
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    everywhere, along = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))  # type: ignore[no-untyped-call]
    x, weight = (shape((cell.rows, *rest), along) for rest in ((dim,), ()))
    rows = Rows(x=x, weight=weight)
    arguments = (
        _placed(state, everywhere),
        _placed(prior, everywhere),
        rows,
        shape((), everywhere, jnp.int32),
    )
    step = functools.partial(steps.step, objective, rule, sampler)
    function = spread(step, mesh if shared else None, rows=2)
    return Problem(jax.jit(function, donate_argnums=0), arguments, _floor(cell, state, prior))


def shape(dims: tuple[int, ...], sharding: NamedSharding | None, dtype: Any = jnp.float32) -> Any:
    """An array that is not there, for whoever asks for an array."""
    return jax.ShapeDtypeStruct(dims, dtype, sharding=sharding)  # type: ignore[no-untyped-call]


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda leaf: shape(leaf.shape, sharding, leaf.dtype), tree)


def _scale(dim: int) -> DataScale:
    zero, one = np.zeros(dim), np.ones(dim)
    return DataScale(mean=zero, cov=np.eye(dim), center=zero, scale=one, low=-one, high=one, patterns=None)


def _floor(cell: Cell, state: steps.TrainState, prior: Prior) -> Floor:
    rows = cell.batch // cell.devices
    monomials = cell.dim * (cell.dim + 1) // 2 + cell.dim + 1
    kept = (state.params, state.opt_state, state.caution)
    return Floor(
        bytes=4 * rows * (cell.dim + 1) + 2 * _bytes(kept) + _bytes(prior),
        flops=2 * 2 * rows * cell.components * monomials,
        params=_bytes(state.params),
    )


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
