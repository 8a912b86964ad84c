"""Minibatches as a pure function of (key, step): no iterator, no buffer, no state to save."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from vigmm.core.processes import ALONE, Group
from vigmm.core.struct import require, spec, state
from vigmm.core.typing import Batch
from vigmm.math.cipher import permute

__all__ = ["Minibatch", "Rows", "Sampler", "counted"]


@state
class Rows:
    """A data set on the device.

    Args:
        x: rows, in the standardised units of training.
        weight: the user's sample weight of each row; ones by default.
    """

    x: Float[Array, "N D"]
    weight: Float[Array, " N"]

    @property
    def group(self) -> Group:
        """The processes that have the rows: this one alone."""
        return ALONE

    @property
    def num_rows(self) -> int:
        """N."""
        return int(self.x.shape[0])

    @property
    def dim(self) -> int:
        """D."""
        return int(self.x.shape[1])

    @property
    def dtype(self) -> Any:
        """Float type of the rows and the weights."""
        return self.x.dtype

    def total_weight(self) -> float:
        """Sum of the weights, on the host and in float64: no program is compiled for it."""
        return float(np.sum(np.asarray(self.weight), dtype=np.float64))

    def pieces(self) -> Iterator[Rows]:
        """All rows, in pieces of one shape: here in one."""
        yield self

    def filled(self) -> Rows:
        """The same with 0, which is a column's mean, for what is missing."""
        return Rows(x=jnp.nan_to_num(self.x), weight=self.weight)


class Sampler(Protocol):
    """Picks the batch of a step; jittable, and the order depends on (key, step) only."""

    def steps_per_epoch(self, n: int) -> int:
        """Number of batches that together hold each of `n` rows once."""
        ...

    def pick(self, data: Rows, key: Key[Array, ""], step: Int[Array, ""] | int) -> Batch:
        """The batch of `step` under the stream `key`."""
        ...


@spec
class Minibatch:
    r"""Batches without replacement: each epoch is a fresh permutation cut into S nearly equal parts.

    With S = ceil(N / batch_size) steps per epoch, step t takes part s = t mod S of epoch e = t div S.
    Parts differ by at most one row, so no batch is a small ragged rest, and every weight is S times
    the user's. Hence, exactly and not only in expectation, over the steps of any one epoch,

        mean_s sum_b weight_sb f(x_sb) = sum_n weight_n f(x_n),

    and a step drawn at random is unbiased. A batch as large as the data *is* the data: rows in order,
    weights untouched, nothing gathered.

    Args:
        batch_size: the most rows a step may see; each step sees between N // S and ceil(N / S).
        reshuffle: whether every epoch has its own permutation; without, batch s is the same rows in all.
    """

    batch_size: int
    reshuffle: bool = True

    def __post_init__(self) -> None:
        size = self.batch_size
        whole = isinstance(size, int) and not isinstance(size, bool)
        require(whole and size >= 1, "batch_size", "an integer >= 1", size)

    def steps_per_epoch(self, n: int) -> int:
        """Number of steps S = ceil(n / batch_size) in which every one of `n` rows is seen once.

        Example:
            >>> Minibatch(100).steps_per_epoch(1001)
            11
        """
        return -(-n // self.batch_size)

    def rows_per_batch(self, n: int) -> int:
        """Rows in the batch array, padding included: ceil(n / S), never more than `batch_size`.

        Example:
            >>> Minibatch(100).rows_per_batch(1001)
            91
        """
        return -(-n // self.steps_per_epoch(n))

    def pick(self, data: Rows, key: Key[Array, ""], step: Int[Array, ""] | int) -> Batch:
        """The batch of one step; the same (key, step) gives the same batch, whatever came before.

        Args:
            data: all N rows.
            key: the stream of batch keys of this run.
            step: number of the step, from 0.

        Returns:
            `rows_per_batch(N)` rows. A padding row repeats a real row with weight 0.

        Example:
            >>> data = Rows(x=jnp.arange(5.0)[:, None], weight=jnp.ones(5))
            >>> Minibatch(2).pick(data, jax.random.key(0), 0).weight.tolist()
            [3.0, 3.0]
        """
        n = data.x.shape[0]
        if self.steps_per_epoch(n) == 1:
            return Batch(x=data.x, weight=data.weight)
        index, times = self.places(n, key, step)
        # The cipher never leaves the range, so the gather needs no bounds handling.
        x = data.x.at[index].get(mode="promise_in_bounds")
        weight = data.weight.at[index].get(mode="promise_in_bounds")
        return Batch(x=x, weight=counted(weight, times))

    def places(
        self, n: int, key: Key[Array, ""], step: Int[Array, ""] | int
    ) -> tuple[Int[Array, " B"], Int[Array, " B"]]:
        """Which of `n` rows are in the batch of one step, and how many times each counts; 0 for padding."""
        steps = self.steps_per_epoch(n)
        count = jnp.asarray(step, jnp.int32)
        epoch, part = count // steps, count % steps
        small, extra = divmod(n, steps)  # the first `extra` parts have one row more
        start = part * small + jnp.minimum(part, extra)
        size = small + (part < extra).astype(jnp.int32)
        offset = jnp.arange(self.rows_per_batch(n), dtype=jnp.int32)
        position = jnp.minimum(start + offset, n - 1)
        index = permute(position, n, jax.random.fold_in(key, epoch if self.reshuffle else 0))
        return index, jnp.where(offset < size, steps, 0).astype(jnp.int32)


def counted(weight: Float[Array, " B"], times: Int[Array, " B"]) -> Float[Array, " B"]:
    """Weights of rows that count so many times; 0 for padding, whatever its weight."""
    # Not a product: 0 must not meet a weight that is infinite.
    return jnp.where(times > 0, weight * times.astype(weight.dtype), jnp.zeros_like(weight))
