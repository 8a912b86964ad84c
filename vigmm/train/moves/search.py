"""The search for the number of components: merges, deletions, splits and births, judged by the bound.

A round cuts every component in two, lets coordinate ascent settle the halves, and then joins every pair whose
merge raises the bound. What remains is kept if the bound is higher than before the round, else the round is
undone. So a split is accepted exactly where it pays for its parameters, a component that covers two
clusters and two that cover one are mended in the same round, and no tuning decides how many components
there are. With more components than the model allows, the cheapest merges go on until there are few enough:
a round is then a swap.

The bound is computed with every row of the search's rows, so it carries no sampling noise; what it must
rise by is one nat and its own rounding. Large data are searched in stages, a subsample first, whose rows
count once: the number of components that so many rows support.

References:
    Ueda, Nakano, Ghahramani and Hinton (2000), SMEM algorithm for mixture models, Neural Computation 12;
    Hughes and Sudderth (2013), NIPS; Chang and Fisher (2013), NIPS.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vigmm.core import rng
from vigmm.core.effort import pass_work
from vigmm.core.typing import PRNGKey
from vigmm.data.sampler import Minibatch, Rows
from vigmm.families import ConjugateParams, row_counts_on_host
from vigmm.families import factor as factors
from vigmm.models import Mixture, Prior
from vigmm.models.covariance import Covariance
from vigmm.train.loop import Progress, Silent
from vigmm.train.moves.mixture import EMPTY, Slots
from vigmm.train.moves.stage import Moves, Request, Stage

__all__ = ["Found", "search"]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search ends with.

    Args:
        params: a posterior, the components in use first, the largest first.
        num_components: how many it has.
        rows_seen: rows of the last stage.
        notes: what happened, JSON-ready.
        elbo: the bound on these rows, which count once; NaN where the start's was not finite.
        covariance: of the model that `params` are a posterior of.
        spread: factor of the prior's covariances that `params` are a posterior under, see `Moves.spread`.
    """

    params: ConjugateParams
    num_components: int
    rows_seen: int
    notes: dict[str, Any]
    elbo: float
    covariance: Covariance
    spread: float = 1.0


def search(
    moves: Moves,
    model: Mixture,
    prior_at: Callable[[int], Prior],
    params: ConjugateParams,
    data: Rows,
    key: PRNGKey,
    *,
    total_weight: float | None = None,
    progress: Progress | None = None,
    request: Request | None = None,
) -> Found:
    """Change the number of components until no move raises the bound.

    Args:
        moves: budget.
        model: a mixture with a conjugate posterior; its number of components is the most there may be.
        prior_at: hyperparameters of so many exchangeable slots.
        params: where the search begins, a posterior of `model`.
        data: the rows.
        key: decides subsamples, directions and births.
        total_weight: weight of the rows that `data` represent, for what is shown; its own by default.
        progress: told after every round.
        request: whether to stop, asked between moves; what has been found by then is kept.

    Returns:
        The posterior and what happened. Where fewer components are the same prior, it has only those in use,
        unless `Moves.keep` says otherwise.
    """
    show, request = progress or Silent(), request or Request()
    stages = moves.stages(data.x.shape[0], pass_work((1, data.x.shape[1]), 2 * model.num_components))
    show.start(moves.rounds * len(stages), "search")
    # Whatever the start left empty is out of use.
    counts = row_counts_on_host(params.components, prior_at(model.num_components))
    roving = getattr(model.prior, "roving", None) if moves.spread else None
    if roving is not None:
        model = dataclasses.replace(model, prior=roving)
        params = dataclasses.replace(params, factor=factors.unseen(model, data.x.dtype))
    # A start that is not finite is in use, so that its bound says so.
    slots = Slots(params=params, used=jnp.asarray(~(counts <= EMPTY)))
    least = model.weights.fewest(model.num_components)
    assert least is not None, "components that differ before data cannot be moved"
    stage: Stage | None = None
    told: list[dict[str, Any]] = []
    for number, count in enumerate(stages):
        stage_key = rng.at_step(key, number)
        rows = _subsample(data, count, rng.stream(stage_key, "rows"))
        share = (total_weight or data.total_weight()) / rows.total_weight()
        before = number * moves.rounds
        stage = Stage(moves, model, prior_at, rows, least, show, request, before, share)
        slots = stage.run(slots, stage_key)
        told.append({"rows": int(rows.x.shape[0]), **stage.notes})
        if "broken" in stage.notes:
            break
    assert stage is not None
    fewer = model.weights.truncates() and not moves.keep
    final = stage.resized(slots, stage.count(slots) if fewer else model.num_components)
    show.finish()
    found, spread = final.params, 1.0
    if roving is not None and found.factor is not None:
        spread = float(jax.device_get(found.factor).mean)
        found = dataclasses.replace(found, factor=None)
    return Found(
        params=found,
        num_components=final.used.shape[0],
        rows_seen=int(rows.x.shape[0]),
        notes={"components": stage.count(slots), "least": least, "spread": spread, "stages": told},
        elbo=stage.notes.get("elbo", math.nan),
        covariance=model.covariance,
        spread=spread,
    )


def _subsample(data: Rows, count: int, key: PRNGKey) -> Rows:
    """So many rows, each with the weight that the user gave it."""
    if count >= data.x.shape[0]:
        return data
    sampler = Minibatch(count)
    batch = sampler.pick(data, key, 0)
    return Rows(x=batch.x, weight=batch.weight / sampler.steps_per_epoch(data.x.shape[0]))
