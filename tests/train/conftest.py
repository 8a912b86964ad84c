"""One small problem and its compiled programs, shared by the tests of the loop."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.core import rng
from vigmm.data.sampler import Rows
from vigmm.estimators import Natural, Objective, Pathwise
from vigmm.families import Conjugate, ConjugateParams, MeanField
from vigmm.models import DataScale, Mixture, Prior
from vigmm.optim import Adam, RobbinsMonro
from vigmm.train import KMeansStart, Train, first_params


@dataclasses.dataclass
class Problem:
    model: Mixture
    prior: Prior
    data: Rows
    holdout: Rows
    start: ConjugateParams

    def setting(self, name: str) -> tuple[Objective, Any, Any]:
        """Objective, optimiser and first parameters."""
        if name == "natural":
            objective = Objective(model=self.model, family=Conjugate(), estimator=Natural())
            return objective, RobbinsMonro(), self.start
        objective = Objective(model=self.model, family=MeanField(), estimator=Pathwise())
        return objective, Adam(), first_params(self.model, MeanField(), self.prior, self.start, self.prior)


def rows(seed: int, n: int = 600) -> np.ndarray:
    """Three clusters in two dimensions."""
    draw = np.random.default_rng(seed)
    centres = np.array([[-2.0, 0.0], [2.0, 1.0], [0.0, -2.0]])
    return (centres[draw.integers(3, size=n)] + 0.4 * draw.normal(size=(n, 2))).astype(np.float32)


@pytest.fixture(scope="session")
def config() -> Train:
    return Train(batch_size=100, passes=4, min_steps=1, chunk_steps=6, tolerance=0.0, num_draws=2)


@pytest.fixture(scope="session")
def problem(config: Train) -> Problem:
    model = Mixture(num_components=4)
    scale = DataScale(mean=np.zeros(2), cov=2.0 * np.eye(2), center=np.zeros(2), scale=np.ones(2))
    prior = model.build_prior(scale, dtype=jnp.float32)
    data = Rows(x=jnp.asarray(rows(0)), weight=jnp.ones(600, jnp.float32))
    holdout = Rows(x=jnp.asarray(rows(1, 50)), weight=jnp.ones(50, jnp.float32))
    start = KMeansStart(rows=300, restarts=2, steps=20).first(model, prior, data, rng.root_key(0))
    return Problem(model, prior, data, holdout, start.params)
