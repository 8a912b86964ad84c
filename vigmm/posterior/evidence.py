"""The final bound: the ELBO of all rows, exact to what its estimator leaves random.

Training sees the bound through minibatches and in the dtype of the run. What is reported is computed once
more over every row, in float64: in float32 an error of 1e-6 in E[log pi_k], which is all that lgamma and
digamma can promise, is a whole nat over a million rows.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from vigmm.core import rng
from vigmm.core.effort import pass_work, program
from vigmm.core.precision import double
from vigmm.core.struct import require
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.feed import TrainingData
from vigmm.data.protocol import CHUNK
from vigmm.data.sampler import Rows
from vigmm.estimators import Objective
from vigmm.models import Prior

__all__ = ["ElboReport", "elbo"]

# Rows to be read, over all samples: small data get more samples and a smaller error at no cost that is felt.
_ROWS = 1 << 20


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
    rows: TrainingData,
    key: PRNGKey,
    *,
    num_samples: int | None = None,
    log_scale_sum: float,
) -> ElboReport:
    """The ELBO of all rows.

    ELBO(x) = ELBO(z) - sum_n w_n sum_d log scale_d, for rows z = (x - center) / scale.

    Args:
        objective: model, family and estimator.
        params: parameters of q.
        prior: hyperparameters.
        rows: all rows, standardised, with their weights; a stream is read once.
        key: chooses the Monte-Carlo samples.
        num_samples: S, independent estimates of a bound that is estimated at random; ``None`` takes 8, and
            more where rows are few.
        log_scale_sum: sum of the logarithms of the columns' scales.

    Returns:
        The bound, its standard error and its terms.
    """
    count = rows.num_rows
    if num_samples is None:
        num_samples = min(max(_ROWS // max(count, 1), 8), 256)
    require(num_samples >= 1, "num_samples", ">= 1", num_samples)
    objective = dataclasses.replace(objective, estimator=objective.estimator.final())
    found: list[dict[str, float]] = []
    exact = False
    with jax.enable_x64(True):
        params, prior = double((params, prior))
        for piece in rows.pieces():
            length = piece.num_rows
            # A bound that does not add up over blocks of rows takes them all at once.
            size = length if objective.estimator.full_batch else min(length, CHUNK)
            starts = range(0, length, size) if length else (0,)

            def block(sample: int, start: int, piece: Rows = piece, size: int = size) -> dict[str, Array]:
                index = np.asarray(start, np.int32)
                noise = rng.at_step(key, sample)
                terms: dict[str, Array] = _terms(objective, params, prior, piece, index, noise, size=size)
                return terms

            if not found:
                # An estimator that says the same of two keys draws nothing: once is enough, and exact.
                exact = _host(block(0, 0)) == _host(block(1, 0))
                found = [{} for _ in range(1 if exact else num_samples)]
            for sample, terms in enumerate(found):
                # All blocks are dispatched before the first is waited for.
                blocks = [block(sample, start) for start in starts]
                log_lik = float(np.sum([float(one["log_lik"]) for one in blocks]))
                terms |= {**_host(blocks[0]), "log_lik": terms.get("log_lik", 0.0) + log_lik}
    # Only this term is a sum over rows, of which other processes may have some.
    log_lik_of_all = rows.group.total(np.array([one["log_lik"] for one in found]))
    found = [one | {"log_lik": float(value)} for one, value in zip(found, log_lik_of_all, strict=True)]
    total_weight = rows.total_weight()
    terms = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    terms["log_lik"] -= total_weight * log_scale_sum
    value = float(sum(terms.values()))
    return ElboReport(
        elbo=value,
        se=0.0 if exact else _standard_error([sum(one.values()) for one in found]),
        per_row=value / total_weight if total_weight > 0 else float("nan"),
        terms=terms,
        num_samples=len(found),
    )


def _standard_error(totals: list[float]) -> float:
    if len(totals) == 1:
        return float("nan")  # one sample says nothing of its own error
    return float(np.std(totals, ddof=1) / np.sqrt(len(totals)))


def _work(objective: Objective, params: Any, prior: Prior, rows: Rows, *_: Any, **__: Any) -> float:
    """Operations of the estimates that are averaged."""
    count, dim = rows.x.shape
    return pass_work((max(count, _ROWS), dim), objective.model.num_components)


@program(_work, static_argnames=("objective", "size"))
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

    Only ``log_lik`` depends on the rows. The last slice is moved back to end with the last row, and rows that
    an earlier slice had get weight 0: so all slices have one shape and one compilation.
    """
    count = rows.x.shape[0]
    first = jnp.minimum(start, count - size)
    x = lax.dynamic_slice_in_dim(rows.x, first, size).astype(jnp.float64)
    weight = lax.dynamic_slice_in_dim(rows.weight, first, size).astype(jnp.float64)
    fresh = first + jnp.arange(size, dtype=start.dtype) >= start
    batch = Batch(x=x, weight=jnp.where(fresh, weight, jnp.zeros_like(weight)))
    return objective.value(params, prior, batch, key)


def _host(terms: dict[str, Array]) -> dict[str, float]:
    return {name: float(value) for name, value in terms.items()}
