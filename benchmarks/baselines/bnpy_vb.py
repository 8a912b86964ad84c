"""bnpy's variational Bayes: Dirichlet-process mixture of Gaussians; Python 3.8 only, last released in 2022.

Priors as in its own examples (``sF=0.1``) but with the scale of the data's covariance.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from benchmarks.gaussians import Gaussians, dense
from benchmarks.protocol import Clock, Fitted, Overdue, Point, Problem

__all__ = ["BnpyVb"]


@dataclass(frozen=True)
class BnpyVb:
    """`bnpy.run`.

    Args:
        algorithm: ``VB`` (full batch), ``memoVB`` (memoized, can have moves) or ``soVB`` (stochastic).
        max_iter: laps; one is one pass.
        batches: of a lap of ``memoVB``; those of ``soVB`` have the case's size.
        scale: of the prior's expected covariance, times the data's.
        moves: of ``memoVB``.
    """

    algorithm: str = "VB"
    max_iter: int = 100
    batches: int = 10
    scale: float = 0.1
    moves: str = ""

    environment: ClassVar[str | None] = "bnpy"
    reruns: ClassVar[bool] = False
    costly: ClassVar[bool] = True

    @property
    def budgets(self) -> tuple[float, ...]:
        return (float(self.max_iter),)

    def load(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import bnpy  # type: ignore[import-not-found,unused-ignore]  # noqa: F401

    def tune(self, problem: Problem) -> BnpyVb:
        return self

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        import bnpy

        trace: list[Point] = []
        kept: list[Gaussians] = []

        def after_lap(hmodel: Any = None, lapFrac: float = 0.0, **rest: Any) -> None:
            if lapFrac >= 1 and hmodel is not None:
                kept[:] = [_mixture(hmodel)]
                trace.append(Point(clock.lap(), float(lapFrac), kept[0].log_density))
                if problem.overdue(clock):
                    raise Overdue

        # It imports what it calls after every lap by the name of a file.
        watch = ModuleType("vigmm_bench_watch")
        watch.onLapComplete = after_lap  # type: ignore[attr-defined]
        sys.modules[watch.__name__] = watch

        data = bnpy.data.XData(X=np.asarray(problem.x, np.float64))
        options: dict[str, Any] = {"convergeThr": 0.0} if problem.iterations is not None else {}
        start: dict[str, Any] = {"K": problem.k_max, "initname": "randexamplesbydist"}
        if self.moves:
            start = {**start, "moves": self.moves, "m_startLap": 5, "b_startLap": 2, "b_Kfresh": 4}
        if self.algorithm == "soVB":
            options["nBatch"] = max(1, len(problem.x) // problem.batch_size)
        elif self.algorithm == "memoVB":
            options["nBatch"] = self.batches
        overdue = False
        with tempfile.TemporaryDirectory(prefix="bnpy-") as out, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
                try:
                    model, info = bnpy.run(
                        data,
                        "DPMixtureModel",
                        "DiagGauss" if problem.covariance == "diag" else "Gauss",
                        self.algorithm,
                        output_path=out,
                        nLap=int(passes),
                        nTask=1,
                        sF=self.scale,
                        ECovMat="diagcovdata",
                        doSaveToDisk=bool(self.moves),  # births write to their folder
                        doWriteStdOut=False,
                        seed=problem.seed,
                        customFuncPath=os.path.join(out, watch.__name__),
                        **start,
                        **options,
                    )
                    kept[:] = [_mixture(model)]
                    status = str(info["status"])
                except Overdue:
                    overdue, status = True, "stopped at the deadline"
        done = trace[-1].passes if trace else passes
        notes = {"status": status, "overdue": overdue}
        return kept[0].fitted(done, trace, notes)


def _mixture(model: Any) -> Gaussians:
    count = model.obsModel.K
    weights = np.asarray(model.allocModel.get_active_comp_probs(), np.float64)
    means = np.array([model.obsModel.get_mean_for_comp(k) for k in range(count)])
    covs = np.array([model.obsModel.get_covar_mat_for_comp(k) for k in range(count)])
    return Gaussians(weights / weights.sum(), means, dense(covs))
