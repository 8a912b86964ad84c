"""Normalizing flow: a Gaussian bent by inverse autoregressive networks.

    z_0 = noise ~ N(0, I),   z_t = reversed(m_t(z_{t-1}) + exp(s_t(z_{t-1})) z_{t-1}),
    u = loc + exp(log_scale) z_T

Entry i of m_t and s_t sees only the entries before i, so that a draw costs one pass through each network and
the log determinant is a sum. Every pass is followed by a reversal, so that the next network sees the rest.
There is no closed-form entropy: bounds use -log q of the draws. For skewed and curved posteriors of small
models.

References:
    Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling (2016), Improved variational inference with
    inverse autoregressive flow; Germain, Gregor, Murray and Larochelle (2015), MADE.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from vigmm.core.struct import require, spec, state
from vigmm.core.typing import PRNGKey
from vigmm.families import draws, gaussian
from vigmm.families.base import Guess
from vigmm.models import Mixture, Position, Prior

__all__ = ["Flow", "FlowParams"]

# A network of 1,000 coordinates and 1,000 hidden units has 3 million weights; more is a mistake, not a model.
_LIMIT = 1_000


@state
class FlowParams:
    """Location and log scale of every coordinate, and the weights of each network, layer by layer."""

    loc: Position
    log_scale: Position
    networks: Any


@spec
class Flow:
    """q(u): standard normal noise, pushed through inverse autoregressive flows, scaled and shifted.

    Args:
        num_flows: T, networks in sequence; with one, no coordinate is bent by those after it.
        hidden: width of each hidden layer; never fewer units than there are coordinates.
    """

    num_flows: int = 2
    hidden: tuple[int, ...] = (32,)

    default_estimator: ClassVar[str] = "pathwise"

    def __post_init__(self) -> None:
        require(self.num_flows >= 1, "num_flows", ">= 1", self.num_flows)
        wide = len(self.hidden) >= 1 and all(width >= 1 for width in self.hidden)
        require(wide, "hidden", "at least one width, each >= 1", self.hidden)

    def check(self, model: Mixture) -> None:
        """Fits every model of up to 1,000 coordinates, which only the data decide."""

    def init(self, model: Mixture, guess: Guess) -> FlowParams:
        """The guess itself: the last layer of every network is zero, and so m = s = 0."""
        flat, _ = ravel_pytree(guess.loc)
        few = f"one for at most {_LIMIT} coordinates: 'blocks' or 'lowrank' instead"
        require(flat.size <= _LIMIT, "family", few, f"flow with {flat.size}")
        keys = jax.random.split(jax.random.key(0), self.num_flows)
        networks = tuple(self._first(key, flat.size, flat.dtype) for key in keys)
        return FlowParams(loc=guess.loc, log_scale=jax.tree.map(jnp.log, guess.scale), networks=networks)

    def _first(self, key: PRNGKey, size: int, dtype: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            _, layers = _network(size, self.hidden)[0](key, (size,))
        *inner, last = jax.tree.map(lambda leaf: leaf.astype(dtype), list(layers))
        return (*inner, jax.tree.map(jnp.zeros_like, last))

    def _transform(self, layers: Any, size: int) -> Any:
        """One flow, in NumPyro's form."""
        from numpyro.distributions.flows import InverseAutoregressiveTransform

        return InverseAutoregressiveTransform(functools.partial(_network(size, self.hidden)[1], list(layers)))

    def noise_size(self, model: Mixture, params: FlowParams) -> int:
        """One number for each coordinate."""
        return draws.size(params.loc)

    def push(
        self, model: Mixture, params: FlowParams, noise: Float[Array, " M"]
    ) -> tuple[Position, Float[Array, ""]]:
        """A draw, with log q = log N(noise) - sum_t sum_i s_ti - sum(log_scale)."""
        loc, unravel = ravel_pytree(params.loc)
        log_scale, _ = ravel_pytree(params.log_scale)
        z, log_q = noise, gaussian.log_density(log_scale, noise)
        # NumPyro's masks are booleans that multiply weights.
        with jax.numpy_dtype_promotion("standard"):
            for layers in params.networks:
                bent, log_stretch = self._transform(layers, loc.size).call_with_intermediates(z)
                z, log_q = bent[::-1], log_q - jnp.sum(log_stretch)
        return unravel(loc + jnp.exp(log_scale) * z), log_q

    def log_prob(self, model: Mixture, params: FlowParams, u: Position) -> Float[Array, ""]:
        """Log q(u), through the inverse of each flow: one pass through a network for every coordinate."""
        loc, _ = ravel_pytree(params.loc)
        log_scale, _ = ravel_pytree(params.log_scale)
        z = (ravel_pytree(u)[0] - loc) * jnp.exp(-log_scale)
        log_stretch = jnp.zeros((), z.dtype)
        with jax.numpy_dtype_promotion("standard"):
            for layers in reversed(params.networks):
                transform, bent = self._transform(layers, loc.size), z[::-1]
                z = _inverse(transform, bent)
                log_stretch = log_stretch + transform.log_abs_det_jacobian(z, bent)
        return gaussian.log_density(log_scale, z) - log_stretch

    def sample(self, model: Mixture, params: FlowParams, key: PRNGKey) -> tuple[Position, Float[Array, ""]]:
        """One draw and its log q."""
        return draws.sample(self, model, params, key)

    def weights(self, model: Mixture, params: FlowParams) -> Float[Array, " K"]:
        """Weights at the position that zero noise makes."""
        still = jnp.zeros_like(ravel_pytree(params.loc)[0])
        return jnp.exp(model.log_weights(self.push(model, params, still)[0]))

    def log_predictive(
        self,
        model: Mixture,
        params: FlowParams,
        prior: Prior,
        x: Float[Array, "B D"],
        key: PRNGKey,
        *,
        num_draws: int,
    ) -> Float[Array, "B KZ"]:
        """Log of the mean over draws of pi_k p(x | component k)."""
        return draws.log_predictive(self, model, params, prior, x, key, num_draws=num_draws)


def _inverse(transform: Any, bent: Float[Array, " M"]) -> Float[Array, " M"]:
    """What the flow bent: i passes give the first i entries, and the others do not matter to them.

    NumPyro's own starts from zeros of the default dtype, which need not be that of the parameters.
    """

    def once(_: int, z: Float[Array, " M"]) -> Float[Array, " M"]:
        shift, log_stretch = transform.arn(z)
        low, high = transform.log_scale_min_clip, transform.log_scale_max_clip
        found: Array = (bent - shift) * jnp.exp(-jnp.clip(log_stretch, low, high))
        return found

    z: Array = jax.lax.fori_loop(0, bent.shape[0], once, jnp.zeros_like(bent))
    return z


@functools.lru_cache(maxsize=32)
def _network(size: int, hidden: tuple[int, ...]) -> Any:
    """(init, apply) of a masked network, whose masks are constants of the program."""
    from jax.example_libraries import stax
    from numpyro.nn import AutoregressiveNN

    widths = [max(width, size) for width in hidden]
    with jax.ensure_compile_time_eval(), jax.numpy_dtype_promotion("standard"):
        return AutoregressiveNN(size, widths, nonlinearity=stax.Elu)
