"""`vigmm.fit`: from rows to a posterior in one call."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from vigmm.begun import Begun, First
from vigmm.core import rng
from vigmm.core.errors import SpecError
from vigmm.core.precision import precision
from vigmm.core.processes import ALONE, Group
from vigmm.core.struct import require
from vigmm.core.typing import PRNGKey
from vigmm.data.audit import shuffle_audit
from vigmm.data.intake import Intake, Survey, survey, take_in
from vigmm.data.moments import Standardizer
from vigmm.data.sampler import Rows
from vigmm.data.shares import fingerprint_of, weighed_fingerprint
from vigmm.data.sources import Source, as_source, check_rows
from vigmm.estimators import ESTIMATORS, Estimator, Objective
from vigmm.families import Conjugate, Family
from vigmm.fitted import Context, Fit
from vigmm.manifest import choices, describe
from vigmm.models import DataScale, Mixture, Prior
from vigmm.models.covariance import Covariance
from vigmm.optim import Optimizer
from vigmm.posterior import Posterior, load
from vigmm.posterior import elbo as evaluate_elbo
from vigmm.posterior.units import log_volume
from vigmm.reporting import Clock, InDataUnits, holdout_density, in_data_units
from vigmm.train import (
    Checkpoints,
    Interrupt,
    KMeansStart,
    Moves,
    Origin,
    Progress,
    Request,
    Start,
    Train,
    first_params,
    memory,
    movable,
    plan,
    sample_size,
    search_covariances,
    settle,
)
from vigmm.train import train as run_training
from vigmm.train.placement import over_devices

__all__ = ["Fit", "as_source", "default_estimator", "fit"]


# A Spec: it cannot be changed, so all calls may share it.
_MOVES = Moves()


def default_estimator(family: Family) -> Estimator:
    """The estimator of a user who names only the family."""
    return ESTIMATORS[family.default_estimator]()


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
    checkpoints: Checkpoints | None = None,
    group: Group = ALONE,
) -> Fit:
    """Fit a Bayesian Gaussian mixture by stochastic variational inference.

    Maximises ELBO(q) = E_q[log p(X, u) - log q(u)] over a family q, with the assignments of rows to
    components summed out. Columns are centred and scaled inside; every result is in the units of the data.

    Args:
        data: N x D array-like or table, an iterator of such chunks, a path, a `DataFile` or any `Source`.
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
        sample_weight: a non-negative weight for each row: how many rows it counts for. Of several processes
            each gives those of its own rows.
        columns: names of the columns, or which columns of a file.
        progress: told how the run advances.
        checkpoints: where the run is saved from time to time. A run that was broken off goes on from there
            and ends with the bits of an unbroken one. SIGTERM then saves it and raises `Preempted`.
        group: processes that do this fit together, each with its share of the rows as its `data`; all must
            call `fit` alike, after ``jax.distributed.initialize``, and all get the same posterior.

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
    source = as_source(data, columns)
    saved = checkpoints or contextlib.nullcontext()
    with precision(dtype), saved, Interrupt(preemptible=checkpoints is not None) as interrupt:
        return _fit(recipe, source, sample_weight, _Hands(progress, interrupt, checkpoints, group))


@dataclasses.dataclass(frozen=True)
class _Recipe:
    objective: Objective
    optimizer: Optimizer | None
    start: Start
    config: Train
    moves: Moves | None
    seed: int
    dtype: str


@dataclasses.dataclass(frozen=True)
class _Hands:
    """Whoever has a hand in a run: who watches, who stops it, where it is saved, and who shares in it."""

    progress: Progress | None
    interrupt: Interrupt
    checkpoints: Checkpoints | None = None
    group: Group = ALONE


def _fit(recipe: _Recipe, source: Source, weight: Float[np.ndarray, " N"] | None, hands: _Hands) -> Fit:
    clock = Clock()
    asked, dtype = recipe.objective.model, recipe.dtype
    model = asked.settled
    objective = dataclasses.replace(recipe.objective, model=model)
    root = rng.root_key(recipe.seed)
    check_rows(source, 2)
    group = hands.group
    rows, fingerprint = sum(group.counts(len(source))), fingerprint_of(source, group)
    begun = Begun(hands.checkpoints, weighed_fingerprint(fingerprint, weight, source, group), choices(recipe))
    seen = begun.survey or survey(source, weight, missing=model.missing, dtype=dtype, group=group)
    standardizer, scale = seen.standardizer, _data_scale(seen)
    optimizer, config = _planned(recipe, rows, source.dim)
    portion = config.portion(source.dim, dtype) if config.stream else None
    layout = over_devices(config.devices, group)
    intake = take_in(
        source, seen, dtype=dtype, holdout=config.holdout, most_held=config.holdout_rows, portion=portion,
        sample=sample_size(config, recipe.moves, rows=rows, dim=source.dim, dtype=dtype),
        key=root, weight=weight, layout=layout,
    )  # fmt: skip
    data, held = intake.data, intake.held
    memory.check(objective, optimizer)
    total_weight = data.total_weight()
    log_scale = standardizer.log_scale_sum
    if model.missing:  # a row has the volume of the values that it has
        log_scale = log_volume(data, standardizer.scale) / total_weight
    progress = hands.progress and InDataUnits(hands.progress, total_weight, log_scale)
    clock.lap("read")

    def prior_of(one: Mixture, slots: int | None = None, spread: float = 1.0) -> Prior:
        return one.build_prior(scale.spread_by(spread), dtype=np.dtype(dtype), slots=slots)

    key = rng.stream(root, "start")
    first = begun.first(model, prior_of)
    if first is None:
        first = _searched(
            recipe, intake, standardizer, prior_of, root, total_weight, clock, progress, hands,
            mesh=layout.own if layout else None,
            # Bounds with components for a few rows far away say little of the structure of the others.
            others=[] if seen.moments.ruled else _others(recipe.objective),
        )  # fmt: skip
        if config.stream:
            audit = shuffle_audit(source)
            first.notes["shuffle"] = audit.to_dict()
            if not audit.shuffled:
                first.notes["order"] = str(audit)
        begun.keep(first, seen)
    # From here on the model is the one that was found: what it has no use for is not computed. The prior
    # stays that of the model that was asked for, but for how large a component is.
    count, model = first.num_components, dataclasses.replace(model, covariance=first.covariance)
    prior, surrogate_prior = (prior_of(one, count, first.spread) for one in (model, model.surrogate))
    model = dataclasses.replace(model, num_components=count)
    objective, surrogate = dataclasses.replace(objective, model=model), model.surrogate
    conjugate = settle(
        surrogate, surrogate_prior, first.params, data.filled() if model.missing else data,
        rng.stream(key, "path"),
        passes=0 if isinstance(objective.family, Conjugate) else recipe.start.passes,
        rows_seen=first.rows_seen, config=config, progress=progress, interrupt=hands.interrupt,
        checkpoints=hands.checkpoints,
    )  # fmt: skip
    params = first_params(model, objective.family, prior, conjugate, surrogate_prior)
    jax.block_until_ready(params)  # type: ignore[no-untyped-call]
    clock.lap("settle")
    result = run_training(
        objective, optimizer, params, prior, data, held.rows, rng.stream(root, "fit"), config=config,
        progress=progress, interrupt=hands.interrupt, checkpoints=hands.checkpoints,
    )  # fmt: skip
    clock.lap("train")

    posterior = Posterior(
        model=model,
        family=objective.family,
        params=result.params,
        prior=_whole(prior),
        center=standardizer.center,
        scale=standardizer.scale,
        columns=source.columns,
        seed=recipe.seed,
        dtype=dtype,
    )
    bound = evaluate_elbo(
        objective, posterior.params, prior, data, rng.stream(root, "elbo"), log_scale_sum=log_scale
    )
    density = holdout_density(posterior, held.raw, held.weight)
    clock.lap("evaluate")
    metrics = in_data_units(result.metrics, total_weight, log_scale)
    manifest = describe(
        source=source,
        rows=rows,
        skipped_rows=sum(group.counts(len(getattr(source, "bad_rows", ())))),
        fingerprint=fingerprint,
        recipe=dataclasses.replace(recipe, optimizer=optimizer, config=config),
        notes=first.notes,
        prior=model.prior.describe(scale.spread_by(first.spread), num_components=asked.num_components),
        outcome=result.outcome,
        elbo=bound,
        holdout=density,
        train_rows=intake.train_rows,
        holdout_rows=len(held.raw),
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
            rows=lambda: _as_all(intake),
            refit=lambda seed: _refit(recipe, source, weight, seed),
        ),
    )


def _planned(recipe: _Recipe, rows: int, dim: int) -> tuple[Optimizer, Train]:
    """Optimiser and budget, with nothing left open."""
    config, objective = recipe.config, recipe.objective
    fitted = config.fitted(rows)
    if objective.estimator.full_batch:
        name = type(objective.estimator).__name__.lower()
        why = f">= {fitted}, the rows to be fitted: with minibatches {name} is not a bound"
        full_batch = config.sampler.steps_per_epoch(fitted) == 1
        require(full_batch, "train.batch_size", why, config.batch_size)
    return plan(objective, recipe.optimizer, config, recipe.moves, rows=fitted, dim=dim, dtype=recipe.dtype)


def _searched(
    recipe: _Recipe,
    intake: Intake,
    standardizer: Standardizer,
    prior_of: Callable[..., Prior],
    root: PRNGKey,
    total_weight: float,
    clock: Clock,
    progress: Progress | None,
    hands: _Hands,
    mesh: Mesh | None,
    others: list[Covariance],
) -> First:
    """Where training begins: a start, and the components that the search finds a use for."""
    asked = recipe.objective.model
    model, rows = asked.settled, intake.sample
    surrogate = model.surrogate
    # Where a run starts, a missing value is at its column's mean.
    filled = rows.filled() if model.missing else rows
    origin = Origin(
        index=intake.index, num_rows=intake.num_rows, center=standardizer.center, scale=standardizer.scale,
        load=load, mesh=mesh,
    )  # fmt: skip
    key = rng.stream(root, "start")
    started = recipe.start.first(surrogate, prior_of(surrogate), filled, key, origin)
    jax.block_until_ready(started.params)  # type: ignore[no-untyped-call]
    clock.lap("start")
    first = First(
        params=started.params,
        num_components=model.num_components,
        rows_seen=started.rows_seen,
        notes={"start": started.notes},
        covariance=model.covariance,
    )
    searched = movable(recipe.objective, recipe.moves)
    if searched is None:
        return first
    found = search_covariances(
        searched, model, others, prior_of, first.params, rows, rng.stream(root, "moves"),
        total_weight=total_weight, progress=progress,
        request=Request(hands.interrupt, recipe.config.max_seconds, hands.group),
    )  # fmt: skip
    clock.lap("search")
    return First(
        params=found.params,
        num_components=found.num_components,
        rows_seen=found.rows_seen,
        notes={**first.notes, "moves": found.notes},
        covariance=found.covariance,
        spread=found.spread,
    )


def _others(objective: Objective) -> list[Covariance]:
    """What the search may end with in the place of matrices, if anything: what the other parts work with."""

    def works(other: Covariance) -> bool:
        try:
            dataclasses.replace(objective, model=dataclasses.replace(objective.model, covariance=other))
        except SpecError:
            return False
        return True

    return [other for other in getattr(objective.model.covariance, "others", ()) if works(other)]


def _as_all(intake: Intake) -> Rows:
    """The rows that were fitted, or a sample of a stream that weighs as much as all of them."""
    rows = intake.sample
    if rows is intake.data:
        return rows
    times = intake.data.total_weight() / rows.total_weight()
    return Rows(x=rows.x, weight=rows.weight * np.asarray(times, rows.weight.dtype))


def _refit(recipe: _Recipe, source: Source, weight: Float[np.ndarray, " N"] | None, seed: int) -> Fit:
    with precision(recipe.dtype), Interrupt() as interrupt:
        return _fit(dataclasses.replace(recipe, seed=seed), source, weight, _Hands(None, interrupt))


def _whole(prior: Prior) -> Prior:
    """The prior without the patterns of the training data: every prediction has its own."""
    frame = prior.frame
    if frame.patterns.shape[0]:
        frame = dataclasses.replace(frame, patterns=jnp.ones((1, frame.scale.shape[0]), frame.scale.dtype))
    return dataclasses.replace(prior, frame=frame)


def _data_scale(seen: Survey) -> DataScale:
    moments, standardizer = seen.moments, seen.standardizer
    return DataScale(
        mean=moments.mean,
        cov=moments.cov,
        center=standardizer.center,
        scale=standardizer.scale,
        low=moments.minimum,
        high=moments.maximum,
        patterns=seen.patterns,
    )
