"""A whole run as one Spec: what a configuration file says, with every default filled in."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Literal

from vigmm.core.struct import part, require, spec
from vigmm.data.sources import DataFile
from vigmm.estimators import ESTIMATORS, Estimator, Objective
from vigmm.families import FAMILIES, Family
from vigmm.models import Mixture
from vigmm.optim import OPTIMIZERS, Optimizer
from vigmm.tracking import TRACKERS, Tracking
from vigmm.train import STARTS, Checkpointing, Moves, Start, Train, plan

__all__ = ["Job", "Output"]


@spec
class Output:
    """Where results go, and which.

    Args:
        folder: the run folder; made anew, with the folders above it.
        overwrite: whether a run folder of that name may be replaced.
        assignments: whether to write the component, its probability and the log density of every row.
        plots: whether to draw pictures (needs matplotlib).
    """

    folder: str = "runs/vigmm"
    overwrite: bool = False
    assignments: bool = True
    plots: bool = True

    def __post_init__(self) -> None:
        require(self.folder.strip() != "", "folder", "the path of a folder", self.folder)


@spec
class Job:
    """Data, model, how to fit it, and where the results go.

    Args:
        data: the rows: a file, a folder of files or a query.
        model: the mixture.
        family: variational family; a row of `FAMILIES`.
        estimator: of the bound and its gradient; a row of `ESTIMATORS`. A configuration that
            names none gets the one that suits its family.
        optimizer: a row of `OPTIMIZERS`; None for the one that suits the estimator and the batches.
        start: where the run starts; a row of `STARTS`.
        train: budget, batches and stopping.
        checkpoints: how often the run is saved, so that one that is broken off can go on.
        moves: how the number of components is searched for; null keeps those that the start made.
        seed: every random choice of the run follows from it.
        dtype: ``float32`` or ``float64``.
        cache: whether compiled programs are kept for later runs, in the user's cache folder or the one that
            the environment variable ``VIGMM_CACHE`` names; no result depends on it.
        track: programs that are told of the run while it goes on; rows of `TRACKERS`.
        output: the run folder.
    """

    data: DataFile
    model: Mixture = field(default_factory=Mixture)
    family: Family = part(FAMILIES, "conjugate")
    estimator: Estimator = part(ESTIMATORS, "natural")
    optimizer: Optimizer | None = field(default=None, metadata={"table": OPTIMIZERS})
    start: Start = part(STARTS, "kmeans")
    train: Train = field(default_factory=Train)
    checkpoints: Checkpointing = field(default_factory=Checkpointing)
    moves: Moves | None = field(default_factory=Moves)
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    cache: bool = True
    track: tuple[Tracking, ...] = field(default=(), metadata={"table": TRACKERS})
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, "seed", "between 0 and 2**32 - 1", self.seed)
        self.estimator.check(self.model, self.family)

    def resolved(self, *, rows: int, dim: int = 1) -> Job:
        """The same job for `rows` rows of `dim` columns, with nothing left open.

        Where each step sees all data there is no noise to average away, so the optimiser may be another.

        Example:
            >>> job = Job(data=DataFile("x.npy"))
            >>> job.resolved(rows=100).optimizer
            Sgd(rate=1.0)
        """
        objective = Objective(model=self.model, family=self.family, estimator=self.estimator)
        optimizer, train = plan(
            objective, self.optimizer, self.train, self.moves,
            rows=self.train.fitted(rows), dim=dim, dtype=self.dtype,
        )  # fmt: skip
        return replace(self, optimizer=optimizer, train=train)

    def steps_per_pass(self, *, rows: int, dim: int = 1) -> int:
        """Steps in which each row is read once; held-out rows are read only where rows are streamed."""
        left = rows if self.train.stream else self.train.fitted(rows)
        batches = None if self.optimizer is None else self.optimizer.batches
        return self.train.sized(left, batches).steps_per_pass(left, dim, self.dtype)
