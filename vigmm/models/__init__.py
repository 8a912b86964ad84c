"""What is assumed of the data: mixture, weight priors, covariance structures, component priors."""

from vigmm.models.covariance import COVARIANCES, Full
from vigmm.models.mixture import Components, Mixture, Position, Prior
from vigmm.models.priors import PRIORS, DataScale, NormalWishart
from vigmm.models.weights import WEIGHTS, Dirichlet, DirichletProcess, Sticks

__all__ = [
    "COVARIANCES",
    "PRIORS",
    "WEIGHTS",
    "Components",
    "DataScale",
    "Dirichlet",
    "DirichletProcess",
    "Full",
    "Mixture",
    "NormalWishart",
    "Position",
    "Prior",
    "Sticks",
]
