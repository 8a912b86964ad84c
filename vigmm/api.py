"""`vigmm.fit`: from rows to a posterior in one call."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vigmm.core import rng
from vigmm.core.precision import precision
from vigmm.core.struct import require
from vigmm.data.device import holdout_split, to_rows
from vigmm.data.missing import observed_moments
from vigmm.data.moments import Moments, Standardizer, compute_moments
from vigmm.data.sampler import Rows
from vigmm.data.sources import ArraySource, DataFile, Source, check_rows, open_source
from vigmm.estimators import ESTIMATORS, Estimator, Objective
from vigmm.families import Conjugate, Family
from vigmm.fitted import Context, Fit
from vigmm.manifest import describe
from vigmm.models import DataScale, Mixture, Prior
from vigmm.optim import Optimizer
from vigmm.posterior import Posterior, load
from vigmm.posterior import elbo as evaluate_elbo
from vigmm.posterior.units import log_volume
from vigmm.reporting import Clock, InDataUnits, holdout_density, in_data_units
from vigmm.train import (
    KMeansStart,
    Moves,
    Origin,
    Progress,
    Start,
    Train,
    first_params,
    memory,
    movable,
    plan,
    search,
    settle,
)
from vigmm.train import train as run_training
from vigmm.train.interrupt import Interrupt

__all__ = ["Fit", "as_source", "default_estimator", "fit"]


# A Spec: it cannot be changed, so all calls may share it.
_MOVES = Moves()


def default_estimator(family: Family) -> Estimator:
    """The estimator of a user who names only the family."""
    return ESTIMATORS[family.default_estimator]()


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
    moves: Moves | None = _MOVES,
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
        moves: how the number of components is searched for; ``None`` keeps those that the start made. Models
            without a conjugate posterior keep them too.
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
        moves=moves,
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
    moves: Moves | None
    seed: int
    dtype: str


def _fit(
    recipe: _Recipe,
    source: Source,
    weight: Float[np.ndarray, " N"] | None,
    progress: Progress | None,
    interrupt: Interrupt,
) -> Fit:
    clock = Clock()
    objective, config, dtype = recipe.objective, recipe.config, recipe.dtype
    model, family = objective.model, objective.family
    root = rng.root_key(recipe.seed)
    check_rows(source, 2)
    patterns = None
    if model.missing:
        moments, patterns = observed_moments(source, weight=weight)
    else:
        moments = compute_moments(source, weight=weight).typical(np.dtype(dtype))
    standardizer = Standardizer.from_moments(moments)
    scale = _data_scale(moments, standardizer, patterns)
    surrogate = model.surrogate
    prior, surrogate_prior = (one.build_prior(scale, dtype=np.dtype(dtype)) for one in (model, surrogate))
    limit = config.holdout_rows
    chosen, kept = holdout_split(len(source), config.holdout, limit, rng.stream(root, "split"))
    rows = to_rows(
        source, standardizer, dtype, index=chosen if len(kept) else None, weight=weight, missing=model.missing
    )
    holdout = to_rows(source, standardizer, dtype, index=kept, weight=weight, missing=model.missing)
    full_batch = config.sampler.steps_per_epoch(rows.x.shape[0]) == 1
    if objective.estimator.full_batch:
        name, must = (
            type(objective.estimator).__name__.lower(),
            f">= {rows.x.shape[0]}, the rows to be fitted",
        )
        why = f"{must}: with minibatches {name} is not a bound"
        require(full_batch, "train.batch_size", why, config.batch_size)
    optimizer, config = plan(objective, recipe.optimizer, config, recipe.moves, rows=len(rows.x))
    memory.check(objective, optimizer)
    total_weight = float(np.sum(np.asarray(rows.weight, np.float64)))
    log_scale = log_volume(rows, standardizer.scale) / total_weight
    if progress is not None:
        progress = InDataUnits(progress, total_weight, log_scale)
    clock.lap("read")

    # Where a run starts, a missing value is at its column's mean.
    filled = Rows(x=jnp.nan_to_num(rows.x), weight=rows.weight) if model.missing else rows
    origin = Origin(
        index=chosen, num_rows=len(source), center=standardizer.center, scale=standardizer.scale, load=load
    )
    key = rng.stream(root, "start")
    started = recipe.start.first(surrogate, surrogate_prior, filled, key, origin)
    first, rows_seen, notes = started.params, started.rows_seen, {"start": started.notes}
    jax.block_until_ready(first)  # type: ignore[no-untyped-call]
    clock.lap("start")
    conjugate, searched = isinstance(family, Conjugate), movable(objective, recipe.moves)
    if searched is not None:
        found = search(
            searched, model, lambda slots: model.build_prior(scale, dtype=np.dtype(dtype), slots=slots),
            first, rows, rng.stream(root, "moves"), max_seconds=config.max_seconds,
            progress=progress, interrupt=interrupt,
        )  # fmt: skip
        first, rows_seen, notes["moves"] = found.params, found.rows_seen, found.notes
        # From here on the model is the one that was found: what it has no use for is not computed.
        prior = model.build_prior(scale, dtype=np.dtype(dtype), slots=found.num_components)
        model = surrogate = dataclasses.replace(model, num_components=found.num_components)
        objective, surrogate_prior = dataclasses.replace(objective, model=model), prior
        clock.lap("search")
    first = settle(
        surrogate, surrogate_prior, first, filled, rng.stream(key, "path"),
        passes=0 if conjugate else recipe.start.passes, rows_seen=rows_seen,
        config=config, progress=progress, interrupt=interrupt,
    )  # fmt: skip
    params = first_params(model, family, prior, first, surrogate_prior)
    jax.block_until_ready(params)  # type: ignore[no-untyped-call]
    clock.lap("settle")
    result = run_training(
        objective, optimizer, params, prior, rows, holdout, rng.stream(root, "fit"),
        config=config, progress=progress, interrupt=interrupt,
    )  # fmt: skip
    clock.lap("train")

    posterior = Posterior(
        model=model,
        family=family,
        params=result.params,
        prior=_whole(prior),
        center=standardizer.center,
        scale=standardizer.scale,
        columns=source.columns,
        seed=recipe.seed,
        dtype=dtype,
    )
    bound = evaluate_elbo(
        objective, posterior.params, prior, rows, rng.stream(root, "elbo"), log_scale_sum=log_scale
    )
    density = holdout_density(posterior, source, kept, weight)
    clock.lap("evaluate")
    metrics = in_data_units(result.metrics, total_weight, log_scale)
    manifest = describe(
        source=source,
        recipe=dataclasses.replace(recipe, optimizer=optimizer, config=config),
        notes=notes,
        prior=model.prior.describe(scale, num_components=recipe.objective.model.num_components),
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
        context=Context(
            objective=objective,
            batch_size=config.batch_size,
            prior=prior,
            rows=lambda: rows,
            refit=lambda seed: _refit(recipe, source, weight, seed),
        ),
    )


def _refit(recipe: _Recipe, source: Source, weight: Float[np.ndarray, " N"] | None, seed: int) -> Fit:
    with precision(recipe.dtype), Interrupt() as interrupt:
        return _fit(dataclasses.replace(recipe, seed=seed), source, weight, None, interrupt)


def _whole(prior: Prior) -> Prior:
    """The prior without the patterns of the training data: every prediction has its own."""
    frame = prior.frame
    if frame.patterns.shape[0]:
        frame = dataclasses.replace(frame, patterns=jnp.ones((1, frame.scale.shape[0]), frame.scale.dtype))
    return dataclasses.replace(prior, frame=frame)


def _data_scale(moments: Moments, standardizer: Standardizer, patterns: np.ndarray | None) -> DataScale:
    return DataScale(
        mean=moments.mean,
        cov=moments.cov,
        center=standardizer.center,
        scale=standardizer.scale,
        low=moments.minimum,
        high=moments.maximum,
        patterns=patterns,
    )
