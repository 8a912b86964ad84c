"""Prediction: the posterior predictive of rows, chunk by chunk.

    p(x, z = k | data) = E_q[pi_k N(x | mu_k, Sigma_k)]                                            (1)

Rows are standardised on the host in float64, chunk by chunk, so that a column far from zero keeps its
digits in float32; a chunk is padded to a power of two, so that few shapes are compiled; and on the device it
is worked through in tiles, so that memory does not grow with the chunk.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from vigmm.core import rng
from vigmm.core.effort import pass_work, program
from vigmm.core.errors import DataError
from vigmm.core.typing import PRNGKey
from vigmm.data.missing import patterns_of
from vigmm.data.moments import Standardizer
from vigmm.data.protocol import CHUNK, Source, blocks, check_finite
from vigmm.families import Family
from vigmm.math.rows import largest
from vigmm.math.tiles import choose_tile
from vigmm.models import Mixture, Prior
from vigmm.posterior.inputs import conform

if TYPE_CHECKING:
    from vigmm.posterior.posterior import Posterior

__all__ = ["NOISE", "NUM_DRAWS", "Assignments", "joined", "score_blocks", "with_patterns"]

NOISE = -1
"""The label of a row that belongs to the noise component."""

NUM_DRAWS = 32
"""Draws of the parameters in the predictive of a family that has no closed form."""

_MIN_ROWS = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Assignments:
    """For each row its component and what there is to say of it.

    Args:
        component: the most probable component; -1 for noise.
        probability: responsibility of that component, in [1/K, 1].
        log_density: log predictive density of the row, in nats and in the units of the data.
        responsibilities: probabilities of all components, if they were asked for; where the model has noise,
            its probability is the last column.
    """

    component: Int[np.ndarray, " N"]
    probability: Float[np.ndarray, " N"]
    log_density: Float[np.ndarray, " N"]
    responsibilities: Float[np.ndarray, "N K"] | None = None


def _work(model: Mixture, family: Family, params: Any, prior: Prior, x: Array, *_: Any, **more: Any) -> float:
    """Operations of some chunks of this size: several, where the rows may be more than one."""
    times = float(more["num_draws"]) * (10 if x.shape[0] >= CHUNK else 1)
    return times * pass_work(x.shape, model.num_components)


@program(_work, static_argnames=("model", "family", "num_draws", "full"))
def score(
    model: Mixture,
    family: Family,
    params: Any,
    prior: Prior,
    x: Float[Array, "B D"],
    key: PRNGKey,
    *,
    num_draws: int,
    full: bool,
) -> dict[str, Array]:
    """Equation (1) of standardised rows, reduced over components on the device.

    The same key for every tile: a row's density does not depend on the rows around it.

    Args:
        model: the mixture.
        family: the family of q.
        params: parameters of q.
        prior: hyperparameters.
        x: rows, as many as a power of two.
        key: draws the parameters, where the family has no closed form.
        num_draws: how often.
        full: whether to return all responsibilities.
    """

    def tile_scores(rows: Float[Array, "T D"]) -> dict[str, Array]:
        log_joint = family.log_predictive(model, params, prior, rows, key, num_draws=num_draws)
        log_density = jax.nn.logsumexp(log_joint, axis=-1)
        resp = jnp.exp(log_joint - log_density[:, None])
        component = largest(log_joint)
        if model.noise is not None:
            component = jnp.where(component == model.num_components, NOISE, component)
        scores = {
            "component": component,
            "probability": jnp.max(resp, axis=-1),
            "log_density": log_density,
        }
        return {**scores, "responsibilities": resp} if full else scores

    rows, dim = x.shape
    tile = choose_tile(x, model.num_components * dim)
    if tile >= rows:
        return tile_scores(x)
    tiles = lax.map(tile_scores, x.reshape(rows // tile, tile, dim))
    return {name: leaf.reshape(rows, *leaf.shape[2:]) for name, leaf in tiles.items()}


def score_blocks(
    posterior: Posterior,
    data: Any,
    *,
    full: bool = False,
    num_draws: int = NUM_DRAWS,
    chunk: int = CHUNK,
    devices: Sequence[jax.Device] = (),
) -> Iterator[tuple[int, Assignments]]:
    """Pairs (number of the first row, assignments) that cover `data` in order.

    Each device works on one chunk while the host prepares the next; results do not depend on how many there
    are.

    Args:
        posterior: the model.
        data: rows in the units of the data; see `vigmm.posterior.inputs.conform`.
        full: whether to return all responsibilities.
        num_draws: draws of the parameters, where the family has no closed form.
        chunk: rows at a time.
        devices: what computes, a chunk each in turn; by default JAX's default device.

    Raises:
        DataError: for columns that do not fit, or a value that cannot be used, naming row and column.
    """
    source = conform(data, posterior.columns)
    standardizer = Standardizer(center=posterior.center, scale=posterior.scale)
    log_scale = np.log(posterior.scale)
    missing = posterior.model.missing
    turns: Sequence[jax.Device | None] = tuple(devices) or (None,)
    # Not around the loop: a context that is open at a yield would be open in the caller.
    with jax.enable_x64(posterior.dtype == "float64"):
        key = rng.stream(rng.root_key(posterior.seed), "predict")
        given = [jax.device_put((posterior.params, posterior.prior, key), device) for device in turns]
    waiting: deque[tuple[int, Float[np.ndarray, " n"], dict[str, Array]]] = deque()
    for number, (start, block) in enumerate(blocks(source, size=chunk)):
        check_finite(block, source, start=start, missing=missing)
        x = _padded(standardizer.forward(block), posterior.dtype)
        turn = number % len(turns)
        params, prior, key = given[turn]
        with jax.enable_x64(posterior.dtype == "float64"):
            if missing:
                prior = jax.device_put(with_patterns(posterior.prior, block), turns[turn])
            scores = score(
                posterior.model,
                posterior.family,
                params,
                prior,
                jax.device_put(x, turns[turn]),
                key,
                num_draws=num_draws,
                full=full,
            )
        # Of what each row has: log p(x) = log p(z) - volume.
        volume = ~np.isnan(block) @ log_scale if missing else np.full(len(block), log_scale.sum())
        waiting.append((start, volume, scores))
        if len(waiting) > len(turns):
            first = waiting.popleft()
            yield first[0], _finished(posterior, source, *first)
    for first in waiting:
        yield first[0], _finished(posterior, source, *first)


def joined(parts: Iterator[tuple[int, Assignments]]) -> Assignments:
    """All chunks as one."""
    found = [part for _, part in parts]
    resp = [part.responsibilities for part in found if part.responsibilities is not None]
    return Assignments(
        component=np.concatenate([part.component for part in found]),
        probability=np.concatenate([part.probability for part in found]),
        log_density=np.concatenate([part.log_density for part in found]),
        responsibilities=np.concatenate(resp) if resp else None,
    )


def _padded(z: Float[np.ndarray, "n D"], dtype: str) -> Float[np.ndarray, "B D"]:
    """The rows in the model's dtype and, behind them, zeros up to a power of two."""
    size = max(_MIN_ROWS, 1 << (len(z) - 1).bit_length())
    x = np.zeros((size, z.shape[1]), dtype)
    with np.errstate(
        over="ignore"
    ):  # an infinite row has no finite density, which is reported with its number
        x[: len(z)] = z
    return x


def with_patterns(prior: Prior, block: Float[np.ndarray, "n D"]) -> Prior:
    """The prior with the missingness patterns of some rows, as many as a power of two."""
    found = patterns_of(block)
    # The padding rows have every value; a repeated pattern is never chosen before its first copy.
    found = np.concatenate([found, np.ones((1, block.shape[1]), np.bool_)])
    size = 1 << (len(found) - 1).bit_length()
    padded = np.concatenate([found, np.repeat(found[-1:], size - len(found), axis=0)])
    patterns = jnp.asarray(padded, prior.frame.scale.dtype)
    return dataclasses.replace(prior, frame=dataclasses.replace(prior.frame, patterns=patterns))


def _finished(
    posterior: Posterior,
    source: Source,
    start: int,
    volume: Float[np.ndarray, " n"],
    scores: dict[str, Array],
) -> Assignments:
    """Scores of one chunk on the host, without the padding and in the units of the data."""
    host = {name: np.asarray(value)[: len(volume)] for name, value in scores.items()}
    finite = np.isfinite(host["log_density"])
    if not finite.all():
        raise _unusable(posterior, source, start + int(np.argmin(finite)))
    single = posterior.dtype == "float32" or source.dtype in (np.float32, np.float16)
    dtype = np.dtype("float32" if single else "float64")
    resp = host.get("responsibilities")
    return Assignments(
        component=host["component"],
        probability=host["probability"].astype(dtype, copy=False),
        log_density=(host["log_density"].astype(np.float64) - volume).astype(dtype, copy=False),
        responsibilities=None if resp is None else resp.astype(dtype, copy=False),
    )


def _unusable(posterior: Posterior, source: Source, row: int) -> DataError:
    if not all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(posterior.params)):
        return DataError(
            f"{source.name}: the model's own parameters are not finite, so it cannot predict; fit it again"
        )
    remedy = " or fit in float64" if posterior.dtype == "float32" else ""
    return DataError(
        f"{source.name}: row {row} lies too far from the training data for its density to be told in "
        f"{posterior.dtype}; drop such rows{remedy}. Rows are counted from 0"
    )
