"""One fit from one start, and what scikit-learn wants to know of it: bounds, iterations, convergence."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from vigmm.api import fit
from vigmm.core.outcome import Status
from vigmm.fitted import Fit
from vigmm.posterior import Posterior
from vigmm.sklearn.choices import Choices
from vigmm.sklearn.padding import Padded
from vigmm.train import ModelStart, Progress, Start

__all__ = ["Trained", "train_once"]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a fit from one start leaves.

    Args:
        fit: the fit.
        bounds: the ELBO after every iteration, in nats and in the units of the data.
        passes: iterations done.
        converged: whether the last iteration changed the bound by less than the tolerance, or noise hides it.
    """

    fit: Fit
    bounds: list[float]
    passes: int
    converged: bool


def train_once(
    source: Padded,
    weight: Float[np.ndarray, " M"],
    choices: Choices,
    start: Start | Posterior,
    *,
    passes: int,
    seed: int,
    dtype: str,
    before: float | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Fit once.

    Args:
        source: the rows.
        weight: their weights.
        choices: the Specs.
        start: where to start; a posterior is gone on with.
        passes: how many there may be, 0 for the start alone.
        seed: fixes what is random.
        dtype: of the computation.
        before: bound of the posterior that is gone on with.
        progress: told how the run advances.
    """
    first: Start = ModelStart(posterior=start, divide=False) if isinstance(start, Posterior) else start
    now = choices if passes > 0 else choices.still()
    found = fit(
        source, model=now.model, family=now.family, estimator=now.estimator, optimizer=now.optimizer,
        start=first, train=now.train, moves=now.moves, seed=seed,
        dtype="float64" if dtype == "float64" else "float32", sample_weight=weight, progress=progress,
    )  # fmt: skip
    if passes == 0:
        return Trained(fit=found, bounds=[], passes=0, converged=False)
    per_pass = now.train.sampler.steps_per_epoch(len(source))
    bounds = _bounds(found.metrics["elbo"], found.elbo.elbo, per_pass)
    converged = found.outcome.status is Status.CONVERGED
    if choices.whole:
        chain = bounds if before is None else [before, *bounds]
        change = abs(chain[-1] - chain[-2]) if len(chain) > 1 else math.inf
        converged = converged or change / float(weight.sum()) < now.train.tolerance
    return Trained(
        fit=found, bounds=bounds, passes=math.ceil(found.outcome.step / per_pass), converged=converged
    )


def _bounds(trace: Float[np.ndarray, " T"], final: float, per_pass: int) -> list[float]:
    """The bound after every pass: a step reports that before it; noisy steps are averaged over a pass."""
    if per_pass == 1:
        return [*trace[1:].tolist(), final]
    ends = range(per_pass, len(trace), per_pass)
    return [*(float(np.mean(trace[end - per_pass : end])) for end in ends), final]
