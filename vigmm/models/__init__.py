"""What is assumed of the data: mixture, weights, covariance structures, priors and likelihoods."""

from vigmm.models.covariance import (
    COVARIANCE_CHOICES,
    COVARIANCES,
    AutoCovariance,
    Diag,
    FactorAnalytic,
    Full,
    Spherical,
    Tied,
    TiedDiag,
    TiedSpherical,
)
from vigmm.models.likelihoods import LIKELIHOODS, Gaussian, StudentT
from vigmm.models.mixture import Components, Mixture, Noise, Position, Prior
from vigmm.models.priors import PRIORS, DataScale, Distribution, Independent, NormalWishart, distribution
from vigmm.models.sticks import Sticks
from vigmm.models.weights import WEIGHTS, Dirichlet, DirichletProcess, Gamma, PitmanYor

__all__ = [
    "COVARIANCES",
    "COVARIANCE_CHOICES",
    "LIKELIHOODS",
    "PRIORS",
    "WEIGHTS",
    "AutoCovariance",
    "Components",
    "DataScale",
    "Diag",
    "Dirichlet",
    "DirichletProcess",
    "Distribution",
    "FactorAnalytic",
    "Full",
    "Gamma",
    "Gaussian",
    "Independent",
    "Mixture",
    "Noise",
    "NormalWishart",
    "PitmanYor",
    "Position",
    "Prior",
    "Spherical",
    "Sticks",
    "StudentT",
    "Tied",
    "TiedDiag",
    "TiedSpherical",
    "distribution",
]
