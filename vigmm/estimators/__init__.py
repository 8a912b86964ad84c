"""ELBO estimators: one file and one row of `ESTIMATORS` each."""

from vigmm.estimators.base import Estimate, Estimator, Objective
from vigmm.estimators.natural import Natural
from vigmm.estimators.pathwise import Pathwise

__all__ = ["ESTIMATORS", "Estimate", "Estimator", "Natural", "Objective", "Pathwise"]

ESTIMATORS: dict[str, type[Estimator]] = {"natural": Natural, "pathwise": Pathwise}
