"""The training loop, its start, its stopping rule: everything between data and a posterior."""

from vigmm.train.loop import Progress, Result, Train, train
from vigmm.train.moves import Found, Moves, search
from vigmm.train.plan import default_optimizer, movable, plan
from vigmm.train.settle import settle
from vigmm.train.starts import (
    STARTS,
    KMeansStart,
    LabelsStart,
    MeansStart,
    ModelStart,
    Origin,
    RandomStart,
    Start,
    Started,
)
from vigmm.train.step import TrainState, first_params

__all__ = [
    "STARTS",
    "Found",
    "KMeansStart",
    "LabelsStart",
    "MeansStart",
    "ModelStart",
    "Moves",
    "Origin",
    "Progress",
    "RandomStart",
    "Result",
    "Start",
    "Started",
    "Train",
    "TrainState",
    "default_optimizer",
    "first_params",
    "movable",
    "plan",
    "search",
    "settle",
    "train",
]
