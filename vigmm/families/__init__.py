"""Variational families: one file and one row of `FAMILIES` each."""

from vigmm.families.base import Family
from vigmm.families.conjugate import Conjugate, ConjugateParams
from vigmm.families.meanfield import MeanField, MeanFieldParams

__all__ = ["FAMILIES", "Conjugate", "ConjugateParams", "Family", "MeanField", "MeanFieldParams"]

FAMILIES: dict[str, type[Family]] = {"conjugate": Conjugate, "meanfield": MeanField}
