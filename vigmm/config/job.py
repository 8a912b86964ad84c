"""A whole run as one Spec: what a configuration file says, with every default filled in."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

from vigmm.core.errors import SpecError
from vigmm.core.struct import part, require, spec
from vigmm.data.sources import DataFile
from vigmm.estimators import ESTIMATORS, Estimator
from vigmm.families import FAMILIES, Family
from vigmm.models import Mixture
from vigmm.optim import OPTIMIZERS, Optimizer
from vigmm.train import STARTS, Start, Train

__all__ = ["Job", "Output", "default_kinds"]


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
        data: the file of rows.
        model: the mixture.
        family: variational family; a row of `FAMILIES`.
        estimator: of the bound and its gradient; a row of `ESTIMATORS`. The default depends on the family.
        optimizer: a row of `OPTIMIZERS`. The default depends on the estimator.
        start: where the run starts; a row of `STARTS`.
        train: budget, batches and stopping.
        seed: every random choice of the run follows from it.
        dtype: ``float32`` or ``float64``.
        output: the run folder.
    """

    data: DataFile
    model: Mixture = field(default_factory=Mixture)
    family: Family = part(FAMILIES, "conjugate")
    estimator: Estimator = part(ESTIMATORS, "natural")
    optimizer: Optimizer = part(OPTIMIZERS, "robbins_monro")
    start: Start = part(STARTS, "kmeans")
    train: Train = field(default_factory=Train)
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, "seed", "between 0 and 2**32 - 1", self.seed)
        self.estimator.check(self.model, self.family)


def default_kinds(model: Mixture, family: Family, *, estimator: str | None = None) -> dict[str, str]:
    """The rows that a configuration means when it names no estimator or no optimiser.

    The estimator is the first of `ESTIMATORS` that accepts the model and the family: the natural gradient
    where there is one, else the pathwise. Natural gradients are followed at a Robbins-Monro rate, which is
    what their theory asks for; any other gradient by Adam.

    Args:
        model: the mixture.
        family: the variational family.
        estimator: the estimator's row, if it was named.

    Example:
        >>> from vigmm.families import Conjugate, MeanField
        >>> default_kinds(Mixture(), Conjugate())
        {'estimator': 'natural', 'optimizer': 'robbins_monro'}
        >>> default_kinds(Mixture(), MeanField())
        {'estimator': 'pathwise', 'optimizer': 'adam'}
    """
    chosen = estimator or next((name for name, row in ESTIMATORS.items() if _accepts(row(), model, family)), "natural")
    return {"estimator": chosen, "optimizer": "robbins_monro" if chosen == "natural" else "adam"}


def _accepts(estimator: Any, model: Mixture, family: Family) -> bool:
    try:
        estimator.check(model, family)
    except SpecError:
        return False
    return True


