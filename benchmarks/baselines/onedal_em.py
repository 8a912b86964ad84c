"""oneDAL's EM through daal4py: the strongest EM on a CPU; it has no start of its own that is any good.

Single precision, which is twice as fast; where that fails, double. Its rule is the default threshold. A start
costs what `seeds.seeded` does, on the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from benchmarks.baselines.chunks import in_chunks
from benchmarks.baselines.seeds import seeded
from benchmarks.gaussians import Gaussians, dense
from benchmarks.protocol import Clock, Fitted, Problem

__all__ = ["OneDalEm"]


@dataclass(frozen=True)
class OneDalEm:
    """`daal4py.em_gmm` from k-means++ seeds.

    Args:
        max_iter: the most iterations.
        chunk: iterations between two models of the trace.
        kind: ``float`` or ``double``.
    """

    max_iter: int = 100
    chunk: int = 5
    kind: str = "float"

    environment: ClassVar[str | None] = "onedal"
    reruns: ClassVar[bool] = False
    costly: ClassVar[bool] = False

    @property
    def budgets(self) -> tuple[float, ...]:
        return (float(self.max_iter),)

    def load(self) -> None:
        import daal4py  # type: ignore[import-not-found,unused-ignore]  # noqa: F401

    def tune(self, problem: Problem) -> OneDalEm:
        return self

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        start = seeded(problem.x, problem.k_max, problem.seed)
        try:
            return self._fit(problem, passes, clock, start, self.kind)
        except RuntimeError as error:
            if self.kind == "double":
                raise
            made = self._fit(problem, passes, clock, start, "double")
            return replace(made, notes={**made.notes, "float_failed": str(error)[:200]})

    def _fit(self, problem: Problem, passes: float, clock: Clock, start: Gaussians, kind: str) -> Fitted:
        import daal4py

        dtype = np.float32 if kind == "float" else np.float64
        x = np.ascontiguousarray(problem.x, dtype)
        diag = problem.covariance == "diag"
        covs = [np.diag(one)[None] if diag else one for one in start.covs]
        now: list[Any] = [start.weights[None], start.means, covs]
        options: dict[str, Any] = {"covarianceStorage": "diagonal"} if diag else {}
        if problem.iterations is not None:
            options["accuracyThreshold"] = 0.0

        def advance(count: int) -> tuple[int, bool, Gaussians]:
            weights, means, covs = now
            algorithm = daal4py.em_gmm(problem.k_max, fptype=kind, maxIterations=count, **options)
            given = [np.ascontiguousarray(cov, dtype) for cov in covs]
            made = algorithm.compute(
                x, np.ascontiguousarray(weights, dtype), np.ascontiguousarray(means, dtype), given
            )
            now[:] = made.weights, made.means, made.covariances
            done = int(made.nIterations[0, 0])
            parts = np.stack([np.asarray(cov, np.float64) for cov in made.covariances])
            model = Gaussians(
                np.asarray(made.weights, np.float64).ravel(),
                np.asarray(made.means, np.float64),
                dense(parts[:, 0] if diag else parts),
            )
            if not (np.isfinite(model.weights).all() and np.isfinite(model.covs).all()):
                raise RuntimeError("em_gmm gave a model that is not finite")
            return done, done < count, model

        run = in_chunks(advance, problem, passes, clock, self.chunk)
        notes = {"converged": run.converged, "precision": kind}
        return run.final.fitted(run.iterations, run.trace, notes)
