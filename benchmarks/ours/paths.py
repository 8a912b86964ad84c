"""`vigmm.fit` with the conjugate family (natural gradients) and with the mean-field family (pathwise Adam).

Everything that is not a field here is the library's default, its k-means start and what that costs included.
Passes are those of the main loop: what the start reads comes on top, and its time is in the seconds. The rows
are handed over as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.protocol import Clock, Fitted, Problem

__all__ = ["VigmmNatural", "VigmmPathwise"]


@dataclass(frozen=True)
class VigmmNatural:
    """Stochastic natural gradients on pseudo-counts.

    Args:
        passes: of the main run.
        more: budgets of further runs, for quality against time.
        holdout: share of the training rows kept aside; 0, as the peers keep none.
    """

    passes: float = 2.0
    more: tuple[float, ...] = (1.0, 4.0, 8.0, 16.0)
    holdout: float = 0.0

    @property
    def budgets(self) -> tuple[float, ...]:
        return (self.passes, *self.more)

    @property
    def reruns(self) -> bool:
        return True

    @property
    def costly(self) -> bool:
        return False

    def load(self) -> None:
        _load()

    def tune(self, problem: Problem) -> VigmmNatural:
        return self

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        import vigmm

        return _fit(
            problem, passes, self.holdout, family=vigmm.Conjugate(), estimator=vigmm.Natural(), optimizer=None
        )


@dataclass(frozen=True)
class VigmmPathwise:
    """Reparameterisation gradients and Adam.

    Args:
        passes: of the main run.
        more: budgets of further runs, for quality against time.
        holdout: share of the training rows kept aside; 0, as the peers keep none.
        rate: Adam's peak rate.
        num_samples: Monte-Carlo samples of a step.
    """

    passes: float = 8.0
    more: tuple[float, ...] = (2.0, 4.0, 16.0)
    holdout: float = 0.0
    rate: float = 0.01
    num_samples: int = 1

    @property
    def budgets(self) -> tuple[float, ...]:
        return (self.passes, *self.more)

    @property
    def reruns(self) -> bool:
        return True

    @property
    def costly(self) -> bool:
        return False

    def load(self) -> None:
        _load()

    def tune(self, problem: Problem) -> VigmmPathwise:
        return self

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        import vigmm

        estimator = vigmm.Pathwise(num_samples=self.num_samples)
        optimizer = vigmm.Adam(rate=self.rate, decay="cosine")
        return _fit(
            problem, passes, self.holdout, family=vigmm.MeanField(), estimator=estimator, optimizer=optimizer
        )


def _load() -> None:
    import jax

    import vigmm

    vigmm.fit  # noqa: B018  the package is lazy: this imports the library
    jax.devices()


def _fit(problem: Problem, passes: float, holdout: float, **parts: Any) -> Fitted:
    """One call of the public API, and what it says about itself."""
    import vigmm

    model = vigmm.Mixture(num_components=problem.k_max, weights=vigmm.DirichletProcess(concentration=1.0))
    # Without min_steps=1 the library would turn every small budget into its least number of steps.
    train = vigmm.Train(batch_size=problem.batch_size, passes=passes, min_steps=1, holdout=holdout)
    start = vigmm.KMeansStart(rows=20_000)
    fit = vigmm.fit(problem.x, model=model, start=start, train=train, seed=problem.seed, **parts)
    steps_per_pass = -(-len(problem.x) // problem.batch_size)
    steps = len(fit.metrics["step"])
    notes: dict[str, Any] = {
        "outcome": str(fit.outcome.status),
        "steps": steps,
        "elbo_per_row": fit.elbo.per_row,
        "phase_seconds": {name: round(value, 4) for name, value in fit.manifest["seconds"].items()},
    }
    return Fitted(
        lambda rows: np.asarray(fit.posterior.log_predictive(rows), np.float64),
        lambda: np.asarray(fit.posterior.weights, np.float64),
        steps / steps_per_pass,
        notes=notes,
    )
