"""What the mixture asks of a component prior, and what a prior may know of the data."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from vigmm.core.struct import state
from vigmm.models.covariance import Structure, StructurePosition

__all__ = ["ComponentPrior", "DataScale", "Frame"]

# Where the range of the data is not known: so many standard deviations on either side of the mean.
_REACH = 5.0


@state
class DataScale:
    """Moments of the data in original units and the affine map of the standardised space (float64).

    z = (x - center) / scale. `low` and `high` are the range of each column, `patterns` which columns are
    observed in every combination that occurs; None where that is not known. `spread` is how much larger
    clusters are than the data's covariance alone would have them, as far as a search has found that out.
    """

    mean: Float[np.ndarray, " D"]
    cov: Float[np.ndarray, "D D"]
    center: Float[np.ndarray, " D"]
    scale: Float[np.ndarray, " D"]
    low: Float[np.ndarray, " D"] | None = None
    high: Float[np.ndarray, " D"] | None = None
    patterns: Bool[np.ndarray, "M D"] | None = None
    spread: float = 1.0

    def spread_by(self, factor: float) -> DataScale:
        """The same data, their clusters larger."""
        made: DataScale = dataclasses.replace(self, spread=self.spread * factor)
        return made

    def frame(self, dtype: Any) -> Frame:
        """What of it the compiled code needs; cast on the host, where nothing is compiled for it."""
        sd = np.sqrt(np.diag(self.cov))
        patterns = np.zeros((0, len(self.mean))) if self.patterns is None else self.patterns
        low = self.mean - _REACH * sd if self.low is None else self.low
        high = self.mean + _REACH * sd if self.high is None else self.high
        # A constant column has no width; it counts as one unit of its scale.
        high = np.where(high > low, high, low + self.scale)
        return Frame(
            center=jnp.asarray(np.asarray(self.center, dtype)),
            scale=jnp.asarray(np.asarray(self.scale, dtype)),
            low=jnp.asarray(np.asarray((low - self.center) / self.scale, dtype)),
            high=jnp.asarray(np.asarray((high - self.center) / self.scale, dtype)),
            patterns=jnp.asarray(np.asarray(patterns, dtype)),
        )


@state
class Frame:
    """The map between data and model, x = center + scale z, the data's box in z, and what may be missing.

    A row of `patterns` is 1 for the columns that are observed together; M = 0 where nothing may be missing.
    """

    center: Float[Array, " D"]
    scale: Float[Array, " D"]
    low: Float[Array, " D"]
    high: Float[Array, " D"]
    patterns: Float[Array, "M D"]

    @property
    def log_volume(self) -> Float[Array, ""]:
        """Log volume of the box."""
        return jnp.sum(jnp.log(self.high - self.low))


class ComponentPrior(Protocol):
    """What a row of `PRIORS` can do.

    A prior may change the coordinates of the covariance structure: fix some, order others, add
    hyperparameters.
    """

    def refusal(self, structure: Structure) -> str | None:
        """Why q under this prior and structure has no conjugate form, or None if it has one."""
        ...

    def check(self, structure: Structure) -> None:
        """Raise `SpecError` where prior and structure do not fit."""
        ...

    def position_size(self, structure: Structure, dim: int) -> int:
        """Coordinates of one component."""
        ...

    def shared_size(self, structure: Structure, dim: int) -> int:
        """Coordinates that all components share."""
        ...

    def build(
        self, data: DataScale, *, structure: Structure, num_components: int, most: int, dtype: Any
    ) -> Any:
        """Hyperparameters in the standardised space.

        Args:
            data: scale of the data.
            structure: covariance structure.
            num_components: for how many components.
            most: the most that there may be, which the expected covariance of one follows.
            dtype: float type.
        """
        ...

    def expand(
        self, structure: Structure, built: Any, frame: Frame, u: StructurePosition
    ) -> StructurePosition:
        """The structure's coordinates at a position of the model."""
        ...

    def rank(self, u: StructurePosition) -> Array | None:
        """The order in which the components must stand, or None where any will do."""
        ...

    def contract(self, structure: Structure, u: StructurePosition) -> StructurePosition:
        """The model's coordinates at a position of the structure, as closely as the model can have it."""
        ...

    def contract_scale(
        self, structure: Structure, u: StructurePosition, sd: StructurePosition
    ) -> StructurePosition:
        """Standard deviations of the model's coordinates, given those of the structure's at `u`."""
        ...

    def log_prob(
        self, structure: Structure, built: Any, frame: Frame, u: StructurePosition
    ) -> Float[Array, ""]:
        """Log density of a position of the model, Jacobian included."""
        ...

    def log_means(
        self, structure: Structure, built: Any, frame: Frame, u: StructurePosition
    ) -> Float[Array, ""]:
        """What of `log_prob` is the log density of the means given all else."""
        ...

    def describe(self, data: DataScale, *, num_components: int) -> dict[str, Any]:
        """The hyperparameters in original units, JSON-ready."""
        ...
