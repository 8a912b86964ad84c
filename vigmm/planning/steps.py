"""What one step needs and what it has to do at least, from shapes alone: nothing is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vigmm.config import Job
from vigmm.estimators import Objective
from vigmm.families import guess, untouched
from vigmm.math.features import num_features
from vigmm.math.tiles import LANES, choose_tile
from vigmm.models import DataScale
from vigmm.train import step as steps

__all__ = ["Floor", "Sizes", "draws", "floor", "num_monomials", "sizes", "working"]

# Of each tile that is worked on more is made than its widest array: measured on CPU (results/kernel.md: 12.6
# and 14.0 MiB for two tiles of 4) and from programs compiled for an H100 (817 and 1,060 MiB for two of 256).
_BESIDES = {"natural": 1.6, "meanfield": 2.1}


@dataclass(frozen=True)
class Sizes:
    """Bytes of what a run keeps besides rows.

    Args:
        params: parameters; what devices add up in every step has their size.
        state: parameters, optimiser and all else that a step changes.
        prior: hyperparameters.
    """

    params: int
    state: int
    prior: int


@dataclass(frozen=True)
class Floor:
    """The least that one device must do in a step.

    Args:
        rows: bytes of rows and weights, read once.
        rest: bytes of state and prior, read once, and of the new state, written once.
        flops: log densities and statistics (or the gradient) of its rows, as two products with the distinct
            monomials of a row.
    """

    rows: int
    rest: int
    flops: int

    @property
    def bytes(self) -> int:
        """All of them."""
        return self.rows + self.rest


def sizes(job: Job, dim: int, *, batches: int = 1) -> Sizes:
    """What a run of a resolved job keeps, by abstract evaluation of its beginning.

    Args:
        job: with an optimiser.
        dim: D.
        batches: steps in a pass, for an optimiser that remembers what each of them said.
    """
    model, family, dtype = job.model, job.family, np.dtype(job.dtype)
    objective = Objective(model=model, family=family, estimator=job.estimator)
    optimizer = job.optimizer
    assert optimizer is not None, "a resolved job has an optimiser"
    zero, one = np.zeros(dim), np.ones(dim)
    patterns = np.ones((1, dim), bool) if model.missing else None
    scale = DataScale(
        mean=zero, cov=np.eye(dim), center=zero, scale=one, low=-one, high=one, patterns=patterns
    )

    def begin() -> tuple[Any, Any]:
        prior = model.build_prior(scale, dtype=dtype)
        surrogate = model.surrogate.build_prior(scale, dtype=dtype)
        start = guess(model, prior, untouched(model.surrogate, surrogate), surrogate)
        params = family.init(model, start)
        return steps.init(objective, optimizer, params, prior, jax.random.key(0), batches=batches), prior

    state, prior = jax.eval_shape(begin)
    return Sizes(params=_bytes(state.params), state=_bytes(state), prior=_bytes(prior))


def draws(job: Job) -> int:
    """S: parameters that are drawn in a step and ride through the rows side by side."""
    return int(getattr(job.estimator, "num_samples", 1))


def num_monomials(job: Job, dim: int) -> int:
    """F: distinct monomials of a row up to degree two, as far as the covariance has them."""
    return num_features(getattr(job.model.structure, "features", "products"), dim)


def floor(job: Job, dim: int, rows: int, kept: Sizes) -> Floor:
    """The least for `rows` rows of D columns, with the largest number of components."""
    width = np.dtype(job.dtype).itemsize
    return Floor(
        rows=width * rows * (dim + 1),
        rest=2 * kept.state + kept.prior,
        flops=4 * rows * draws(job) * job.model.num_components * num_monomials(job, dim),
    )


def working(job: Job, dim: int, rows: int, method: str, backend: str) -> int:
    """Bytes of what is made of the tiles that a step works on at a time.

    Args:
        job: model, estimator and type.
        dim: D.
        rows: of a step, on one device.
        method: a row of `vigmm.planning.traffic.METHODS`.
        backend: what the program is compiled for.
    """
    across = draws(job) * job.model.num_components * dim
    shape: Any = jax.ShapeDtypeStruct((rows, dim), jnp.dtype(job.dtype))  # type: ignore[no-untyped-call]
    tile = choose_tile(shape, across, backend=backend)
    lanes = LANES if tile < rows else 1
    # Of few components the features of a row are what is widest.
    across = max(across, num_monomials(job, dim))
    return int(lanes * tile * across * np.dtype(job.dtype).itemsize * _BESIDES[method])


def _bytes(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) * _width(leaf.dtype) for leaf in jax.tree.leaves(tree))


def _width(dtype: Any) -> int:
    """Bytes of a number; a random key is two of four."""
    return 8 if jnp.issubdtype(dtype, jax.dtypes.prng_key) else int(np.dtype(dtype).itemsize)
