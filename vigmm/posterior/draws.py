"""Draws of the parameters and of new rows, in the units of the data.

Draws are made in float64 whatever the model's dtype: they are few, and a covariance that went through float32
may not be positive definite any more.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vigmm.core import rng
from vigmm.core.struct import require
from vigmm.core.typing import PRNGKey
from vigmm.data.moments import Standardizer
from vigmm.families import Family
from vigmm.models import Mixture

if TYPE_CHECKING:
    from vigmm.posterior.posterior import Posterior

__all__ = ["Draws", "draw", "draw_blocks", "sample"]

# Numbers in the covariances of one block of draws (32 MiB in float64) and the most draws in it.
_BLOCK = 1 << 22
_BLOCK_DRAWS = 1024

# Rows sampled at once share at most so many draws of the parameters.
_SHARED = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Draws:
    """S draws of the parameters from q, in the units of the data and in float64.

    Args:
        weights: mixture weights; each row sums to 1.
        means: component means.
        covariances: component covariances.
    """

    weights: Float[np.ndarray, "S K"]
    means: Float[np.ndarray, "S K D"]
    covariances: Float[np.ndarray, "S K D D"]

    def __len__(self) -> int:
        return len(self.weights)


@functools.partial(jax.jit, static_argnames=("model", "family", "dim", "size"))
def _block(
    model: Mixture, family: Family, params: Any, key: PRNGKey, first: Int[Array, ""], *, dim: int, size: int
) -> tuple[Array, Array, Array]:
    """Draws number `first` to `first + size` of the stream `key`, in standardised units."""

    def one(index: Int[Array, ""]) -> tuple[Array, Array, Array]:
        u, _ = family.sample(model, params, rng.at_step(key, index))
        means, covariances = model.covariance.moments(u.components, dim)
        return jnp.exp(model.constrain(u, dim).log_weights), means, covariances

    return jax.vmap(one)(first + jnp.arange(size, dtype=jnp.int32))


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
            params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), posterior.params)
            index = jnp.asarray(first, jnp.int32)
            found = _block(
                posterior.model, posterior.family, params, key, index, dim=posterior.dim, size=size
            )
            weights, means, covariances = (np.asarray(leaf)[: n - first] for leaf in found)
        yield first, Draws(weights=weights, means=means, covariances=covariances)


def draw(posterior: Posterior, key: PRNGKey, n: int) -> Draws:
    """`n` draws of the parameters; see `Posterior.draw`."""
    parts = [part for _, part in draw_blocks(posterior, key, n)]
    back = Standardizer(center=posterior.center, scale=posterior.scale)
    return Draws(
        weights=np.concatenate([part.weights for part in parts]),
        means=back.inverse(np.concatenate([part.means for part in parts])),
        covariances=back.inverse_cov(np.concatenate([part.covariances for part in parts])),
    )


def sample(
    posterior: Posterior, key: PRNGKey, n: int
) -> tuple[Float[np.ndarray, "n D"], Int[np.ndarray, " n"]]:
    """`n` new rows and their components; see `Posterior.sample`."""
    # On the host: each draw of the parameters makes a handful of rows, far too few for a device to notice.
    words = np.asarray(jax.random.key_data(rng.stream(key, "rows"))).ravel()
    generator = np.random.default_rng(words.tolist())
    shared = min(n, _SHARED)
    rows = np.empty((max(n, 0), posterior.dim))
    labels = np.empty(max(n, 0), np.int32)
    for first, block in draw_blocks(posterior, rng.stream(key, "draws"), shared):
        for s in range(len(block)):
            index = slice(first + s, None, shared)
            mine = generator.choice(
                posterior.num_components, size=len(labels[index]), p=_exact(block.weights[s])
            )
            noise = generator.standard_normal((len(mine), posterior.dim))
            factor = np.linalg.cholesky(block.covariances[s])
            rows[index] = block.means[s][mine] + np.einsum("nij,nj->ni", factor[mine], noise)
            labels[index] = mine
    return Standardizer(center=posterior.center, scale=posterior.scale).inverse(rows), labels


def _exact(weights: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Weights that sum to one as closely as NumPy asks for."""
    return np.asarray(weights / weights.sum())
