"""Draws of the parameters and of new rows, in the units of the data.

Draws are made in float64 whatever the model's dtype: they are few, and a covariance that went through float32
may not be positive definite any more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vigmm.core import rng
from vigmm.core.effort import pass_work, program
from vigmm.core.precision import double
from vigmm.core.struct import require
from vigmm.core.typing import PRNGKey
from vigmm.data.moments import Standardizer
from vigmm.families import Family
from vigmm.models import Mixture, Position, Prior
from vigmm.posterior.prediction import NOISE

if TYPE_CHECKING:
    from vigmm.posterior.posterior import Posterior

__all__ = ["Draws", "draw", "draw_blocks", "draw_work", "from_positions", "sample"]

# Numbers in the covariances of one block of draws (32 MiB in float64) and the most draws in it.
_BLOCK = 1 << 22
_BLOCK_DRAWS = 1024
_USUAL_DRAWS = 2048

# Rows sampled at once share at most so many draws of the parameters.
_SHARED = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Draws:
    """S draws of the parameters from q, in the units of the data and in float64.

    Args:
        weights: mixture weights; each row sums to 1, less the share of a noise component.
        means: component means.
        covariances: component covariances; of Student-t components the scale matrices.
        own: the likelihood's coordinates, such as the log degrees of freedom; empty for Gaussian components.
        noise: share of the noise component; 0 where there is none.
    """

    weights: Float[np.ndarray, "S K"]
    means: Float[np.ndarray, "S K D"]
    covariances: Float[np.ndarray, "S K D D"]
    own: Float[np.ndarray, "S K E"]
    noise: Float[np.ndarray, " S"]

    def __len__(self) -> int:
        return len(self.weights)


def _read(model: Mixture, prior: Prior, u: Position) -> tuple[Array, ...]:
    """Weights, means, covariances, likelihood coordinates and share of noise, in standardised units."""
    means, covariances = model.moments(prior, u)
    theta = model.constrain(prior, u)
    noise = jnp.exp(theta.log_noise + prior.frame.log_volume)
    return jnp.exp(theta.log_weights), means, covariances, theta.own, jnp.sum(noise)


def draw_work(model: Mixture, prior: Prior) -> float:
    """Operations of a summary's draws: a factor, an inverse and two products of D x D matrices each."""
    # A NumPyro model has a few rows in the place of hyperparameters.
    dim = prior.frame.scale.shape[0] if hasattr(prior, "frame") else jax.tree.leaves(prior)[0].shape[-1]
    return _USUAL_DRAWS * pass_work((1, dim), model.num_components) * dim


@program(
    lambda model, family, params, prior, *_, **__: draw_work(model, prior),
    static_argnames=("model", "family", "size"),
)
def _block(
    model: Mixture,
    family: Family,
    params: Any,
    prior: Prior,
    key: PRNGKey,
    first: Int[Array, ""],
    *,
    size: int,
) -> tuple[Array, ...]:
    """Draws number `first` to `first + size` of the stream `key`, in standardised units."""

    def one(index: Int[Array, ""]) -> tuple[Array, ...]:
        return _read(model, prior, family.sample(model, params, rng.at_step(key, index))[0])

    return jax.vmap(one)(first + jnp.arange(size, dtype=jnp.int32))


@program(lambda model, prior, u: draw_work(model, prior), static_argnames=("model",))
def _read_all(model: Mixture, prior: Prior, u: Position) -> tuple[Array, ...]:
    found: tuple[Array, ...] = jax.lax.map(lambda one: _read(model, prior, one), u)
    return found


def from_positions(posterior: Posterior, u: Position) -> Draws:
    """What positions, with a leading axis S, say of the parameters, in the units of the data."""
    with jax.enable_x64(True):
        prior, u = double((posterior.prior, u))
        weights, means, covariances, own, noise = map(np.asarray, _read_all(posterior.model, prior, u))
    back = Standardizer(center=posterior.center, scale=posterior.scale)
    return Draws(
        weights=weights,
        means=back.inverse(means),
        covariances=back.inverse_cov(covariances),
        own=own,
        noise=noise,
    )


def draw_blocks(posterior: Posterior, key: PRNGKey, n: int) -> Iterator[tuple[int, Draws]]:
    """Pairs (number of the first draw, draws in standardised units) that make up `n` draws.

    Draw i depends on the key and on i only, not on `n`.

    Raises:
        SpecError: unless n is at least 1.
    """
    require(n >= 1, "n", ">= 1", n)
    fit = max(1, _BLOCK // (posterior.num_components * posterior.dim**2))
    # Whatever `n` is: compiling for another shape costs seconds, draws that nobody needs milliseconds.
    size = min(_BLOCK_DRAWS, 1 << (fit.bit_length() - 1))
    for first in range(0, n, size):
        # Not around the loop: a context that is open at a yield would be open in the caller.
        with jax.enable_x64(True):
            params, prior = double((posterior.params, posterior.prior))
            index = np.asarray(first, np.int32)
            found = _block(posterior.model, posterior.family, params, prior, key, index, size=size)
            weights, means, covariances, own, noise = (np.asarray(leaf)[: n - first] for leaf in found)
        yield first, Draws(weights=weights, means=means, covariances=covariances, own=own, noise=noise)


def draw(posterior: Posterior, key: PRNGKey, n: int) -> Draws:
    """`n` draws of the parameters; see `Posterior.draw`."""
    parts = [part for _, part in draw_blocks(posterior, key, n)]
    back = Standardizer(center=posterior.center, scale=posterior.scale)
    return Draws(
        weights=np.concatenate([part.weights for part in parts]),
        means=back.inverse(np.concatenate([part.means for part in parts])),
        covariances=back.inverse_cov(np.concatenate([part.covariances for part in parts])),
        own=np.concatenate([part.own for part in parts]),
        noise=np.concatenate([part.noise for part in parts]),
    )


def sample(
    posterior: Posterior, key: PRNGKey, n: int
) -> tuple[Float[np.ndarray, "n D"], Int[np.ndarray, " n"]]:
    """`n` new rows and their components; see `Posterior.sample`."""
    # On the host: each draw of the parameters makes a handful of rows, far too few for a device to notice.
    words = np.asarray(jax.random.key_data(rng.stream(key, "rows"))).ravel()
    generator = np.random.default_rng(words.tolist())
    shared = min(n, _SHARED)
    low, high = (
        np.asarray(edge, np.float64) for edge in (posterior.prior.frame.low, posterior.prior.frame.high)
    )
    rows = np.empty((max(n, 0), posterior.dim))
    labels = np.empty(max(n, 0), np.int32)
    for first, block in draw_blocks(posterior, rng.stream(key, "draws"), shared):
        for s in range(len(block)):
            index = slice(first + s, None, shared)
            count, num = len(labels[index]), posterior.num_components
            shares = np.append(block.weights[s], block.noise[s])
            mine = generator.choice(num + 1, size=count, p=shares / shares.sum())
            labels[index] = np.where(mine < num, mine, NOISE)
            # Noise rows are drawn like the others and then replaced: one stream, whatever the labels.
            which = np.minimum(mine, num - 1)
            noise = generator.standard_normal((count, posterior.dim))
            stretch = posterior.model.likelihood.stretch(block.own[s][which], generator)[:, None]
            factor = np.linalg.cholesky(block.covariances[s])
            found = block.means[s][which] + stretch * np.einsum("nij,nj->ni", factor[which], noise)
            rows[index] = np.where(
                (mine < num)[:, None], found, low + (high - low) * generator.random(found.shape)
            )
    return Standardizer(center=posterior.center, scale=posterior.scale).inverse(rows), labels
