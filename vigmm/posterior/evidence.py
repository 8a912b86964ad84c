"""The final bound: the ELBO of all rows, exact to what its estimator leaves random.

Training sees the bound through minibatches and in the dtype of the run. What is reported is computed once
more over every row, in float64: in float32 an error of 1e-6 in E[log pi_k], which is all that lgamma and
digamma can promise, is a whole nat over a million rows.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from vigmm.core import rng
from vigmm.core.struct import require
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.protocol import CHUNK
from vigmm.data.sampler import Rows
from vigmm.estimators import Objective
from vigmm.models import Prior

__all__ = ["ElboReport", "elbo"]


@dataclasses.dataclass(frozen=True)
class ElboReport:
    """The bound of a data set in the units of the data, in nats; larger is better, constants included.

    Args:
        elbo: the bound of all rows.
        se: Monte-Carlo standard error of `elbo`; 0 where the estimator computes it exactly.
        per_row: `elbo` per unit of sample weight.
        terms: the parts, which sum to `elbo`; ``log_lik`` carries the units.
        num_samples: independent estimates that were averaged; 1 where one is exact.
    """

    elbo: float
    se: float
    per_row: float
    terms: dict[str, float]
    num_samples: int


def elbo(
    objective: Objective,
    params: Any,
    prior: Prior,
    rows: Rows,
    key: PRNGKey,
    *,
    num_samples: int = 8,
    log_scale_sum: float,
) -> ElboReport:
    """The ELBO of all rows.

    ELBO(x) = ELBO(z) - sum_n w_n sum_d log scale_d, for rows z = (x - center) / scale.

    Args:
        objective: model, family and estimator.
        params: parameters of q.
        prior: hyperparameters.
        rows: all rows, standardised, with their weights.
        key: chooses the Monte-Carlo samples.
        num_samples: S, independent estimates of a bound that is estimated at random.
        log_scale_sum: sum of the logarithms of the columns' scales.

    Returns:
        The bound, its standard error and its terms.
    """
    require(num_samples >= 1, "num_samples", ">= 1", num_samples)
    count, size = rows.x.shape[0], max(min(rows.x.shape[0], CHUNK), 1)
    starts = range(0, count, size)
    with jax.enable_x64(True):
        params, prior = _double(params), _double(prior)
        none = Rows(x=rows.x[:0], weight=rows.weight[:0])

        def free(sample: int) -> dict[str, float]:
            terms = _terms(objective, params, prior, none, _index(0), rng.at_step(key, sample), size=0)
            return {name: float(value) for name, value in terms.items()}

        def log_lik(sample: int, start: int) -> Float[Array, ""]:
            noise = rng.at_step(key, sample)
            value: Array = _terms(objective, params, prior, rows, _index(start), noise, size=size)["log_lik"]
            return value

        frees = [free(0)]
        probe = [float(log_lik(0, 0))] if count else [0.0]
        if num_samples > 1:
            frees.append(free(1))
            probe += [float(log_lik(1, 0))] if count else []
        # An estimator that gives the same for two keys draws nothing: once is enough, and exact.
        exact = num_samples > 1 and frees[0] == frees[-1] and probe[0] == probe[-1]
        samples = 1 if exact else num_samples
        frees = frees[:samples] + [free(s) for s in range(len(frees), samples)]
        # All blocks are dispatched before the first is waited for.
        liks = [[log_lik(s, start) for start in starts] for s in range(samples)]
        sums = [float(np.sum([float(value) for value in blocks])) for blocks in liks]
    total_weight = float(np.sum(np.asarray(rows.weight), dtype=np.float64))
    terms = {name: float(np.mean([free[name] for free in frees])) for name in frees[0]}
    terms["log_lik"] = float(np.mean(sums)) - total_weight * log_scale_sum
    totals = [
        lik + sum(v for n, v in free.items() if n != "log_lik") for lik, free in zip(sums, frees, strict=True)
    ]
    value = float(sum(terms.values()))
    return ElboReport(
        elbo=value,
        se=_standard_error(totals, exact=exact),
        per_row=value / total_weight if total_weight > 0 else float("nan"),
        terms=terms,
        num_samples=samples,
    )


def _standard_error(totals: list[float], *, exact: bool) -> float:
    if exact:
        return 0.0
    if len(totals) == 1:
        return float("nan")  # one sample says nothing of its own error
    return float(np.std(totals, ddof=1) / np.sqrt(len(totals)))


@functools.partial(jax.jit, static_argnames=("objective", "size"))
def _terms(
    objective: Objective,
    params: Any,
    prior: Prior,
    rows: Rows,
    start: Int[Array, ""],
    key: PRNGKey,
    *,
    size: int,
) -> dict[str, Float[Array, ""]]:
    """Terms of the bound for `size` rows from `start` on, in float64.

    The last slice is moved back to end with the last row, and rows that an earlier slice had get weight 0: so
    all slices have one shape and one compilation.
    """
    count = rows.x.shape[0]
    first = jnp.minimum(start, count - size)
    x = lax.dynamic_slice_in_dim(rows.x, first, size).astype(jnp.float64)
    weight = lax.dynamic_slice_in_dim(rows.weight, first, size).astype(jnp.float64)
    fresh = first + jnp.arange(size, dtype=start.dtype) >= start
    batch = Batch(x=x, weight=jnp.where(fresh, weight, jnp.zeros_like(weight)))
    return objective.value(params, prior, batch, key)


def _double(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


def _index(value: int) -> Int[Array, ""]:
    return jnp.asarray(value, jnp.int32)
