"""Data sets as the model would make them, and what each draw of the parameters says of given rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from vigmm.core import rng
from vigmm.core.effort import pass_work, program
from vigmm.core.precision import double
from vigmm.core.typing import PRNGKey
from vigmm.data.moments import Standardizer
from vigmm.families import Family
from vigmm.models import Mixture, Prior
from vigmm.posterior.draws import Draws
from vigmm.posterior.prediction import with_patterns

if TYPE_CHECKING:
    from vigmm.posterior.posterior import Posterior

__all__ = ["log_likelihood", "replicated"]


def replicated(
    posterior: Posterior, draws: Draws, n: int, generator: np.random.Generator
) -> Iterator[Float[np.ndarray, "n D"]]:
    """For each draw of the parameters a data set of `n` rows, in the units of the data."""
    back = Standardizer(center=posterior.center, scale=posterior.scale)
    frame = posterior.prior.frame
    low, high = back.inverse(frame.low), back.inverse(frame.high)
    for s in range(len(draws)):
        shares = np.append(draws.weights[s], draws.noise[s])
        labels = generator.choice(len(shares), size=n, p=shares / shares.sum())
        which = np.minimum(labels, len(shares) - 2)
        factor = np.linalg.cholesky(draws.covariances[s])
        stretch = posterior.model.likelihood.stretch(draws.own[s][which], generator)
        noise = stretch[:, None] * generator.standard_normal((n, posterior.dim))
        rows = draws.means[s][which] + np.einsum("nij,nj->ni", factor[which], noise)
        uniform = low + (high - low) * generator.random(rows.shape)
        yield np.where((labels == len(shares) - 1)[:, None], uniform, rows)


def _work(
    model: Mixture, family: Family, params: Any, prior: Prior, key: PRNGKey, x: Array, *, size: int
) -> float:
    return size * pass_work(x.shape, model.num_components)


@program(_work, static_argnames=("model", "family", "size"))
def _all_draws(
    model: Mixture,
    family: Family,
    params: Any,
    prior: Prior,
    key: PRNGKey,
    x: Float[Array, "N D"],
    *,
    size: int,
) -> Float[Array, "S N"]:
    """Log densities of standardised rows at the first draws of the stream `key`."""

    def one(index: Array) -> Array:
        u = family.sample(model, params, rng.at_step(key, index))[0]
        return model.log_lik(model.constrain(prior, u), x)

    found: Array = lax.map(one, jnp.arange(size, dtype=jnp.int32))
    return found


def log_likelihood(
    posterior: Posterior, x: Float[np.ndarray, "N D"], key: PRNGKey, n: int
) -> Float[np.ndarray, "n N"]:
    """Log p(row | draw) for the draws that `Posterior.draw(key, n)` gives, assignments summed out.

    In nats and in the units of the data, computed in float64; of missing values (NaN) nothing is counted.
    """
    z = Standardizer(center=posterior.center, scale=posterior.scale).forward(x)
    with jax.enable_x64(True):
        params, prior = double((posterior.params, posterior.prior))
        prior = with_patterns(prior, z) if posterior.model.missing else prior
        found = _all_draws(posterior.model, posterior.family, params, prior, key, z, size=n)
        values = np.asarray(found)
    in_units: Float[np.ndarray, "n N"] = values - ~np.isnan(x) @ np.log(posterior.scale)
    return in_units
