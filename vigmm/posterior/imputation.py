"""Missing values from the posterior: their means, standard deviations and draws, given what a row has.

    p(x_m | x_o, data) = E_q[ p(x_o | u) p(x_m | x_o, u) ] / E_q[ p(x_o | u) ]                       (1)

and given the parameters u a mixture of the components' conditional normals,

    x_m | x_o, k ~ N(mu_m + Sigma_mo Sigma_oo^-1 (x_o - mu_o), Sigma_mm - Sigma_mo Sigma_oo^-1 Sigma_om).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float

from vigmm.core import rng
from vigmm.core.errors import SpecError
from vigmm.data.protocol import check_finite
from vigmm.posterior.inputs import conform

if TYPE_CHECKING:
    from vigmm.posterior.posterior import Posterior

__all__ = ["Imputed", "impute"]


@dataclasses.dataclass(frozen=True, eq=False)
class Imputed:
    """Rows with their missing values filled in, in the units of the data.

    Args:
        mean: the rows; missing values are replaced by their conditional means.
        sd: conditional standard deviations; 0 where a value was observed.
        draws: `num_draws` completed copies of the rows, for multiple imputation.
    """

    mean: Float[np.ndarray, "N D"]
    sd: Float[np.ndarray, "N D"]
    draws: Float[np.ndarray, "S N D"]


def impute(
    posterior: Posterior, x: Any, *, num_draws: int = 20, parameters: int = 64, seed: int = 0
) -> Imputed:
    """Fill in missing values; see `Posterior.impute`."""
    from scipy.special import logsumexp  # a fit is spared its import

    if posterior.model.likelihood.position_size() or type(posterior.model.likelihood).__name__ != "Gaussian":
        raise SpecError("likelihood", "'gaussian' for values to be imputed", "student_t")
    source = conform(x, posterior.columns)
    rows = np.asarray(source[0 : len(source)], np.float64)
    check_finite(rows, source, missing=True)
    key = rng.stream(rng.root_key(posterior.seed), "impute")
    drawn = posterior.draw(key, parameters)
    generator = np.random.default_rng([seed, *np.asarray(jax.random.key_data(key)).ravel().tolist()])
    mean, sd = rows.copy(), np.zeros_like(rows)
    completed = np.repeat(rows[None], num_draws, axis=0)
    seen = ~np.isnan(rows)
    for pattern in np.unique(seen, axis=0):
        if pattern.all():
            continue
        index = np.flatnonzero((seen == pattern).all(axis=1))
        o, m = np.flatnonzero(pattern), np.flatnonzero(~pattern)
        log_joint, location, factor = _conditionals(drawn, rows[index][:, o], o, m)
        # (S, n, K) joint over draws and components: equation (1).
        weight = np.exp(log_joint - logsumexp(log_joint, axis=(0, 2), keepdims=True))
        first = np.einsum("snk,snkm->nm", weight, location)
        spread = np.einsum("skij,skij->ski", factor, factor)[:, None] + (location - first[None, :, None]) ** 2
        mean[np.ix_(index, m)] = first
        sd[np.ix_(index, m)] = np.sqrt(np.einsum("snk,snkm->nm", weight, spread))
        flat = np.cumsum(weight.transpose(1, 0, 2).reshape(len(index), -1), axis=1)
        num = weight.shape[2]
        for i in range(num_draws):
            level = generator.random((len(index), 1)) * flat[:, -1:]
            chosen = np.minimum((flat <= level).sum(axis=1), flat.shape[1] - 1)
            s, k = chosen // num, chosen % num
            noise = generator.standard_normal((len(index), len(m)))
            value = location[s, np.arange(len(index)), k] + np.einsum("nij,nj->ni", factor[s, k], noise)
            completed[i][np.ix_(index, m)] = value
    return Imputed(mean=mean, sd=sd, draws=completed)


def _conditionals(
    drawn: Any, x: Float[np.ndarray, "n O"], o: np.ndarray, m: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log joint of x_o and component, conditional locations, and factors of the conditional covariances."""
    mu, cov = drawn.means, drawn.covariances
    residual = x[None, :, None] - mu[:, None][..., o]  # S n K O
    root = np.linalg.cholesky(cov[..., o[:, None], o])
    inverse = np.linalg.inv(root)
    white = np.einsum("skij,snkj->snki", inverse, residual)
    log_det = np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(-1)
    log_normal = -0.5 * (white**2).sum(-1) - log_det[:, None] - 0.5 * len(o) * np.log(2 * np.pi)
    with np.errstate(divide="ignore"):
        log_joint = log_normal + np.log(drawn.weights)[:, None]
    cross = np.einsum("skij,skmj->skmi", inverse, cov[..., m[:, None], o])
    location = mu[:, None][..., m] + np.einsum("skmi,snki->snkm", cross, white)
    rest = cov[..., m[:, None], m] - np.einsum("skmi,skli->skml", cross, cross)
    return log_joint, location, np.linalg.cholesky(rest)
