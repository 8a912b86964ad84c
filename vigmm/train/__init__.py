"""The training loop, its start, its stopping rule: everything between data and a posterior."""

from vigmm.train.loop import Progress, Result, Train, train
from vigmm.train.start import STARTS, KMeansStart, Start
from vigmm.train.step import TrainState, first_params

__all__ = [
    "STARTS",
    "KMeansStart",
    "Progress",
    "Result",
    "Start",
    "Train",
    "TrainState",
    "first_params",
    "train",
]
