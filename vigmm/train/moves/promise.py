"""What a simpler covariance promises, from the statistics of components with a matrix each.

The statistics of such components contain those of every structure of variances. At the same responsibilities
two bounds therefore differ by evidences in closed form,

    log Z_s(prior + statistics) - log Z_s(prior) - [log Z(prior + statistics) - log Z(prior)]              (1)

for what the weights and the assignments say is the same. That is not yet what the other structure would find:
clusters that matrices cannot pay for lie together in one component, and make it long in a few directions. So
the longest directions may be cut back to the variance that the structure has there, each for one component
more, with p coordinates. As far as is known its rows are told no better along it than by a Gaussian of
lambda times that variance:

    promise = (1) with the directions cut back - sum_cut [n/2 log lambda + p/2 log n]                      (2)

No pass over rows is needed. It is no bound, and decides only what is tried: a ball, or a box along the
columns, promises much where components are balls or boxes but for few directions, and nothing where columns
are correlated in many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from vigmm.core.effort import program
from vigmm.families import ConjugateParams
from vigmm.families import factor as factors
from vigmm.families.factor import Factor
from vigmm.models import Mixture, Prior
from vigmm.models.covariance import Quadratic
from vigmm.train.moves.mixture import EMPTY, slot_work

__all__ = ["costly", "promises", "restated"]

# Up to so many columns a matrix has ten numbers at most: another structure finds the same clusters.
_FEW_COLUMNS = 4
# A matrix has many numbers where they are more than this share of a component's rows.
_MANY = 0.01
# Steps of q of the common factor, and rounds in which variances and directions follow each other.
_FACTOR_STEPS, _ROUNDS = 20, 4


def costly(dim: int, num_components: int, rows: float) -> bool:
    """Whether components with a matrix each are so dear that a simpler covariance may find more of them.

    Example:
        >>> costly(32, 1, 2_048.0), costly(4, 3, 150.0), costly(16, 5, 200_000.0)
        (True, False, False)
    """
    return dim > _FEW_COLUMNS and 0.5 * dim * (dim + 1) * num_components >= _MANY * rows


def promises(
    model: Mixture,
    prior: Prior,
    params: ConjugateParams,
    others: Sequence[tuple[Mixture, Prior]],
    spare: int,
) -> list[float]:
    """Equation (2), in nats, for other structures.

    Args:
        model: a mixture with a covariance matrix for each component.
        prior: its hyperparameters, with the common factor that was found.
        params: its posterior.
        others: the same mixture with structures of variances, and hyperparameters before a factor is found.
        spare: the most components more.
    """
    stats, centre, level = _told(model, prior, params)
    count, first, second = (_wide(leaf) for leaf in (stats.count, stats.first, stats.second))
    used = count > EMPTY
    count = np.where(used, count, 0.0)
    away = np.where(used[:, None], first, 0.0) / np.where(used, count, 1.0)[:, None]
    scatter = (
        np.where(used[:, None, None], second, 0.0) - count[:, None, None] * away[:, :, None] * away[:, None]
    )
    loc = _wide(centre) + away
    return [_promise(one, its, count, loc, scatter, spare) - float(level) for one, its in others]


def _promise(
    model: Mixture,
    prior: Prior,
    count: Float[np.ndarray, " K"],
    loc: Float[np.ndarray, "K D"],
    scatter: Float[np.ndarray, "K D D"],
    spare: int,
) -> float:
    """Equation (2) but for the evidence that is subtracted: its highest value on the way to the last cut."""
    # Of one component more: its own coordinates, and a stick.
    cost = 0.5 * (model.sizes(loc.shape[1])[1] + 1) * np.log(np.maximum(count, 2.0))
    dtype = prior.frame.scale.dtype
    best, cut, price = -math.inf, scatter, 0.0
    for _ in range(_ROUNDS):
        arrays = (jnp.asarray(np.asarray(one, dtype)) for one in (count, loc, cut))
        evidence, covariance = map(_wide, _evidence(model, prior, *arrays))
        best = max(best, float(evidence) - price)
        if spare == 0 or not np.all(np.isfinite(covariance)):
            break
        cut, price = _cut(scatter, count, covariance, cost, spare)
    return best


def _wide(value: Array) -> np.ndarray:
    return np.asarray(value, np.float64)


def _cut(
    scatter: Float[np.ndarray, "K D D"],
    count: Float[np.ndarray, " K"],
    covariance: Float[np.ndarray, "K D D"],
    cost: Float[np.ndarray, " K"],
    spare: int,
) -> tuple[Float[np.ndarray, "K D D"], float]:
    """The scatter, its longest directions cut back to what `covariance` has there, and the price of that."""
    root = np.linalg.cholesky(covariance)
    inverse = np.linalg.inv(root)
    rows = np.maximum(count, 1.0)[:, None]
    white = inverse @ scatter @ np.swapaxes(inverse, -1, -2) / rows[:, :, None]
    length, directions = np.linalg.eigh(white)
    length = np.maximum(length, 1.0)
    gain = 0.5 * rows * (length - 1.0 - np.log(length)) - cost[:, None]
    chosen = np.zeros(gain.size, bool)
    chosen[np.argsort(-gain, axis=None)[:spare]] = True
    chosen = chosen.reshape(gain.shape) & (gain > 0.0)
    along = root @ directions
    beyond = np.where(chosen, rows * (length - 1.0), 0.0)
    price = np.sum(np.where(chosen, 0.5 * rows * np.log(length) + cost[:, None], 0.0))
    return scatter - np.einsum("kde,ke,kfe->kdf", along, beyond, along), float(price)


@program(slot_work, static_argnames=("model",))
def _told(
    model: Mixture, prior: Prior, params: ConjugateParams
) -> tuple[Any, Float[Array, "K D"], Float[Array, ""]]:
    """Statistics of the components, their centres, and the log evidence of the statistics."""
    stats, centre = _statistics(model, prior, params), params.components.centre
    return stats, centre, _log_evidence(model, factors.given(model, prior, params.factor), stats, centre)


def _statistics(model: Mixture, prior: Prior, params: ConjugateParams) -> Any:
    base = factors.base(model, prior, params.factor, params.components.centre)
    return jax.tree.map(jnp.subtract, params.components, base)


def _log_evidence(model: Mixture, given: Any, stats: Any, centre: Float[Array, "K D"]) -> Float[Array, ""]:
    base = model.algebra.natural(given, centre)
    after = jax.tree.map(jnp.add, base, stats)
    value: Array = model.algebra.log_partition(after) - model.algebra.log_partition(base)
    return value


@program(slot_work, static_argnames=("model",))
def _evidence(
    model: Mixture,
    prior: Prior,
    count: Float[Array, " K"],
    loc: Float[Array, "K D"],
    scatter: Float[Array, "K D D"],
) -> tuple[Float[Array, ""], Float[Array, "K D D"]]:
    """Log evidence of components with such a scatter about `loc`, and their covariances."""
    algebra = model.algebra
    stats = _simpler(model, count, jnp.zeros_like(loc), scatter)

    def after(factor: Factor | None) -> Any:
        return jax.tree.map(jnp.add, factors.base(model, prior, factor, loc), stats)

    def step(_: Any, factor: Factor) -> Factor:
        found = factors.best(model, prior, after(factor), count > EMPTY)
        assert found is not None
        return found

    factor = factors.unseen(model, loc.dtype)
    if factor is not None:
        factor = lax.fori_loop(0, _FACTOR_STEPS, step, factor)
    place, _ = algebra.gaussian_fit(algebra.standard(after(factor)))
    evidence = _log_evidence(model, factors.given(model, prior, factor), stats, loc)
    return evidence, algebra.moments(place, loc.shape[1])[1]


def _simpler(
    model: Mixture, count: Float[Array, " K"], first: Float[Array, "K D"], second: Float[Array, "K D D"]
) -> Any:
    """Statistics of a structure of variances from those of matrices, about the same centres."""
    structure = cast(Quadratic, model.structure)
    squares = jnp.diagonal(second, axis1=-2, axis2=-1)
    if structure.features == "square":
        squares = jnp.sum(squares, axis=-1, keepdims=True)
    moments = jnp.concatenate([squares, first, count[:, None]], axis=-1)
    # About what they are about already.
    return structure.collect(moments, jnp.zeros_like(first))


@program(slot_work, static_argnames=("model", "other"))
def restated(
    model: Mixture, prior: Prior, params: ConjugateParams, other: Mixture, its_prior: Prior
) -> ConjugateParams:
    """The posterior of the same statistics with another covariance, a structure of variances."""
    stats, centre = _statistics(model, prior, params), params.components.centre
    factor = factors.unseen(other, centre.dtype)
    base = factors.base(other, its_prior, factor, centre)
    its_stats = _simpler(other, stats.count, stats.first, stats.second)
    return ConjugateParams(
        weights=params.weights, components=jax.tree.map(jnp.add, base, its_stats), factor=factor
    )
