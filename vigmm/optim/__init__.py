"""Optimisers: Specs that build Optax chains, and transformations of our own."""

from vigmm.optim.automatic import Automatic
from vigmm.optim.judging import SelfJudging
from vigmm.optim.memoized import Memoized
from vigmm.optim.presets import (
    OPTIMIZERS,
    RULES,
    Adam,
    Averaged,
    Fisher,
    Optimizer,
    RobbinsMonro,
    Sgd,
)
from vigmm.optim.transforms import Metric, average_of, average_tail, scale_by_fisher

__all__ = [
    "OPTIMIZERS",
    "RULES",
    "Adam",
    "Automatic",
    "Averaged",
    "Fisher",
    "Memoized",
    "Metric",
    "Optimizer",
    "RobbinsMonro",
    "SelfJudging",
    "Sgd",
    "average_of",
    "average_tail",
    "scale_by_fisher",
]
