"""`vigmm.fit_numpyro`: stochastic variational inference for a NumPyro model, by the engine's loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vigmm.api import as_source, default_estimator
from vigmm.core import rng
from vigmm.core.precision import precision
from vigmm.core.struct import require
from vigmm.core.typing import PRNGKey
from vigmm.data.device import holdout_split, to_rows
from vigmm.data.moments import Standardizer
from vigmm.data.sources import check_rows
from vigmm.estimators import Estimator, Objective
from vigmm.families import Family, FullRank, Guess
from vigmm.interop.numpyro_fit import NumpyroFit
from vigmm.interop.numpyro_model import Example, NumpyroModel, from_numpyro
from vigmm.optim import Optimizer
from vigmm.posterior import elbo
from vigmm.train import Progress, Train, budget, default_optimizer
from vigmm.train import train as run_training
from vigmm.train.interrupt import Interrupt

__all__ = ["fit_numpyro"]

# Rows that are kept for the shapes of the prior's sites, and to check what the model does with rows.
_EXAMPLE = 2
_CHECKED = 8


def fit_numpyro(
    data: Any,
    model: NumpyroModel | Callable[..., Any],
    *,
    family: Family | None = None,
    estimator: Estimator | None = None,
    optimizer: Optimizer | None = None,
    train: Train | None = None,
    scale: float = 0.1,
    seed: int = 0,
    dtype: Literal["float32", "float64"] = "float32",
    sample_weight: Float[np.ndarray, " N"] | None = None,
    columns: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> NumpyroFit:
    """Fit a NumPyro model by stochastic variational inference over its global latent sites.

    Rows are used as they are given: nothing is centred or scaled.

    Args:
        data: N x D array-like or table, a path, a `DataFile` or any `Source`.
        model: what `vigmm.from_numpyro` gives, or a model function whose plate is called ``N``.
        family: what q is; full rank by default.
        estimator: how the bound and its gradient are estimated; by default what suits the family.
        optimizer: by default what suits the estimator.
        train: batches, budget and stopping.
        scale: standard deviation of every unconstrained coordinate at the start; means start at the median of
            the prior.
        seed: fixes every random choice.
        dtype: float type of the computation.
        sample_weight: a non-negative weight for each row: how many rows it counts for.
        columns: names of the columns, or which columns of a file.
        progress: told how the run advances.

    Raises:
        SpecError: for a model with latent sites in the plate, discrete latent sites, or no such plate.
        DataError: for data that cannot be used, naming row and column.
    """
    made = model if isinstance(model, NumpyroModel) else from_numpyro(model)
    require(scale > 0, "scale", "> 0", scale)
    family = family or FullRank()
    with precision(dtype), Interrupt() as interrupt:
        # Estimators and families name the mixture in their types and use only what this model has as well.
        objective = Objective(
            model=cast(Any, made), family=family, estimator=estimator or default_estimator(family)
        )
        config = train or Train()
        return _fit(
            made, objective, optimizer, config, scale, rng.root_key(seed), dtype,
            as_source(data, columns), sample_weight, progress, interrupt,
        )  # fmt: skip


def _fit(
    model: NumpyroModel,
    objective: Objective,
    optimizer: Optimizer | None,
    config: Train,
    scale: float,
    root: PRNGKey,
    dtype: str,
    source: Any,
    weight: Float[np.ndarray, " N"] | None,
    progress: Progress | None,
    interrupt: Interrupt,
) -> NumpyroFit:
    check_rows(source, 2)
    as_given = Standardizer.identity(source.dim)
    chosen, kept = holdout_split(len(source), config.holdout, config.holdout_rows, rng.stream(root, "split"))
    rows = to_rows(source, as_given, dtype, index=chosen if len(kept) else None, weight=weight)
    holdout = to_rows(source, as_given, dtype, index=kept, weight=weight)
    full_batch = config.sampler.steps_per_epoch(rows.x.shape[0]) == 1
    require(full_batch or not objective.estimator.full_batch, "train.batch_size", ">= N for this estimator",
            config.batch_size)  # fmt: skip
    optimizer = optimizer or default_optimizer(objective, full_batch=full_batch)
    example = Example(x=rows.x[:_EXAMPLE])
    first = model.start(example.x, rng.stream(root, "start"))
    first = jax.tree.map(lambda leaf: leaf.astype(rows.x.dtype), first)
    model.check(np.asarray(rows.x[:_CHECKED]), first)
    spread = jax.tree.map(lambda leaf: jnp.full_like(leaf, scale), first)
    params = objective.family.init(cast(Any, model), Guess(loc=first, scale=spread, conjugate=None))
    prior = cast(Any, example)
    result = run_training(
        objective, optimizer, params, prior, rows, holdout, rng.stream(root, "fit"),
        config=budget(optimizer, config), progress=progress, interrupt=interrupt,
    )  # fmt: skip
    params = result.params
    bound = elbo(objective, params, prior, rows, rng.stream(root, "elbo"), log_scale_sum=0.0)
    return NumpyroFit(
        model=model,
        family=objective.family,
        estimator=objective.estimator,
        params=params,
        example=example,
        elbo=bound,
        outcome=result.outcome,
        metrics=result.metrics,
        dtype=dtype,
        batch_size=config.batch_size,
        rows=lambda: rows,
    )
