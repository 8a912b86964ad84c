"""tgmm: EM in PyTorch on the CPU, its own start and stopping rule."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchmarks.baselines.chunks import in_chunks
from benchmarks.gaussians import Gaussians, dense
from benchmarks.protocol import Clock, Fitted, Problem

__all__ = ["TgmmEm"]


@dataclass(frozen=True)
class TgmmEm:
    """`tgmm.GaussianMixture`, going on from itself.

    Args:
        max_iter: the most iterations.
        chunk: iterations between two models of the trace.
    """

    max_iter: int = 100
    chunk: int = 5

    environment: ClassVar[str | None] = "tgmm"
    reruns: ClassVar[bool] = False
    costly: ClassVar[bool] = True

    @property
    def budgets(self) -> tuple[float, ...]:
        return (float(self.max_iter),)

    def load(self) -> None:
        import tgmm  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
        import torch  # type: ignore[import-not-found,unused-ignore]  # noqa: F401

    def tune(self, problem: Problem) -> TgmmEm:
        return self

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        import tgmm
        import torch

        x = torch.from_numpy(problem.x)
        options = {"tol": 1e-30} if problem.iterations is not None else {}  # it refuses 0
        model = tgmm.GaussianMixture(
            n_components=problem.k_max,
            covariance_type=problem.covariance,
            random_state=problem.seed,
            device="cpu",
            **options,
        )

        def advance(count: int) -> tuple[int, bool, Gaussians]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a chunk did not converge is no news
                model.fit(x, max_iter=count, warm_start=True)
            parts = [
                np.asarray(part.detach().numpy(), np.float64)
                for part in (model.weights_, model.means_, model.covariances_)
            ]
            now = Gaussians(parts[0], parts[1], dense(parts[2]))
            return int(model.n_iter_), bool(model.converged_), now

        run = in_chunks(advance, problem, passes, clock, self.chunk)
        return run.final.fitted(run.iterations, run.trace, {"converged": run.converged})
