"""Other libraries: models handed to NumPyro, models taken from it, and q as a NumPyro guide."""

from vigmm.interop.export import sites, to_numpyro
from vigmm.interop.fitting import NumpyroFit, fit_numpyro
from vigmm.interop.guides import PositionDistribution, as_distribution, guide
from vigmm.interop.numpyro_model import NumpyroModel, from_numpyro

__all__ = [
    "NumpyroFit",
    "NumpyroModel",
    "PositionDistribution",
    "as_distribution",
    "fit_numpyro",
    "from_numpyro",
    "guide",
    "sites",
    "to_numpyro",
]
