"""scikit-learn's BayesianGaussianMixture: full-batch coordinate ascent from k-means.

All settings that are not named here are the defaults. Its `score` is not a predictive density, so the
density is that of the mixture it reports: `weights_`, `means_`, `covariances_`. Its default stopping rule
compares changes of the total bound with 1e-3 and practically never fires on many rows.

The number of BLAS threads is chosen by a short trial (`threads.py`), and recorded.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from benchmarks.baselines.threads import faster
from benchmarks.gaussians import Gaussians, dense
from benchmarks.protocol import Array, Clock, Fitted, Overdue, Point, Problem

__all__ = ["SklearnBgm"]


@dataclass(frozen=True)
class SklearnBgm:
    """`BayesianGaussianMixture` with a Dirichlet-process prior and full covariances.

    Args:
        max_iter: its iterations; one is one pass.
        keep_every: iterations between two models of the trace.
        threads: BLAS threads; None leaves it to the library (all cores) or, before a run, to the trial.
    """

    max_iter: int = 100
    keep_every: int = 5
    threads: int | None = None

    environment: ClassVar[str | None] = "sklearn"
    reruns: ClassVar[bool] = False  # nothing is compiled
    costly: ClassVar[bool] = True

    @property
    def budgets(self) -> tuple[float, ...]:
        return (float(self.max_iter),)

    def load(self) -> None:
        import sklearn.mixture  # noqa: F401
        import threadpoolctl  # type: ignore[import-untyped,unused-ignore]  # noqa: F401

    def tune(self, problem: Problem) -> SklearnBgm:
        """One BLAS thread or all of them, whichever is faster on some of the rows now."""
        if self.threads is not None:
            return self

        def trial(threads: int | None, small: Problem, clock: Clock) -> Fitted:
            return replace(self, threads=threads, keep_every=1).fit(small, 3.0, clock)

        return replace(self, threads=faster(trial, problem))

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import BayesianGaussianMixture
        from threadpoolctl import threadpool_limits

        trace: list[Point] = []
        kept: list[Gaussians] = []
        keep_every = self.keep_every

        class Traced(BayesianGaussianMixture):  # type: ignore[misc]
            """Copies the parameters where the progress would be printed, which costs microseconds."""

            def _print_verbose_msg_iter_end(self, n_iter: int, diff_ll: float) -> None:
                overdue = problem.overdue(clock)
                if n_iter % keep_every == 0 or n_iter < keep_every or overdue:
                    kept[:] = [_mixture(self)]
                    trace.append(Point(clock.lap(), float(n_iter), kept[0].log_density))
                if overdue:
                    raise Overdue
                super()._print_verbose_msg_iter_end(n_iter, diff_ll)

        fixed = {"tol": 0.0} if problem.iterations is not None else {}
        model = Traced(
            n_components=problem.k_max,
            covariance_type=problem.covariance,
            weight_concentration_prior_type="dirichlet_process",
            max_iter=int(passes),
            random_state=problem.seed,
            **fixed,
        )
        notes: dict[str, Any] = {"converged": False, "overdue": False}
        with threadpool_limits(self.threads), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # recorded in the notes instead
            try:
                model.fit(problem.x)
            except Overdue:
                notes["overdue"] = True
                done = trace[-1].passes
            else:
                kept[:] = [Gaussians(model.weights_, model.means_, dense(model.covariances_))]
                done = float(model.n_iter_)
                notes |= {"converged": bool(model.converged_), "lower_bound": float(model.lower_bound_)}
        notes["concentration"] = float(model.weight_concentration_prior_)
        return kept[0].fitted(done, trace, notes)


def _mixture(model: Any) -> Gaussians:
    """The mixture in the middle of a fit; `weights_` is set at its end only, so it is computed as there."""
    a, b = (np.asarray(part, np.float64) for part in model.weight_concentration_)
    weights: Array = a / (a + b) * np.concatenate([[1.0], np.cumprod(b / (a + b))[:-1]])
    return Gaussians(weights / weights.sum(), np.array(model.means_), dense(np.array(model.covariances_)))
