"""The search where the covariance is left to the data: matrices first, and what promises more after them.

A second search is dear, for it compiles anew. So there is one only where matrices may hide components
(`costly`), and only with the structure that promises most (`promises`), from the same start and on the same
rows; the higher bound is kept. Bounds of all structures have every constant in them, so they can be compared.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from vigmm.core.specdict import to_dict
from vigmm.core.typing import PRNGKey
from vigmm.data.sampler import Rows
from vigmm.families import ConjugateParams
from vigmm.models import COVARIANCES, Mixture, Prior
from vigmm.models.covariance import Covariance
from vigmm.train.loop import Progress
from vigmm.train.moves.promise import costly, promises, restated
from vigmm.train.moves.search import Found, search
from vigmm.train.moves.stage import Moves, Request, least_gain

__all__ = ["search_covariances"]


def search_covariances(
    moves: Moves,
    model: Mixture,
    others: Sequence[Covariance],
    prior_of: Callable[..., Prior],
    params: ConjugateParams,
    data: Rows,
    key: PRNGKey,
    *,
    total_weight: float | None = None,
    progress: Progress | None = None,
    request: Request | None = None,
) -> Found:
    """As `search`, but a covariance that is left to the data is found too.

    Args:
        moves: budget, of each search.
        model: a mixture with a conjugate posterior; its number of components is the most there may be.
        others: what its covariance may be in the place of what it is, structures of variances.
        prior_of: hyperparameters of a model, so many slots, and a factor of the covariances.
        params: where the search begins, a posterior of the model.
        data: the rows.
        key: decides subsamples, directions and births.
        total_weight: weight of the rows that `data` represent; its own by default. What these can pay for
            decides whether the others are asked.
        progress: told after every round.
        request: whether to stop, asked between moves; what has been found by then is kept.

    Returns:
        What the search with the highest bound has found.
    """
    request = request or Request()

    def one(model: Mixture, params: ConjugateParams) -> Found:
        return search(
            moves, model, lambda slots: prior_of(model, slots), params, data, key,
            total_weight=total_weight, progress=progress, request=request,
        )  # fmt: skip

    found = one(model, params)
    if not others:
        return found
    bounds, promised = {_name(found.covariance): found.elbo}, {}
    able = math.isfinite(found.elbo) and costly(
        data.x.shape[1], found.notes["components"], total_weight or data.total_weight()
    )
    if able and not request.stopped():
        models = [dataclasses.replace(model, covariance=other) for other in others]
        values = _promises(moves, model, prior_of, found, models)
        promised = {_name(one.covariance): value for one, value in zip(models, values, strict=True)}
        at, least = values.index(max(values)), least_gain(found.elbo, data.x.dtype)
        if values[at] > least:
            chosen = models[at]
            start = restated(model, prior_of(model), params, chosen, prior_of(chosen))
            other = one(chosen, start)
            bounds[_name(other.covariance)] = other.elbo
            found = other if other.elbo > found.elbo + least else found
    told = {"found": _name(found.covariance), "bounds": bounds, "promised": promised}
    return dataclasses.replace(found, notes={**found.notes, "covariance": told})


def _promises(
    moves: Moves, first: Mixture, prior_of: Callable[..., Prior], found: Found, models: list[Mixture]
) -> list[float]:
    """What each of `models` promises beyond what was found with the first."""
    count = found.num_components

    def sized(model: Mixture) -> tuple[Mixture, Prior]:
        roving = getattr(model.prior, "roving", None) if moves.spread else None
        model = model if roving is None else dataclasses.replace(model, prior=roving)
        return dataclasses.replace(model, num_components=count), prior_of(model, count)

    prior = prior_of(first, count, found.spread)
    spare = first.num_components - int(found.notes["components"])
    model = dataclasses.replace(first, num_components=count)
    return promises(model, prior, found.params, [sized(one) for one in models], spare)


def _name(covariance: Any) -> str:
    return str(to_dict(covariance, COVARIANCES)["kind"])
