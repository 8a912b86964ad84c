"""scikit-learn's `BayesianGaussianMixture` with vigmm's engine. Needs scikit-learn: ``vigmm[sklearn]``."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from vigmm.core.errors import VigmmError

__all__ = ["BayesianGaussianMixture", "SklearnMissingError"]

if TYPE_CHECKING:
    from vigmm.sklearn.estimator import BayesianGaussianMixture


class SklearnMissingError(VigmmError, ImportError):
    """scikit-learn is not installed."""


def __getattr__(name: str) -> Any:
    """Import the estimator on first use (PEP 562), so that what is missing can be said in words."""
    if name != "BayesianGaussianMixture":
        raise AttributeError(f"module 'vigmm.sklearn' has no attribute {name!r}")
    if importlib.util.find_spec("sklearn") is None:
        raise SklearnMissingError("vigmm.sklearn needs scikit-learn; pip install 'vigmm[sklearn]'")
    from vigmm.sklearn.estimator import BayesianGaussianMixture

    globals()[name] = BayesianGaussianMixture
    return BayesianGaussianMixture
