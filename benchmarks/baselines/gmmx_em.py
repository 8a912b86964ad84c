"""gmmx: EM in JAX, one compiled loop, from its own k-means start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from benchmarks.baselines.chunks import in_chunks
from benchmarks.gaussians import Gaussians, dense
from benchmarks.protocol import Clock, Fitted, Problem

__all__ = ["GmmxEm"]


@dataclass(frozen=True)
class GmmxEm:
    """`gmmx.EMFitter` from `GaussianMixtureModelJax.from_k_means`.

    Args:
        max_iter: the most iterations.
        chunk: iterations between two models of the trace.
    """

    max_iter: int = 100
    chunk: int = 5

    environment: ClassVar[str | None] = "gmmx"
    reruns: ClassVar[bool] = True
    costly: ClassVar[bool] = True

    @property
    def budgets(self) -> tuple[float, ...]:
        return (float(self.max_iter),)

    def load(self) -> None:
        import gmmx  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
        import jax
        import sklearn.cluster  # noqa: F401

        jax.devices()

    def tune(self, problem: Problem) -> GmmxEm:
        return self

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        import gmmx
        import jax.numpy as jnp
        from gmmx.gmm import CovarianceType  # type: ignore[import-not-found,unused-ignore]

        x = jnp.asarray(problem.x)
        start = gmmx.GaussianMixtureModelJax.from_k_means(
            x,
            n_components=problem.k_max,
            covariance_type=CovarianceType(problem.covariance),
            random_state=problem.seed,
        )
        now: list[Any] = [start]
        options = {"tol": 0.0} if problem.iterations is not None else {}

        def advance(count: int) -> tuple[int, bool, Gaussians]:
            made = gmmx.EMFitter(max_iter=count, **options).fit(x, now[0])
            now[0] = made.gmm
            done = int(made.n_iter)
            covs = np.asarray(made.gmm.covariances.values_numpy, np.float64)
            model = Gaussians(
                np.asarray(made.gmm.weights_numpy, np.float64),
                np.asarray(made.gmm.means_numpy, np.float64),
                dense(covs),
            )
            # A NaN ends its loop as convergence does.
            if not np.isfinite(model.means).all():
                raise FloatingPointError("gmmx gave a model that is not finite")
            return done, done < count, model

        run = in_chunks(advance, problem, passes, clock, self.chunk)
        return run.final.fitted(run.iterations, run.trace, {"converged": run.converged})
