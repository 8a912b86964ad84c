"""Checks of a model against its data: posterior predictive statistics, and conflict between prior and data.

A check compares a number T of the data with its distribution under the model; the share of replicates
beyond it, on the nearer side and doubled, is the *tail probability*. It is a warning light, not a test of
size alpha: posterior predictive ones tend to be conservative.

References:
    Gelman, Meng and Stern (1996), Statistica Sinica 6; Evans and Moshonov (2006), Bayesian Analysis 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vigmm.core import rng
from vigmm.core.effort import program
from vigmm.core.typing import PRNGKey
from vigmm.models import Mixture, Prior, sticks
from vigmm.models.covariance import StructurePosition
from vigmm.posterior.draws import draw_work
from vigmm.posterior.replicates import replicated

if TYPE_CHECKING:
    from vigmm.posterior.posterior import Posterior

__all__ = ["Check", "predictive_checks", "prior_checks", "tail_probability"]

_STATISTICS: dict[str, Callable[[Float[np.ndarray, "n D"]], Float[np.ndarray, " D"]]] = {
    "mean": lambda x: np.nanmean(x, axis=0),
    "sd": lambda x: np.nanstd(x, axis=0),
    "smallest": lambda x: np.nanmin(x, axis=0),
    "largest": lambda x: np.nanmax(x, axis=0),
    "skewness": lambda x: _standardised_moment(x, 3),
    "kurtosis": lambda x: _standardised_moment(x, 4),
}


def _standardised_moment(x: Float[np.ndarray, "n D"], order: int) -> Float[np.ndarray, " D"]:
    centred = x - np.nanmean(x, axis=0)
    sd = np.nanstd(centred, axis=0)
    moment: np.ndarray = np.nanmean(centred**order, axis=0) / np.where(sd > 0, sd, 1.0) ** order
    return moment


@dataclasses.dataclass(frozen=True)
class Check:
    """One number of the data against its distribution under the model.

    Args:
        name: what was compared.
        column: the column it is of.
        observed: in the data.
        low: 5 % quantile under the model.
        high: 95 % quantile under the model.
        probability: two-sided tail probability, at least 2/(replicates + 1).
    """

    name: str
    column: str
    observed: float
    low: float
    high: float
    probability: float


def tail_probability(observed: float, replicated: Float[np.ndarray, " R"]) -> float:
    """Twice the smaller share of replicates on either side, ties counted on both; never zero."""
    count = len(replicated)
    below = (1 + np.sum(replicated <= observed)) / (count + 1)
    above = (1 + np.sum(replicated >= observed)) / (count + 1)
    return float(min(1.0, 2.0 * min(below, above)))


def _checks(
    names: list[str],
    columns: tuple[str, ...],
    observed: Float[np.ndarray, "T D"],
    replicated: Float[np.ndarray, "R T D"],
) -> list[Check]:
    found = []
    for t, name in enumerate(names):
        for d, column in enumerate(columns):
            values = replicated[:, t, d]
            low, high = np.quantile(values, [0.05, 0.95])
            found.append(
                Check(
                    name=name,
                    column=column,
                    observed=float(observed[t, d]),
                    low=float(low),
                    high=float(high),
                    probability=tail_probability(float(observed[t, d]), values),
                )
            )
    return found


def predictive_checks(
    posterior: Posterior, x: Float[np.ndarray, "n D"], key: PRNGKey, *, replicates: int = 200
) -> list[Check]:
    """Mean, sd, extremes, skewness and kurtosis of every column, in the data and in replicated data sets.

    Args:
        posterior: the posterior.
        x: rows, in the units of the data; a sample of some thousand is enough. NaN is a missing value, and
            replicates lack the same ones; a column of which there is no value is not checked.
        key: draws the replicates.
        replicates: data sets of as many rows, each from a draw of the parameters of its own.
    """
    names, seen = list(_STATISTICS), ~np.isnan(x)
    there = np.flatnonzero(seen.any(axis=0))
    x, seen = x[:, there], seen[:, there]
    observed = np.stack([_STATISTICS[name](x) for name in names])
    draws = posterior.draw(rng.stream(key, "parameters"), replicates)
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    found = [
        np.stack([_STATISTICS[name](np.where(seen, rows[:, there], np.nan)) for name in names])
        for rows in replicated(posterior, draws, len(x), generator)
    ]
    columns = tuple(posterior.columns[d] for d in there)
    return _checks(names, columns, observed, np.stack(found))


@program(lambda model, prior, keys: draw_work(model, prior), static_argnames=("model",))
def _draw_prior(
    model: Mixture, prior: Prior, keys: PRNGKey
) -> tuple[Float[Array, "S K"], Float[Array, "S K D"], Float[Array, "S K D D"]]:
    """Weights, means and covariances, one draw for each key, in standardised units."""
    algebra, num, dim = model.algebra, model.num_components, prior.frame.scale.shape[0]

    def one(key: PRNGKey) -> tuple[Array, Array, Array]:
        key_weights, key_components = jax.random.split(key)
        u: StructurePosition = algebra.sample(prior.components, key_components)
        means, covs = algebra.moments(u, dim)
        logit = sticks.sample(prior.weights, key_weights)
        log_weights = sticks.log_weights(logit, num, model.weights.num_sticks(num))
        return jnp.exp(log_weights), means, covs

    found: tuple[Array, Array, Array] = jax.vmap(one)(keys)
    return found


def prior_checks(
    posterior: Posterior, x: Float[np.ndarray, "n D"], key: PRNGKey, *, replicates: int = 500
) -> list[Check] | None:
    """Mean and sd of every column against their *prior* predictive: small probabilities mean conflict.

    The prior predictive mean and sd of a large data set are those of the mixture that the prior draws. None
    where the prior has no closed form to draw from.
    """
    model = posterior.model
    inferred = model.weights.num_hyper() or model.inferred_factor is not None
    if model.refusal() is not None or inferred:
        return None
    with jax.enable_x64(posterior.dtype == "float64"):
        found = _draw_prior(model, posterior.prior, jax.random.split(key, replicates))
        weights, means, covs = map(np.asarray, found)
    weights = weights / weights.sum(axis=1, keepdims=True)
    centre = np.einsum("sk,skd->sd", weights, means)
    spread = np.einsum("skdd->skd", covs) + (means - centre[:, None]) ** 2
    sd = np.sqrt(np.einsum("sk,skd->sd", weights, spread))
    replicated = np.stack([posterior.center + posterior.scale * centre, posterior.scale * sd], axis=1)
    observed = np.stack([x.mean(axis=0), x.std(axis=0)])
    return _checks(["mean", "sd"], posterior.columns, observed, replicated.astype(np.float64))
