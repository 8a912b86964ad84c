"""The natural path over the whole data: what a start made of some rows learns what all of them say.

Families that are not conjugate start from a conjugate posterior with the right scales (about 1/sqrt(N_k)),
which is what lets Adam converge in a handful of passes.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from vigmm.core.typing import PRNGKey
from vigmm.data.feed import TrainingData
from vigmm.data.sampler import Rows
from vigmm.estimators import Natural, Objective
from vigmm.families import Conjugate, ConjugateParams, row_counts
from vigmm.models import Mixture, Prior, sticks
from vigmm.optim import RobbinsMonro
from vigmm.train.checkpoint import Checkpoints
from vigmm.train.interrupt import Interrupt
from vigmm.train.loop import Progress, Train, train

__all__ = ["by_size", "natural", "settle"]

# Small data: enough coordinate steps for the partition to settle.
_MIN_STEPS = 50


def settle(
    model: Mixture,
    prior: Prior,
    params: ConjugateParams,
    data: TrainingData,
    key: PRNGKey,
    *,
    passes: float,
    rows_seen: int,
    config: Train,
    progress: Progress | None = None,
    interrupt: Interrupt | None = None,
    checkpoints: Checkpoints | None = None,
) -> ConjugateParams:
    """Stochastic natural-gradient steps over `data`, at rates that do not forget what `params` know.

    A posterior of M rows weighs as much as M/B batches of B rows, so the rates start at
    max(1, M/B)^-forgetting.

    Args:
        model: a mixture with a conjugate posterior.
        prior: its hyperparameters.
        params: where the path begins.
        data: the rows.
        key: decides the batches.
        passes: how many times the rows are read; 0 leaves `params` as they are.
        rows_seen: M, the rows that `params` were made from.
        config: batches and chunks.
        progress: told how the path advances.
        interrupt: the request to stop that the phases of a fit share.
        checkpoints: where the path is saved.

    Returns:
        The posterior at the path's end, its components in order of size.
    """
    if passes == 0:
        return params
    config = dataclasses.replace(config, passes=passes, min_steps=_MIN_STEPS, tolerance=0.0)
    delay = max(1.0, rows_seen / config.batch_size)
    none = Rows(x=jnp.zeros((0, data.dim), data.dtype), weight=jnp.zeros((0,), data.dtype))
    result = train(
        natural(model), RobbinsMonro(delay=delay), params, prior, data, none, key,
        config=config, progress=progress, phase="start", interrupt=interrupt,
        checkpoints=checkpoints,
    )  # fmt: skip
    last: ConjugateParams = result.params
    return by_size(model, prior, last)


def natural(model: Mixture) -> Objective:
    """The conjugate bound of `model` and its natural gradient."""
    return Objective(model=model, family=Conjugate(), estimator=Natural())


def by_size(model: Mixture, prior: Prior, params: ConjugateParams) -> ConjugateParams:
    """The same posterior with its components in order of size, which is what sticks expect."""
    counts = row_counts(params.components, prior)
    order = jnp.argsort(-counts)
    return dataclasses.replace(
        params,
        weights=sticks.update(prior.weights, counts[order], params.weights),
        components=model.algebra.order(params.components, order),
    )
