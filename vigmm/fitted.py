"""What a fit leaves, and what can be asked of it afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vigmm.core.outcome import Outcome
from vigmm.data.protocol import evenly_spaced
from vigmm.data.sampler import Rows
from vigmm.data.sources import Source
from vigmm.estimators import Objective
from vigmm.models import Prior
from vigmm.posterior import Diagnosis, ElboReport, Posterior, diagnose
from vigmm.posterior.agreement import agreement

__all__ = ["Context", "Fit"]

# Rows that predictive checks look at.
_CHECKED_ROWS = 2_000


@dataclasses.dataclass(frozen=True)
class Context:
    """What a finished fit needs to be looked at again.

    Args:
        objective: model, family and estimator.
        batch_size: rows per step.
        prior: hyperparameters, with the missingness patterns of the rows that were fitted.
        rows: reads the standardised rows that were fitted.
        refit: the same fit from another seed.
    """

    objective: Objective
    batch_size: int
    prior: Prior
    rows: Callable[[], Rows]
    refit: Callable[[int], Fit]


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a fit leaves.

    Args:
        posterior: predictions, draws, summary; what `save` writes.
        outcome: how the run ended; check `outcome.ok` before trusting anything else.
        elbo: the final bound of the training rows, in nats and in the units of the data, with its
            standard error and terms.
        holdout: mean log predictive density of the held-out rows with its standard error, or None.
        metrics: per-step and per-chunk values by name, in the units of the data.
        manifest: everything needed to understand and repeat the run, JSON-ready.
        data: the rows that were fitted.
        context: what `diagnose` needs.
    """

    posterior: Posterior
    outcome: Outcome
    elbo: ElboReport
    holdout: tuple[float, float] | None
    metrics: dict[str, np.ndarray]
    manifest: dict[str, Any]
    data: Source
    context: Context = dataclasses.field(repr=False)

    def diagnose(self, *, num_draws: int | None = None, restarts: int = 0, seed: int = 0) -> Diagnosis:
        """How far to trust the fit: k-hat, evidence, gradient, predictive checks, each with a sentence.

        Args:
            num_draws: draws for importance weights, each read against all rows; by default what a few seconds
                allow.
            restarts: further fits, from other seeds, whose bounds and partitions are compared with this
                one's.
            seed: fixes the draws.
        """
        objective, rows = self.context.objective, self.context.rows()
        sample = evenly_spaced(self.data, _CHECKED_ROWS)
        found = diagnose(
            objective,
            dataclasses.replace(self.posterior, prior=self.context.prior),
            rows,
            sample,
            self.elbo,
            batch_size=self.context.batch_size,
            num_draws=num_draws,
            seed=seed,
        )
        if restarts == 0:
            return found
        others = [self.context.refit(seed + 1 + i) for i in range(restarts)]
        extra = agreement([self, *others], sample)
        return dataclasses.replace(found, findings=(*found.findings, extra))

    def save(self, path: str | Path) -> None:
        """Write the posterior to a folder; `vigmm.load` reads it back."""
        self.posterior.save(path)
