"""Covariance structures: one file and one row of `COVARIANCES` each."""

from vigmm.models.covariance.base import ConjugateCovariance, Covariance, conjugate
from vigmm.models.covariance.full import Full

__all__ = ["COVARIANCES", "ConjugateCovariance", "Covariance", "Full", "conjugate"]

COVARIANCES: dict[str, type[Covariance]] = {"full": Full}
