"""A covariance structure that the data choose."""

from __future__ import annotations

from vigmm.core.struct import spec
from vigmm.models.covariance.base import Covariance
from vigmm.models.covariance.matrices import Full, Matrices
from vigmm.models.covariance.variances import Diag, Spherical, TiedDiag, TiedSpherical

__all__ = ["AutoCovariance"]


@spec
class AutoCovariance:
    """The structure that the data support: full matrices, or balls or boxes where their bound is higher.

    It has no algebra of its own. A fit begins with full matrices, and the search for the number of components
    may end with a simpler structure: what is fitted, saved and predicted with is never this one. Without a
    search it is `full`.
    """

    @property
    def structure(self) -> Matrices:
        """The algebra of `first`."""
        return self.first.structure

    @property
    def first(self) -> Full:
        """What a fit begins with."""
        return Full()

    @property
    def others(self) -> tuple[Covariance, ...]:
        """What it may end with instead, the simplest first; the statistics of `first` contain theirs."""
        return TiedSpherical(), Spherical(), TiedDiag(), Diag()
