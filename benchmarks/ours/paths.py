"""`vigmm.fit` as the quick start has it, and its two engines bare, without the search for components.

Everything that is not a field here is the library's default, its k-means start and what that costs included.
Passes are those of the main loop: what the start reads comes on top, and its time is in the seconds. The rows
are handed over as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from benchmarks.protocol import Array, Clock, Fitted, Problem, Unfit

__all__ = ["VigmmDefault", "VigmmNatural", "VigmmPathwise"]


@dataclass(frozen=True)
class VigmmDefault:
    """`vigmm.fit(x, model=Mixture(num_components=...))`, nothing else said.

    Args:
        passes: said of the library's own rule, which ends the run: it is not handed over.
        file: whether it is given the name of a ``.npy`` file instead of the rows. The rows are in memory all
            the same, before the fit: memory above the imports is what the library itself takes.
    """

    passes: float = 20.0
    file: bool = False

    environment: ClassVar[str | None] = None
    reruns: ClassVar[bool] = True
    costly: ClassVar[bool] = False

    @property
    def budgets(self) -> tuple[float, ...]:
        return (self.passes,)

    def load(self) -> None:
        _load()

    def tune(self, problem: Problem) -> VigmmDefault:
        return self

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        import vigmm

        if problem.iterations is not None:
            raise Unfit("the search decides how many passes are made")
        model = vigmm.Mixture(num_components=problem.k_max, **_covariance(problem))
        rows: Any = problem.path if self.file else problem.x
        return _fitted(vigmm.fit(rows, model=model, seed=problem.seed))


@dataclass(frozen=True)
class VigmmNatural:
    """Natural gradients on pseudo-counts: stochastic, or coordinate ascent where a case fixes the iterations.

    Args:
        passes: of the main run.
        more: budgets of further runs, for quality against time.
        holdout: share of the training rows kept aside; 0, as the peers keep none.
    """

    passes: float = 2.0
    more: tuple[float, ...] = (1.0, 4.0, 8.0, 16.0)
    holdout: float = 0.0

    environment: ClassVar[str | None] = None
    reruns: ClassVar[bool] = True
    costly: ClassVar[bool] = False

    @property
    def budgets(self) -> tuple[float, ...]:
        return (self.passes, *self.more)

    def load(self) -> None:
        _load()

    def tune(self, problem: Problem) -> VigmmNatural:
        return self

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        import vigmm

        parts = {"family": vigmm.Conjugate(), "estimator": vigmm.Natural()}
        return _fit(problem, passes, self.holdout, **parts)


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

    environment: ClassVar[str | None] = None
    reruns: ClassVar[bool] = True
    costly: ClassVar[bool] = False

    @property
    def budgets(self) -> tuple[float, ...]:
        return (self.passes, *self.more)

    def load(self) -> None:
        _load()

    def tune(self, problem: Problem) -> VigmmPathwise:
        return self

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        import vigmm

        estimator = vigmm.Pathwise(num_samples=self.num_samples)
        optimizer = vigmm.Adam(rate=self.rate, decay="cosine")
        parts = {"family": vigmm.MeanField(), "estimator": estimator, "optimizer": optimizer}
        return _fit(problem, passes, self.holdout, **parts)


def _load() -> None:
    import jax

    import vigmm

    vigmm.fit  # noqa: B018  the package is lazy: this imports the library
    jax.devices()


def _covariance(problem: Problem) -> dict[str, Any]:
    from vigmm.models import COVARIANCES

    return {} if problem.covariance == "full" else {"covariance": COVARIANCES[problem.covariance]()}


def _fit(problem: Problem, passes: float, holdout: float, **parts: Any) -> Fitted:
    """One call of the public API, and what it says about itself."""
    import vigmm

    weights = vigmm.DirichletProcess(concentration=1.0)
    model = vigmm.Mixture(num_components=problem.k_max, weights=weights, **_covariance(problem))
    # Without min_steps=1 the library would turn every small budget into its least number of steps.
    train = vigmm.Train(batch_size=problem.batch_size, passes=passes, min_steps=1, holdout=holdout)
    if problem.iterations is not None:
        # One batch and no stopping rule: a pass is an iteration. Small chunks: the last is finished anyway.
        train = vigmm.Train(
            batch_size=len(problem.x), passes=passes, min_steps=1, holdout=holdout, tolerance=0.0,
            chunk_steps=10,
        )  # fmt: skip
    start = vigmm.KMeansStart(rows=20_000)
    fit = vigmm.fit(problem.x, model=model, start=start, train=train, moves=None, seed=problem.seed, **parts)
    return _fitted(fit)


def _fitted(fit: Any) -> Fitted:
    rows = fit.context.rows().x.shape[0]
    steps_per_pass = -(-rows // fit.context.batch_size)
    moves = fit.manifest["notes"].get("moves", {})
    searched = sum(stage.get("passes", 0.0) * stage["rows"] / rows for stage in moves.get("stages", ()))
    notes: dict[str, Any] = {
        "outcome": str(fit.outcome.status),
        "steps": int(fit.outcome.step),
        "passes_of_the_search": round(searched, 2),
        "elbo_per_row": fit.elbo.per_row,
        "phase_seconds": {name: round(value, 4) for name, value in fit.manifest["seconds"].items()},
    }

    def predict(rows: Array) -> Array:
        return np.asarray(fit.posterior.predict(rows))

    return Fitted(
        lambda rows: np.asarray(fit.posterior.log_predictive(rows), np.float64),
        lambda: np.asarray(fit.posterior.weights, np.float64),
        fit.outcome.step / steps_per_pass + searched,
        notes=notes,
        predict=predict,
    )
