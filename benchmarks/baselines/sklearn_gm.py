"""scikit-learn's GaussianMixture: EM from k-means, everything that is not named here at its default."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from benchmarks.baselines.threads import faster
from benchmarks.gaussians import Gaussians, dense
from benchmarks.protocol import Clock, Fitted, Overdue, Point, Problem

__all__ = ["SklearnGm"]


@dataclass(frozen=True)
class SklearnGm:
    """`GaussianMixture`.

    Args:
        max_iter: its iterations; one is one pass.
        threads: BLAS threads; None leaves it to the library, before a run to a trial, as for `SklearnBgm`.
    """

    max_iter: int = 100
    threads: int | None = None

    environment: ClassVar[str | None] = "sklearn"
    reruns: ClassVar[bool] = False
    costly: ClassVar[bool] = True

    @property
    def budgets(self) -> tuple[float, ...]:
        return (float(self.max_iter),)

    def load(self) -> None:
        import sklearn.mixture  # noqa: F401
        import threadpoolctl  # type: ignore[import-untyped,unused-ignore]  # noqa: F401

    def tune(self, problem: Problem) -> SklearnGm:
        """One BLAS thread or all of them, whichever is faster on some of the rows now."""
        if self.threads is not None:
            return self

        def trial(threads: int | None, small: Problem, clock: Clock) -> Fitted:
            return replace(self, threads=threads).fit(small, 3.0, clock)

        return replace(self, threads=faster(trial, problem))

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        trace: list[Point] = []
        kept: list[Gaussians] = []

        class Traced(GaussianMixture):  # type: ignore[misc]
            """Copies the parameters where the progress would be printed, which costs microseconds."""

            def _print_verbose_msg_iter_end(self, n_iter: int, diff_ll: float) -> None:
                now = Gaussians(
                    np.array(self.weights_), np.array(self.means_), dense(np.array(self.covariances_))
                )
                kept[:] = [now]
                trace.append(Point(clock.lap(), float(n_iter), now.log_density))
                if problem.overdue(clock):
                    raise Overdue
                super()._print_verbose_msg_iter_end(n_iter, diff_ll)

        fixed = {"tol": 0.0} if problem.iterations is not None else {}
        model = Traced(
            n_components=problem.k_max,
            covariance_type=problem.covariance,
            max_iter=int(passes),
            random_state=problem.seed,
            **fixed,
        )
        notes = {"converged": False, "overdue": False}
        with threadpool_limits(self.threads), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # recorded in the notes instead
            try:
                model.fit(problem.x)
                notes["converged"] = bool(model.converged_)
                kept[:] = [Gaussians(model.weights_, model.means_, dense(model.covariances_))]
            except Overdue:
                notes["overdue"] = True
        return kept[0].fitted(trace[-1].passes, trace, notes)
