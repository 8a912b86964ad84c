"""Pareto-smoothed importance sampling: how heavy the tail of importance weights is, and weights that bear it.

The largest ratios r_s = p(u_s)/q(u_s) are fitted by a generalised Pareto distribution; its shape k says how
many moments the ratios have (1/k of them). Below 0.5 the variance is finite; up to about 0.7 smoothed weights
are still useful at practical sample sizes; beyond that no estimate from these draws can be trusted.

References:
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25; Zhang and
    Stephens (2009), Technometrics 51, for the fit; Yao, Vehtari, Simpson and Gelman (2018), ICML, for k as
    a check of VI.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from vigmm.core.struct import require

__all__ = ["GOOD", "USABLE", "Smoothed", "pareto_shape", "smooth"]

GOOD, USABLE = 0.5, 0.7
"""Below the first all is well; above the second nothing can be trusted."""


# Ratios below so many times their mean are not a tail.
_FLAT = 1.5


@dataclasses.dataclass(frozen=True, eq=False)
class Smoothed:
    """Normalised log weights whose tail was replaced by the quantiles of its Pareto fit.

    Args:
        khat: shape of the tail; 0 where no ratio exceeds 1.5 times their mean; infinite where there are too
            few draws to tell.
        log_weights: log of weights that sum to one.
        log_evidence: log of the mean ratio, from the smoothed weights.
        se: its standard error by the delta method; infinite where `khat` is above 0.7.
    """

    khat: float
    log_weights: Float[np.ndarray, " S"]
    log_evidence: float
    se: float

    @property
    def effective_draws(self) -> float:
        """1 / sum of squared weights."""
        return float(np.exp(-_logsumexp(2.0 * self.log_weights)))


def pareto_shape(excess: Float[np.ndarray, " M"]) -> tuple[float, float]:
    """Shape k and scale sigma of the generalised Pareto distribution that excesses over a threshold follow.

    The quasi-Bayesian fit of Zhang and Stephens (2009), with the weak prior of Vehtari et al. that draws k
    towards 0.5 as if by ten more draws.

    Args:
        excess: positive excesses, in any order.
    """
    x = np.sort(excess)
    count = len(x)
    grid = 30 + int(np.sqrt(count))
    quartile = x[int(count / 4 + 0.5) - 1]
    index = np.arange(1, grid + 1)
    theta = 1.0 / x[-1] + (1.0 - np.sqrt(grid / (index - 0.5))) / (3.0 * quartile)
    shapes = np.mean(np.log1p(-theta[:, None] * x[None]), axis=1)
    profile = count * (np.log(-theta / shapes) - shapes - 1.0)
    weight = np.exp(profile - _logsumexp(profile))
    best = float(np.sum(theta * weight))
    shape = float(np.mean(np.log1p(-best * x)))
    sigma = -shape / best
    return (shape * count + 5.0) / (count + 10.0), sigma


def smooth(log_ratios: Float[np.ndarray, " S"]) -> Smoothed:
    """Smoothed weights of S importance ratios.

    Args:
        log_ratios: log p(X, u_s) - log q(u_s), up to no constant if `log_evidence` is to mean something.
    """
    ratios = np.asarray(log_ratios, np.float64)
    require(ratios.ndim == 1 and len(ratios) >= 2, "log_ratios", "at least two numbers", ratios.shape)
    if not np.isfinite(ratios).all():
        # A ratio of zero is a legal weight; a NaN or an infinite one is a broken density.
        broken = np.isnan(ratios) | (ratios == np.inf)
        require(not broken.any(), "log_ratios", "finite", ratios[np.argmax(broken)] if broken.any() else None)
    count = len(ratios)
    tail = int(np.ceil(min(0.2 * count, 3.0 * np.sqrt(count))))
    highest = ratios.max()
    smoothed = ratios - highest
    khat = np.inf
    if np.exp(-_logsumexp(smoothed)) * count < _FLAT:
        khat = 0.0  # no ratio is far above the mean of all: whatever shape the tail has, it does no harm
    elif tail >= 5:
        order = np.argsort(smoothed)
        largest = order[-tail:]
        cutoff = np.exp(smoothed[order[-tail - 1]])
        excess = np.exp(smoothed[largest]) - cutoff
        if excess[-1] > 0:
            # Ties with the threshold would be excesses of zero, which no Pareto distribution has.
            excess = np.maximum(excess, excess[excess > 0].min() * 1e-3)
            khat, sigma = pareto_shape(excess)
            level = (np.arange(1, tail + 1) - 0.5) / tail
            tiny = abs(khat) < 1e-8
            quantile = (
                -sigma * np.log1p(-level) if tiny else sigma * np.expm1(-khat * np.log1p(-level)) / khat
            )
            # No smoothed weight is larger than the largest raw one.
            smoothed[largest] = np.minimum(np.log(quantile + cutoff), 0.0)
    total = _logsumexp(smoothed)
    relative = np.exp(smoothed - total) * count
    se = float(np.std(relative, ddof=1) / np.sqrt(count)) if khat <= USABLE else float("inf")
    return Smoothed(
        khat=float(khat),
        log_weights=smoothed - total,
        log_evidence=float(total - np.log(count) + highest),
        se=se,
    )


def _logsumexp(x: Float[np.ndarray, " S"]) -> float:
    # Importing this part of SciPy takes as long as a third of JAX does, and a fit needs none of it.
    from scipy.special import logsumexp

    return float(logsumexp(x))
