"""`partial_fit`: what a chunk of rows does to an estimator that has a posterior."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from vigmm.core.errors import ConfigError, DataError
from vigmm.core.precision import precision
from vigmm.data.arrays import ArraySource
from vigmm.data.device import to_rows
from vigmm.data.moments import Standardizer
from vigmm.families import Conjugate, ConjugateParams
from vigmm.posterior import Posterior
from vigmm.sklearn.padding import Padded
from vigmm.train.streaming import absorb, grow

__all__ = ["check_family", "stretch", "take_in"]


def check_family(family: Any, posterior: Posterior | None) -> None:
    """Refuse families without natural parameters: the one asked for, and that of an earlier fit."""
    if family != "conjugate" and not isinstance(family, Conjugate):
        raise ConfigError(
            f"partial_fit needs family='conjugate', not {family!r}: fit all rows at once instead"
        )
    if posterior is not None and not isinstance(posterior.family, Conjugate):
        raise ConfigError(
            "partial_fit cannot go on from a posterior that was fitted with another family than 'conjugate': "
            "fit again first, or take a clone"
        )


def stretch(estimator: Any, total: float) -> None:
    """Make the posterior one of rows of weight `total` that say what those say which it was made of."""
    posterior = estimator.posterior_
    with precision(posterior.dtype):
        factor = np.asarray(total / estimator._stands_for, posterior.dtype)
        params = grow(posterior.model, posterior.params, posterior.prior, factor)
    _remember(estimator, params, total)


def take_in(
    estimator: Any, rows: Float[np.ndarray, "N D"], sample_weight: Float[np.ndarray, " N"] | None
) -> None:
    """Move the estimator's posterior by one chunk.

    Args:
        estimator: a fitted `BayesianGaussianMixture`.
        rows: the chunk.
        sample_weight: its weights.

    Raises:
        DataError: if the chunk makes no finite posterior; the estimator stays as it was.
    """
    posterior = estimator.posterior_
    source = Padded(ArraySource(rows, columns=posterior.columns, name="X"))
    heavy = source.weight(sample_weight)
    standardizer = Standardizer(center=posterior.center, scale=posterior.scale)
    with precision(posterior.dtype):
        batch = to_rows(source, standardizer, posterior.dtype, weight=heavy)
        weight = float(heavy.sum())
        seen = estimator.n_samples_seen_ + weight
        total = float(estimator.total_rows or seen)
        numbers = (total / estimator._stands_for, total / weight, (weight / seen) ** estimator.forgetting)
        growth, share, rate = (np.asarray(one, posterior.dtype) for one in numbers)
        params, elbo = absorb(posterior.model, posterior.params, posterior.prior, batch, growth, share, rate)
    bound = float(elbo) - total * float(np.log(posterior.scale).sum())
    if not math.isfinite(bound):
        raise DataError(
            "X: these rows make no finite posterior, and the model is left as it was; look for extreme "
            "values, or compute in float64"
        )
    _remember(estimator, params, total)
    estimator.n_samples_seen_ = seen
    estimator.lower_bound_, estimator.lower_bounds_ = bound, [*estimator.lower_bounds_, bound]
    estimator.n_iter_, estimator.converged_ = estimator.n_iter_ + 1, False


def _remember(estimator: Any, params: ConjugateParams, total: float) -> None:
    """The new posterior and what follows from it; the old fit is no longer true."""
    estimator._remember(dataclasses.replace(estimator.posterior_, params=params), estimator.means_.dtype)
    estimator._stands_for = total
    estimator.__dict__.pop("fit_", None)
