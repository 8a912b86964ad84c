"""torchgmm: EM in PyTorch Lightning on the CPU, full batch, its own start and stopping rule."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchmarks.gaussians import Gaussians, dense
from benchmarks.protocol import Clock, Fitted, Problem

__all__ = ["TorchgmmEm"]


@dataclass(frozen=True)
class TorchgmmEm:
    """`torchgmm.bayes.GaussianMixture`; it tells nothing on its way.

    Args:
        max_iter: the most iterations.
    """

    max_iter: int = 100

    environment: ClassVar[str | None] = "torchgmm"
    reruns: ClassVar[bool] = False
    costly: ClassVar[bool] = True

    @property
    def budgets(self) -> tuple[float, ...]:
        return (float(self.max_iter),)

    def load(self) -> None:
        import torch  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
        import torchgmm.bayes  # type: ignore[import-not-found,unused-ignore]  # noqa: F401

    def tune(self, problem: Problem) -> TorchgmmEm:
        return self

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        import torch
        from torchgmm.bayes import GaussianMixture

        torch.manual_seed(problem.seed)
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        options = {"convergence_tolerance": 0.0} if problem.iterations is not None else {}
        # Each of its phases (k-means, its moments, EM) may take that long.
        limits = {} if problem.deadline is None else {"max_time": {"seconds": problem.deadline}}
        model = GaussianMixture(
            problem.k_max,
            covariance_type=problem.covariance,
            trainer_params={
                "max_epochs": int(passes),
                "accelerator": "cpu",
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "logger": False,
                **limits,
            },
            **options,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(torch.from_numpy(problem.x))
        inner = model.model_
        parts = [
            np.asarray(part.detach().numpy(), np.float64)
            for part in (inner.component_probs, inner.means, inner.covariances)
        ]
        final = Gaussians(parts[0], parts[1], dense(parts[2]))
        if not np.isfinite(final.means).all():
            raise FloatingPointError("torchgmm gave a model that is not finite")
        notes = {"converged": bool(model.converged_), "iterations": int(model.num_iter_)}
        return final.fitted(float(max(1, model.num_iter_)), notes=notes)
