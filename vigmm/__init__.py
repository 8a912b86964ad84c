"""GPU-accelerated stochastic variational inference for Bayesian Gaussian mixture models.

    import vigmm
    fit = vigmm.fit(x)
    labels = fit.posterior.predict(x)

Everything is loaded on first use: importing vigmm imports no JAX and changes none of its settings.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "Adam": "vigmm.optim",
    "Conjugate": "vigmm.families",
    "DataError": "vigmm.core.errors",
    "DataFile": "vigmm.data.sources",
    "Dirichlet": "vigmm.models",
    "DirichletProcess": "vigmm.models",
    "Fit": "vigmm.api",
    "Full": "vigmm.models",
    "KMeansStart": "vigmm.train",
    "MeanField": "vigmm.families",
    "Mixture": "vigmm.models",
    "Natural": "vigmm.estimators",
    "NormalWishart": "vigmm.models",
    "Outcome": "vigmm.core.outcome",
    "Pathwise": "vigmm.estimators",
    "Posterior": "vigmm.posterior",
    "RobbinsMonro": "vigmm.optim",
    "Sgd": "vigmm.optim",
    "SpecError": "vigmm.core.errors",
    "Status": "vigmm.core.outcome",
    "Train": "vigmm.train",
    "VigmmError": "vigmm.core.errors",
    "fit": "vigmm.api",
    "load": "vigmm.posterior",
}

__all__ = [
    "Adam",
    "Conjugate",
    "DataError",
    "DataFile",
    "Dirichlet",
    "DirichletProcess",
    "Fit",
    "Full",
    "KMeansStart",
    "MeanField",
    "Mixture",
    "Natural",
    "NormalWishart",
    "Outcome",
    "Pathwise",
    "Posterior",
    "RobbinsMonro",
    "Sgd",
    "SpecError",
    "Status",
    "Train",
    "VigmmError",
    "__version__",
    "fit",
    "load",
]

if TYPE_CHECKING:
    from vigmm.api import Fit, fit
    from vigmm.core.errors import DataError, SpecError, VigmmError
    from vigmm.core.outcome import Outcome, Status
    from vigmm.data.sources import DataFile
    from vigmm.estimators import Natural, Pathwise
    from vigmm.families import Conjugate, MeanField
    from vigmm.models import Dirichlet, DirichletProcess, Full, Mixture, NormalWishart
    from vigmm.optim import Adam, RobbinsMonro, Sgd
    from vigmm.posterior import Posterior, load
    from vigmm.train import KMeansStart, Train


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'vigmm' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
