"""What every start is: a way to make the first conjugate posterior, and what it may know of the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from vigmm.core.typing import PRNGKey
from vigmm.data.sampler import Rows
from vigmm.families import ConjugateParams
from vigmm.models import Mixture, Prior

__all__ = ["Origin", "Start", "Started"]


@dataclasses.dataclass(frozen=True)
class Started:
    """Where a run starts.

    Args:
        params: exactly K components in order of size, as sticks expect. What is not needed is empty: it has
            the prior's additive parameters and holds no rows.
        rows_seen: number of rows that `params` were made from.
        notes: what happened, JSON-ready, for the manifest.
    """

    params: ConjugateParams
    rows_seen: int
    notes: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the rows on the device came from: what starts need that speak of the user's data.

    Rows of the device are standardised, and some of the user's rows may be held out. A label belongs to one
    of the user's rows and a mean is in the user's units, so both need the way back, in float64: a column with
    mean 1e9 and sd 1 has no digits left in the float32 of a prior's frame.

    Args:
        index: numbers of the user's rows, in the order of the device's rows; None for all in order.
        num_rows: how many rows the user has; None for as many as are on the device.
        center: subtracted from each column; None for the prior's frame.
        scale: then divided by; None for the prior's frame.
        load: reads a saved posterior from a path; None where only a posterior in memory will do.
        mesh: devices of this process that contenders may be spread over; None for one device.
    """

    index: Int[np.ndarray, " n"] | None = None
    num_rows: int | None = None
    center: Float[np.ndarray, " D"] | None = None
    scale: Float[np.ndarray, " D"] | None = None
    load: Callable[[str], Any] | None = None
    mesh: Mesh | None = None

    def frame(self, prior: Prior) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
        """Centre and scale of the standardised rows."""
        center = prior.frame.center if self.center is None else self.center
        scale = prior.frame.scale if self.scale is None else self.scale
        return np.asarray(center, np.float64), np.asarray(scale, np.float64)


class Start(Protocol):
    """A way to make the first conjugate posterior.

    Args:
        passes: passes of natural-gradient steps over the whole data that follow, for families that are not
            themselves conjugate; see `vigmm.train.settle`.
    """

    @property
    def passes(self) -> float:
        """Passes over the whole data that follow, for families that are not conjugate."""
        ...

    def first(
        self, model: Mixture, prior: Prior, data: Rows, key: PRNGKey, origin: Origin | None = None
    ) -> Started:
        """A conjugate posterior of `model`, a model that has one.

        Args:
            model: the mixture.
            prior: its hyperparameters.
            data: the rows to be fitted, standardised.
            key: decides what is random.
            origin: where the rows came from; None where they are all of the user's rows, in order.
        """
        ...
