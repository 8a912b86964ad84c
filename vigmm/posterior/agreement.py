"""Agreement of several fits of the same data: of their bounds, and of their partitions of the rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from vigmm.math.partitions import adjusted_rand
from vigmm.posterior.findings import Finding

__all__ = ["adjusted_rand", "agreement"]


def agreement(fits: list[Any], sample: Float[np.ndarray, "n D"]) -> Finding:
    """The mean adjusted Rand index of the first fit with the others, and how their bounds differ.

    Args:
        fits: fits of the same data; the first is the one that is judged.
        sample: rows to compare the partitions on.
    """
    labels = [fit.posterior.predict(sample) for fit in fits]
    index = [adjusted_rand(labels[0], other) for other in labels[1:]]
    bounds = np.array([fit.elbo.elbo for fit in fits])
    behind = float(bounds.max() - bounds[0])
    noise = 5.0 * float(np.max([fit.elbo.se for fit in fits]))
    mean = float(np.mean(index))
    se = float(np.std(index, ddof=1) / math.sqrt(len(index))) if len(index) > 1 else math.nan
    told = f"mean adjusted Rand index with {len(index)} other starts"
    if behind > max(noise, 1.0):
        words = f"{told}; the best of them has a bound {behind:.4g} nats higher: fit again from other seeds"
        return Finding("agreement of restarts", mean, se, "bad", words)
    words = f"{told}; no start has a bound that is higher by more than its error"
    return Finding("agreement of restarts", mean, se, "good" if mean > 0.9 else "caution", words)
