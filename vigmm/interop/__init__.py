"""Other libraries: models handed to NumPyro, models taken from it, and q as a NumPyro guide."""

from vigmm.interop.arviz_data import to_arviz
from vigmm.interop.export import sites, to_numpyro
from vigmm.interop.fitting import fit_numpyro
from vigmm.interop.guides import PositionDistribution, as_distribution, to_numpyro_guide
from vigmm.interop.numpyro_fit import NumpyroFit, load_numpyro
from vigmm.interop.numpyro_model import NumpyroModel, from_numpyro
from vigmm.interop.onnx_model import to_onnx
from vigmm.interop.sklearn_model import to_sklearn
from vigmm.interop.stablehlo import to_stablehlo, write_stablehlo

__all__ = [
    "NumpyroFit",
    "NumpyroModel",
    "PositionDistribution",
    "as_distribution",
    "fit_numpyro",
    "from_numpyro",
    "load_numpyro",
    "sites",
    "to_arviz",
    "to_numpyro",
    "to_numpyro_guide",
    "to_onnx",
    "to_sklearn",
    "to_stablehlo",
    "write_stablehlo",
]
