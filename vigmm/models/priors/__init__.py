"""Component priors: one file and one row of `PRIORS` each."""

from vigmm.models.priors.base import ComponentPrior, DataScale, Frame
from vigmm.models.priors.distribution import Distribution, distribution
from vigmm.models.priors.independent import Independent
from vigmm.models.priors.normal_wishart import NormalWishart

__all__ = [
    "PRIORS",
    "ComponentPrior",
    "DataScale",
    "Distribution",
    "Frame",
    "Independent",
    "NormalWishart",
    "distribution",
]

PRIORS: dict[str, type[ComponentPrior]] = {"independent": Independent, "normal_wishart": NormalWishart}
