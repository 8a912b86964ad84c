"""Peaks and valleys of mixture densities.

    p(x) = sum_k pi_k f_k(|W_k (x - mu_k)|^2)                                                      (1)

is climbed by steps that never go down,

    x <- M(x)^-1 sum_k a_k W_k'W_k mu_k,    M(x) = sum_k a_k W_k'W_k,    a_k = p(k | x) u_k(x)       (2)

with u_k = -2 d log f_k / d square, which is 1 for Gaussians. On the way from one peak to another a valley is
looked for on a straight line and on the ridgeline, where all critical points of two Gaussians lie:

    x(t) = (A + B)^-1 (A x_1 + B x_2),    A = (1 - t) M(x_1),    B = t M(x_2)                        (3)

References:
    Ray and Lindsay (2005), The topography of multivariate normal mixtures, Annals of Statistics 33;
    Li, Ray and Lindsay (2007), A nonparametric statistical approach to clustering via mode identification,
    JMLR 8.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from vigmm.core.effort import pass_work, program
from vigmm.math.linalg import einsum
from vigmm.models.likelihoods import Likelihood
from vigmm.posterior.draws import Draws

__all__ = ["Topography", "ways"]

# A climb ends when a step is no longer than this, in standard deviations, or after so many steps.
_STILL, _MOST_STEPS = 1e-7, 2_000
# Places on the way from one peak to another.
_PLACES = 48
# Numbers that are made at once (32 MiB), and the fewest places that are looked at: few shapes are compiled.
_NUMBERS, _FEWEST = 1 << 22, 64


@dataclasses.dataclass(frozen=True, eq=False)
class Topography:
    """S mixture densities (1) with K components each.

    Args:
        likelihood: f, a row of `LIKELIHOODS`.
        draws: their parameters; what x is measured in too. A share of noise, flat wherever rows are, is left
            out.
    """

    likelihood: Likelihood
    draws: Draws

    def _given(self) -> tuple[np.ndarray, ...]:
        """Log weights, means, whiteners and the likelihood's coordinates."""
        whiteners = np.linalg.inv(np.linalg.cholesky(self.draws.covariances))
        with np.errstate(divide="ignore"):  # a weight of zero has no density
            log_weights = np.log(self.draws.weights)
        return log_weights, self.draws.means, whiteners, self.draws.own

    def heights(self, x: Float[np.ndarray, "*B D"]) -> Float[np.ndarray, "S *B"]:
        """Log p(x) of each density."""
        flat = x.reshape(-1, x.shape[-1])
        num, dim = self.draws.means.shape[1:]
        most = 1 << (max(_NUMBERS // (num * dim), _FEWEST).bit_length() - 1)
        size = min(most, max(_FEWEST, 1 << max(len(flat) - 1, 0).bit_length()))
        found = []
        with jax.enable_x64(True):
            given = self._given()
            for first in range(0, len(flat), size):
                piece = flat[first : first + size]
                padded = np.pad(piece, ((0, size - len(piece)), (0, 0)))
                found.append(np.asarray(_heights(self.likelihood, given, padded))[:, : len(piece)])
        return np.concatenate(found, axis=1).reshape(-1, *x.shape[:-1])

    def climb(
        self, x: Float[np.ndarray, "B D"]
    ) -> tuple[Float[np.ndarray, "B D"], Float[np.ndarray, "B D D"]]:
        """The peak of the first density above each place, by equation (2), and M there."""
        x, metric = x.copy(), np.empty((*x.shape, x.shape[1]))
        given = tuple(one[0] for one in self._given())
        _, means, whiteners, _ = given
        precisions = np.swapaxes(whiteners, -1, -2) @ whiteners
        pulled = np.einsum("kde,ke->kd", precisions, means)
        active = np.arange(len(x))
        for _ in range(_MOST_STEPS):
            # Padded with places that stay where they are: one shape is compiled.
            with jax.enable_x64(True):
                shares = np.asarray(_shares(self.likelihood, given, x))[active]
            metric[active] = np.einsum("bk,kde->bde", shares, precisions)
            step = np.linalg.solve(metric[active], (shares @ pulled)[..., None])[..., 0] - x[active]
            x[active] += step
            moved = np.einsum("bd,bde,be->b", step, metric[active], step)
            active = active[moved > _STILL**2]
            if not len(active):
                break
        return x, metric

    def depths(self, along: Float[np.ndarray, "T L P D"]) -> Float[np.ndarray, "S T"]:
        """The deepest valley of each density on the best of L ways from peak to peak, in nats; 0 for none."""
        height = self.heights(along)
        before = np.maximum.accumulate(height, axis=-1)
        after = np.maximum.accumulate(height[..., ::-1], axis=-1)[..., ::-1]
        lowest: Float[np.ndarray, "S T"] = np.max(np.minimum(before, after) - height, axis=-1).min(axis=-1)
        return lowest


def ways(
    peaks: Float[np.ndarray, "M D"], metric: Float[np.ndarray, "M D D"], pairs: Int[np.ndarray, "T 2"]
) -> Float[np.ndarray, "T 2 P D"]:
    """Places on the straight line and on the ridgeline (3) between pairs of peaks.

    Args:
        peaks: where they are.
        metric: M at each.
        pairs: numbers of peaks.
    """
    t = np.linspace(0.0, 1.0, _PLACES)[None, :, None]
    start, end = peaks[pairs[:, 0], None], peaks[pairs[:, 1], None]
    line = (1 - t) * start + t * end
    one, other = (metric[pairs[:, side], None] for side in (0, 1))
    weighed = (1 - t)[..., None] * one + t[..., None] * other
    pulled = (1 - t) * np.einsum("tpde,tpe->tpd", one, start) + t * np.einsum("tpde,tpe->tpd", other, end)
    ridge = np.linalg.solve(weighed, pulled[..., None])[..., 0]
    return np.stack([line, ridge], axis=1)


def _log_joint(likelihood: Likelihood, given: Any, x: Float[Array, "B D"]) -> tuple[Array, Array]:
    """Log pi_k f_k and u_k."""
    log_weights, means, whiteners, own = given
    log_det = jnp.sum(jnp.log(jnp.diagonal(whiteners, axis1=1, axis2=2)), axis=-1)
    # Centred first: W x - W mu would lose its digits far from zero.
    white = einsum("kde,bke->bkd", whiteners, x[:, None] - means[None])
    square = jnp.sum(white**2, axis=-1)
    value, back = jax.vjp(lambda s: likelihood.log_density(log_det, s, own, x.shape[-1]), square)
    return log_weights[None] + value, -2.0 * back(jnp.ones_like(value))[0]


def _work(likelihood: Likelihood, given: tuple[Array, ...], x: Array) -> float:
    """Of a hundred calls."""
    num = given[0].shape[-1]
    return 100.0 * (given[0].size / num) * pass_work(x.shape, num)


@program(_work, static_argnames=("likelihood",))
def _heights(likelihood: Likelihood, given: Any, x: Float[Array, "B D"]) -> Float[Array, "S B"]:
    """Log p(x) of S densities."""

    def one(given: Any) -> Array:
        return jax.nn.logsumexp(_log_joint(likelihood, given, x)[0], axis=-1)

    found: Array = lax.map(one, given)
    return found


@program(_work, static_argnames=("likelihood",))
def _shares(likelihood: Likelihood, given: Any, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
    """The a_k of equation (2), of one density."""
    log_joint, pull = _log_joint(likelihood, given, x)
    return jax.nn.softmax(log_joint, axis=-1) * pull
