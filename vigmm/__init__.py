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
    "AutoCovariance": "vigmm.models",
    "Automatic": "vigmm.optim",
    "Averaged": "vigmm.optim",
    "Blocks": "vigmm.families",
    "Conjugate": "vigmm.families",
    "DataError": "vigmm.core.errors",
    "DataFile": "vigmm.data.sources",
    "Diag": "vigmm.models",
    "Diagnosis": "vigmm.posterior",
    "Dirichlet": "vigmm.models",
    "DirichletProcess": "vigmm.models",
    "FactorAnalytic": "vigmm.models",
    "Fisher": "vigmm.optim",
    "Fit": "vigmm.fitted",
    "Flow": "vigmm.families",
    "Full": "vigmm.models",
    "FullRank": "vigmm.families",
    "Gamma": "vigmm.models",
    "Gaussian": "vigmm.models",
    "Importance": "vigmm.estimators",
    "Independent": "vigmm.models",
    "KMeansStart": "vigmm.train",
    "LabelsStart": "vigmm.train",
    "LowRank": "vigmm.families",
    "MeanField": "vigmm.families",
    "MeansStart": "vigmm.train",
    "Memoized": "vigmm.optim",
    "Mixture": "vigmm.models",
    "ModelStart": "vigmm.train",
    "Moves": "vigmm.train",
    "Natural": "vigmm.estimators",
    "Noise": "vigmm.models",
    "NormalWishart": "vigmm.models",
    "Outcome": "vigmm.core.outcome",
    "Pathwise": "vigmm.estimators",
    "PitmanYor": "vigmm.models",
    "RandomStart": "vigmm.train",
    "Posterior": "vigmm.posterior",
    "RobbinsMonro": "vigmm.optim",
    "Score": "vigmm.estimators",
    "Sgd": "vigmm.optim",
    "SpecError": "vigmm.core.errors",
    "Spherical": "vigmm.models",
    "Status": "vigmm.core.outcome",
    "StudentT": "vigmm.models",
    "Tied": "vigmm.models",
    "TiedDiag": "vigmm.models",
    "TiedSpherical": "vigmm.models",
    "Train": "vigmm.train",
    "VigmmError": "vigmm.core.errors",
    "distribution": "vigmm.models",
    "fit": "vigmm.api",
    "fit_numpyro": "vigmm.interop",
    "from_numpyro": "vigmm.interop",
    "load": "vigmm.posterior",
    "load_numpyro": "vigmm.interop",
    "to_arviz": "vigmm.interop",
    "to_numpyro": "vigmm.interop",
    "to_numpyro_guide": "vigmm.interop",
    "to_sklearn": "vigmm.interop",
}

__all__ = [
    "Adam",
    "AutoCovariance",
    "Automatic",
    "Averaged",
    "Blocks",
    "Conjugate",
    "DataError",
    "DataFile",
    "Diag",
    "Diagnosis",
    "Dirichlet",
    "DirichletProcess",
    "FactorAnalytic",
    "Fisher",
    "Fit",
    "Flow",
    "Full",
    "FullRank",
    "Gamma",
    "Gaussian",
    "Importance",
    "Independent",
    "KMeansStart",
    "LabelsStart",
    "LowRank",
    "MeanField",
    "MeansStart",
    "Memoized",
    "Mixture",
    "ModelStart",
    "Moves",
    "Natural",
    "Noise",
    "NormalWishart",
    "Outcome",
    "Pathwise",
    "PitmanYor",
    "Posterior",
    "RandomStart",
    "RobbinsMonro",
    "Score",
    "Sgd",
    "SpecError",
    "Spherical",
    "Status",
    "StudentT",
    "Tied",
    "TiedDiag",
    "TiedSpherical",
    "Train",
    "VigmmError",
    "__version__",
    "distribution",
    "fit",
    "fit_numpyro",
    "from_numpyro",
    "load",
    "load_numpyro",
    "to_arviz",
    "to_numpyro",
    "to_numpyro_guide",
    "to_sklearn",
]

if TYPE_CHECKING:
    from vigmm.api import fit
    from vigmm.core.errors import DataError, SpecError, VigmmError
    from vigmm.core.outcome import Outcome, Status
    from vigmm.data.sources import DataFile
    from vigmm.estimators import Importance, Natural, Pathwise, Score
    from vigmm.families import Blocks, Conjugate, Flow, FullRank, LowRank, MeanField
    from vigmm.fitted import Fit
    from vigmm.interop import (
        fit_numpyro,
        from_numpyro,
        load_numpyro,
        to_arviz,
        to_numpyro,
        to_numpyro_guide,
        to_sklearn,
    )
    from vigmm.models import (
        AutoCovariance,
        Diag,
        Dirichlet,
        DirichletProcess,
        FactorAnalytic,
        Full,
        Gamma,
        Gaussian,
        Independent,
        Mixture,
        Noise,
        NormalWishart,
        PitmanYor,
        Spherical,
        StudentT,
        Tied,
        TiedDiag,
        TiedSpherical,
        distribution,
    )
    from vigmm.optim import Adam, Automatic, Averaged, Fisher, RobbinsMonro, Sgd
    from vigmm.posterior import Diagnosis, Posterior, load
    from vigmm.train import KMeansStart, LabelsStart, MeansStart, ModelStart, Moves, RandomStart, Train


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'vigmm' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
