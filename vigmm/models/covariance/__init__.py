"""Covariance structures: one file and one row of `COVARIANCES` each."""

from vigmm.models.covariance.auto import AutoCovariance
from vigmm.models.covariance.base import (
    ConjugateStructure,
    Covariance,
    FreeStructure,
    Hyper,
    MarginalStructure,
    Quadratic,
    Scales,
    Separable,
    Structure,
    StructurePosition,
    Triangular,
    conjugate,
)
from vigmm.models.covariance.low_rank import FactorAnalytic
from vigmm.models.covariance.matrices import Full, Tied
from vigmm.models.covariance.variances import Diag, Spherical, TiedDiag, TiedSpherical

__all__ = [
    "COVARIANCES",
    "COVARIANCE_CHOICES",
    "AutoCovariance",
    "ConjugateStructure",
    "Covariance",
    "Diag",
    "FactorAnalytic",
    "FreeStructure",
    "Full",
    "Hyper",
    "MarginalStructure",
    "Quadratic",
    "Scales",
    "Separable",
    "Spherical",
    "Structure",
    "StructurePosition",
    "Tied",
    "TiedDiag",
    "TiedSpherical",
    "Triangular",
    "conjugate",
]

COVARIANCES: dict[str, type[Covariance]] = {
    "full": Full,
    "tied": Tied,
    "diag": Diag,
    "low_rank": FactorAnalytic,
    "tied_diag": TiedDiag,
    "spherical": Spherical,
    "tied_spherical": TiedSpherical,
}

# What a mixture can be given: one of these, or the choice between them.
COVARIANCE_CHOICES: dict[str, type[Covariance]] = {"auto": AutoCovariance, **COVARIANCES}
