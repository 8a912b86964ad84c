"""ELBO estimators: one file and one row of `ESTIMATORS` each."""

from vigmm.estimators.base import Estimate, Estimator, Objective
from vigmm.estimators.importance import Importance
from vigmm.estimators.natural import Natural
from vigmm.estimators.pathwise import Pathwise
from vigmm.estimators.score import Score

__all__ = [
    "ESTIMATORS",
    "Estimate",
    "Estimator",
    "Importance",
    "Natural",
    "Objective",
    "Pathwise",
    "Score",
]

ESTIMATORS: dict[str, type[Estimator]] = {
    "importance": Importance,
    "natural": Natural,
    "pathwise": Pathwise,
    "score": Score,
}
