"""Nasty data through `vigmm.fit`: one Spec and few shapes for nearly all of it: little is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

import vigmm
from vigmm.core.outcome import Status

ROWS, DIM = 400, 10

MODEL = vigmm.Mixture(num_components=8)
START = vigmm.KMeansStart(restarts=3, steps=50, batch_size=200)
# Every step reads all rows: coordinate ascent, whose bound never falls.
FULL = vigmm.Train(batch_size=ROWS, min_steps=200, passes=1, holdout=0.0)
# The same Spec for ten times the rows, in ten batches.
BATCHES = vigmm.Train(batch_size=ROWS, passes=30, min_steps=1, holdout=0.0)


def fit(x: Any, *, model: vigmm.Mixture = MODEL, train: vigmm.Train = FULL, **more: Any) -> vigmm.Fit:
    """All components stay: for every number that moves find, programs would be compiled anew."""
    return vigmm.fit(x, model=model, start=START, train=train, moves=None, **more)


def two_clusters(
    rows: int = ROWS, dim: int = DIM, *, seed: int = 0, apart: float = 10.0
) -> tuple[np.ndarray, np.ndarray]:
    """Two balls of unit sd, `apart` in every column, in turn: rows and labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    return draw.normal(size=(rows, dim)) + apart * labels[:, None], labels


def mixed(fit: vigmm.Fit, x: Any, labels: np.ndarray) -> int:
    """How many rows sit in a component whose most frequent label is not theirs.

    0 where no component mixes two clusters; as many as half of the rows where one component holds all.
    """
    component = fit.posterior.predict(x)
    return sum(
        int(np.sum(component == k)) - int(np.bincount(labels[component == k]).max())
        for k in np.unique(component)
    )


def healthy(fit: vigmm.Fit, x: Any) -> None:
    """Every number that a user can ask for is finite, and the outcome says the truth."""
    posterior = fit.posterior
    for name in ("weights", "means", "covariances"):
        assert np.isfinite(getattr(posterior, name)).all(), name
    assert (posterior.weights >= 0).all()
    assert abs(posterior.weights.sum() - 1.0) < 1e-5
    summary = posterior.summary(num_draws=50)
    for spread in (summary.weight, summary.mean, summary.sd):
        for part in ("mean", "sd", "low", "high"):
            assert np.isfinite(getattr(spread, part)).all()
    assert (summary.sd.low > 0).all()
    str(summary)
    assert np.isfinite(posterior.log_predictive(x)).all()
    responsibilities = posterior.responsibilities(x)
    assert np.isfinite(responsibilities).all()
    # A sum of K float32 that are rounded one by one.
    np.testing.assert_allclose(responsibilities.sum(axis=1), 1.0, atol=1e-5)
    assert np.isfinite([fit.elbo.elbo, fit.elbo.per_row]).all()
    honest(fit)


def honest(fit: vigmm.Fit) -> None:
    """No step was bad, and where the outcome says that the ELBO is still, it was."""
    outcome, metrics = fit.outcome, fit.metrics
    elbo = metrics["elbo_per_row"]
    assert outcome.ok, outcome.message
    assert outcome.bad_steps == 0, outcome.message
    assert outcome.step == len(elbo)
    assert np.isfinite(elbo).all()
    if fit.context.batch_size >= len(fit.data):
        small = np.abs(np.diff(elbo)) < vigmm.Train().tolerance
        still = bool((small[1:] & small[:-1]).any())
        assert still == (outcome.status is Status.CONVERGED), outcome.message


def floor(fit: vigmm.Fit, rows: int) -> np.ndarray:
    """The least variance of each column in any component that the prior allows.

    E[Sigma] = B_n / (nu_n - D - 1) with B_n >= B, in the order of positive definite matrices, and
    nu_n <= nu + N.
    """
    expected = np.diag(np.asarray(fit.manifest["prior"]["expected_covariance"]))
    # nu = D + 2, so that B = E[Sigma].
    return expected / (1.0 + rows)
