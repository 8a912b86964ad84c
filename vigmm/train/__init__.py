"""The training loop, its start, its stopping rule: everything between data and a posterior."""

from vigmm.train.checkpoint import Checkpointing, Checkpoints, Saved, Snapshot
from vigmm.train.interrupt import Interrupt, Preempted
from vigmm.train.loop import Progress, Result, Train, train
from vigmm.train.moves import Found, Moves, Request, search, search_covariances
from vigmm.train.plan import budget, default_optimizer, movable, plan, sample_size
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
    "Checkpointing",
    "Checkpoints",
    "Found",
    "Interrupt",
    "KMeansStart",
    "LabelsStart",
    "MeansStart",
    "ModelStart",
    "Moves",
    "Origin",
    "Preempted",
    "Progress",
    "RandomStart",
    "Request",
    "Result",
    "Saved",
    "Snapshot",
    "Start",
    "Started",
    "Train",
    "TrainState",
    "budget",
    "default_optimizer",
    "first_params",
    "movable",
    "plan",
    "sample_size",
    "search",
    "search_covariances",
    "settle",
    "train",
]
