"""`vigmm.fit`: from rows to a posterior in one call."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float

from vigmm.core import rng
from vigmm.core.outcome import Outcome
from vigmm.core.precision import precision
from vigmm.data.device import holdout_split, to_rows
from vigmm.data.moments import Moments, Standardizer, compute_moments
from vigmm.data.sources import ArraySource, DataFile, Source, check_rows, open_source
from vigmm.estimators import ESTIMATORS, Estimator, Objective
from vigmm.families import Conjugate, Family
from vigmm.manifest import describe
from vigmm.models import DataScale, Mixture
from vigmm.optim import OPTIMIZERS, Optimizer
from vigmm.posterior import ElboReport, Posterior
from vigmm.posterior import elbo as evaluate_elbo
from vigmm.train import KMeansStart, Progress, Start, Train, first_params
from vigmm.train import train as run_training
from vigmm.train.interrupt import Interrupt

__all__ = ["Fit", "as_source", "default_estimator", "default_optimizer", "fit"]


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a fit leaves.

    Args:
        posterior: predictions, draws, summary; what `save` writes.
        outcome: how the run ended; check `outcome.ok` before trusting anything else.
        elbo: the final bound of the training rows, in nats and in the units of the data, with its
            standard error and terms.
        holdout: mean log predictive density of the held-out rows with its standard error, or None.
        metrics: per-step and per-chunk values by name, in the units of the data.
        manifest: everything needed to understand and repeat the run, JSON-ready.
        data: the rows that were fitted.
    """

    posterior: Posterior
    outcome: Outcome
    elbo: ElboReport
    holdout: tuple[float, float] | None
    metrics: dict[str, np.ndarray]
    manifest: dict[str, Any]
    data: Source

    def save(self, path: str | Path) -> None:
        """Write the posterior to a folder; `vigmm.load` reads it back."""
        self.posterior.save(path)


def default_estimator(family: Family) -> Estimator:
    """The estimator of a user who names only the family."""
    return ESTIMATORS[family.default_estimator]()


def default_optimizer(estimator: Estimator, *, full_batch: bool) -> Optimizer:
    """The optimiser of a user who names none; a full batch has no noise to average away."""
    return OPTIMIZERS[estimator.default_optimizer[full_batch]]()


def as_source(data: Any, columns: tuple[str, ...] | None = None) -> Source:
    """Arrays, tables, paths, `DataFile` Specs and sources alike, as a source."""
    if isinstance(data, str | Path):
        data = DataFile(str(data), columns=columns)
    if isinstance(data, DataFile):
        return open_source(data)
    if all(hasattr(data, name) for name in ("dim", "fingerprint", "columns", "name")):
        source: Source = data
        return source
    return ArraySource(data, columns=columns)


def fit(
    data: Any,
    *,
    model: Mixture | None = None,
    family: Family | None = None,
    estimator: Estimator | None = None,
    optimizer: Optimizer | None = None,
    start: Start | None = None,
    train: Train | None = None,
    seed: int = 0,
    dtype: Literal["float32", "float64"] = "float32",
    sample_weight: Float[np.ndarray, " N"] | None = None,
    columns: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Fit a Bayesian Gaussian mixture by stochastic variational inference.

    Maximises ELBO(q) = E_q[log p(X, u) - log q(u)] over a family q, with the assignments of rows to
    components summed out. Columns are centred and scaled inside; every result is in the units of the data.

    Args:
        data: N x D array-like or table, a path, a `DataFile` or any `Source`.
        model: mixture, priors and largest number of components.
        family: what q is; conjugate by default.
        estimator: how the bound and its gradient are estimated; by default what suits the family.
        optimizer: by default what suits the estimator, on minibatches or on the full batch.
        start: where q starts.
        train: batches, budget and stopping.
        seed: fixes every random choice.
        dtype: float type of the computation.
        sample_weight: a non-negative weight for each row: how many rows it counts for.
        columns: names of the columns, or which columns of a file.
        progress: told how the run advances.

    Returns:
        The fit.

    Raises:
        DataError: for data that cannot be used, naming row and column.
        SpecError: for choices that do not fit together or the data.

    Example:
        >>> import numpy as np, vigmm
        >>> x = np.random.default_rng(0).normal(size=(500, 2)) + np.repeat([[0.0, 0.0], [9.0, 9.0]], 250, 0)
        >>> fit = vigmm.fit(x, model=vigmm.Mixture(num_components=2))
        >>> sorted(np.bincount(fit.posterior.predict(x)).tolist())
        [250, 250]
    """
    model, family = model or Mixture(), family or Conjugate()
    estimator = estimator or default_estimator(family)
    recipe = _Recipe(
        objective=Objective(model=model, family=family, estimator=estimator),
        optimizer=optimizer,
        start=start or KMeansStart(),
        config=train or Train(),
        seed=seed,
        dtype=dtype,
    )
    with precision(dtype), Interrupt() as interrupt:
        return _fit(recipe, as_source(data, columns), sample_weight, progress, interrupt)


@dataclasses.dataclass(frozen=True)
class _Recipe:
    objective: Objective
    optimizer: Optimizer | None
    start: Start
    config: Train
    seed: int
    dtype: str


def _fit(
    recipe: _Recipe,
    source: Source,
    weight: Float[np.ndarray, " N"] | None,
    progress: Progress | None,
    interrupt: Interrupt,
) -> Fit:
    clock = _Clock()
    objective, config, dtype = recipe.objective, recipe.config, recipe.dtype
    model, family = objective.model, objective.family
    root = rng.root_key(recipe.seed)
    check_rows(source, 2)
    moments = compute_moments(source, weight=weight)
    standardizer = Standardizer.from_moments(moments)
    scale = _data_scale(moments, standardizer)
    prior = model.build_prior(scale, dtype=np.dtype(dtype))
    limit = config.holdout_rows
    chosen, kept = holdout_split(len(source), config.holdout, limit, rng.stream(root, "split"))
    rows = to_rows(source, standardizer, dtype, index=chosen if len(kept) else None, weight=weight)
    holdout = to_rows(source, standardizer, dtype, index=kept, weight=weight)
    full_batch = config.sampler.steps_per_epoch(rows.x.shape[0]) == 1
    optimizer = recipe.optimizer or default_optimizer(objective.estimator, full_batch=full_batch)
    total_weight, log_scale = float(np.sum(np.asarray(rows.weight, np.float64))), standardizer.log_scale_sum
    if progress is not None:
        progress = _InDataUnits(progress, total_weight, log_scale)
    clock.lap("read")

    first = recipe.start.first(
        model, family, prior, rows, rng.stream(root, "start"),
        config=config, progress=progress, interrupt=interrupt,
    )  # fmt: skip
    params = first_params(model, family, first)
    jax.block_until_ready(params)  # type: ignore[no-untyped-call]
    clock.lap("start")
    result = run_training(
        objective, optimizer, params, prior, rows, holdout, rng.stream(root, "fit"),
        config=config, progress=progress, interrupt=interrupt,
    )  # fmt: skip
    clock.lap("train")

    posterior = Posterior(
        model=model,
        family=family,
        params=result.state.params,
        prior=prior,
        center=standardizer.center,
        scale=standardizer.scale,
        columns=source.columns,
        seed=recipe.seed,
        dtype=dtype,
    )
    bound = evaluate_elbo(
        objective, posterior.params, prior, rows, rng.stream(root, "elbo"), log_scale_sum=log_scale
    )
    density = _holdout_density(posterior, source, kept, weight)
    clock.lap("evaluate")
    metrics = _in_data_units(result.metrics, total_weight, log_scale)
    manifest = describe(
        source=source,
        recipe=dataclasses.replace(recipe, optimizer=optimizer),
        prior=model.prior.describe(prior.components, scale),
        outcome=result.outcome,
        elbo=bound,
        holdout=density,
        train_rows=len(chosen),
        holdout_rows=len(kept),
        seconds=clock.laps,
    )
    return Fit(
        posterior=posterior,
        outcome=result.outcome,
        elbo=bound,
        holdout=density,
        metrics=metrics,
        manifest=manifest,
        data=source,
    )


class _Clock:
    """Wall seconds of each phase."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now


def _data_scale(moments: Moments, standardizer: Standardizer) -> DataScale:
    return DataScale(mean=moments.mean, cov=moments.cov, center=standardizer.center, scale=standardizer.scale)


def _holdout_density(
    posterior: Posterior, source: Source, kept: np.ndarray, weight: Float[np.ndarray, " N"] | None
) -> tuple[float, float] | None:
    """Weighted mean log predictive density of the held-out rows, and its standard error over rows."""
    if len(kept) == 0:
        return None
    values = np.asarray(posterior.log_predictive(source[kept]), np.float64)
    heavy = np.ones(len(kept)) if weight is None else np.asarray(weight, np.float64)[kept]
    mean = float(np.average(values, weights=heavy))
    spread = float(np.average((values - mean) ** 2, weights=heavy))
    effective = float(heavy.sum() ** 2 / np.sum(heavy**2))
    return mean, float(np.sqrt(spread / max(effective - 1.0, 1.0)))


def _in_data_units(
    metrics: dict[str, np.ndarray], total_weight: float, log_scale: float
) -> dict[str, np.ndarray]:
    """Undo the standardisation: log p(x) = log p(z) - sum(log scale)."""
    elbo = metrics["elbo"].astype(np.float64) - total_weight * log_scale
    return {
        **metrics,
        "elbo": elbo,
        "elbo_per_row": elbo / total_weight,
        "holdout": metrics["holdout"] - log_scale,
    }


class _InDataUnits:
    """Passes progress on with its values in the units of the data."""

    def __init__(self, inner: Progress, total_weight: float, log_scale: float) -> None:
        self._inner, self._weight, self._log_scale = inner, total_weight, log_scale

    def start(self, total_steps: int, phase: str) -> None:
        self._inner.start(total_steps, phase)

    def update(self, step: int, values: dict[str, float]) -> None:
        elbo = values["elbo"] - self._weight * self._log_scale
        holdout = values["holdout"] - self._log_scale
        self._inner.update(
            step, {**values, "elbo": elbo, "elbo_per_row": elbo / self._weight, "holdout": holdout}
        )

    def finish(self) -> None:
        self._inner.finish()
