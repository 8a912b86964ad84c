"""Memoized statistics: a conjugate step on one batch that knows what all the other batches said last.

With T_b the statistics of batch b, whose weights count S-fold, S batches in a pass, and r_b its
responsibilities when it was last read, a step that reads batch b at the parameters lambda

    replaces T_b and H_b,   moves to   prior + mean_b T_b,                                        (1)

which is a coordinate step in r_b, then one in q (Neal and Hinton 1998; Hughes and Sudderth 2013). H_b is the
entropy of r_b. Its bound, with A the log partition function and <T> = mean_b T_b,

    L(q, r) = mean_b H_b + <T> . grad A(lambda) + counts . E[log pi] - KL(q || prior),            (2)

is exact and of all rows, and rises with every step. Since r_b is optimal where it is made,
H_b = log_lik_b - T_b . grad A(lambda_b) - counts_b . E[log pi]. Constants per row, which
`log_partition` leaves out, are the same in H and in (2), and cancel.

Batches that were not read yet say what the run began with, so that a start made of all rows is not thrown
away for the first batch; until the first pass ends, the bound is the estimate from the batch alone.

The mean is taken anew at every step: a running sum would drift in float32, and S additions per parameter are
few beside the rows of a batch. The sticks are made from the mean counts by `sticks.update`, so an inferred
concentration, which is not linear in them, is that of the present q; and so is an inferred factor of the
covariances, which the prior in (1) has.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vigmm.core.errors import SpecError
from vigmm.core.struct import state
from vigmm.estimators import Estimate, Natural, Objective
from vigmm.families import ConjugateParams
from vigmm.families import factor as factors
from vigmm.models import Prior, sticks
from vigmm.optim import Optimizer
from vigmm.train import recovery

__all__ = ["Memory", "begin", "check", "forget", "recall"]


@state
class Memory:
    """What each of S batches said when it was read last.

    Args:
        stats: T_b of the components, with a leading axis S.
        entropies: H_b, in nats and S-fold like the weights.
        seen: whether batch b was read since the run began or a component was reset.
    """

    stats: Any
    entropies: Float[Array, " S"]
    seen: Bool[Array, " S"]


def check(objective: Objective, optimizer: Optimizer) -> None:
    """Refuse an optimiser that remembers batches where there are no statistics to remember."""
    if optimizer.batches is not None and not isinstance(objective.estimator, Natural):
        got = type(objective.estimator).__name__.lower()
        raise SpecError("optimizer", f"another than 'memoized' for the estimator {got!r}", "memoized")


def begin(objective: Objective, params: ConjugateParams, prior: Prior, batches: int) -> Memory:
    """Before the first step: every batch says what the run begins with."""
    base = factors.base(objective.model, prior, params.factor, params.components.centre)
    stats = jax.tree.map(jnp.subtract, params.components, base)
    return Memory(
        stats=jax.tree.map(lambda leaf: jnp.repeat(leaf[None], batches, axis=0), stats),
        entropies=jnp.zeros((batches,), stats.count.dtype),
        seen=jnp.zeros((batches,), jnp.bool_),
    )


def recall(
    objective: Objective,
    memory: Memory,
    params: ConjugateParams,
    prior: Prior,
    estimate: Estimate,
    step: Int[Array, ""],
) -> tuple[Estimate, Memory]:
    """The estimate of the whole from that of one batch: equations (1) and (2).

    Args:
        objective: the conjugate bound.
        memory: what the batches said.
        params: where the estimate was made.
        prior: hyperparameters.
        estimate: the bound and the natural gradient of batch `step` mod S.
        step: number of the step.
    """
    slot = step % memory.seen.shape[0]
    target = jax.tree.map(jnp.subtract, params, estimate.grads)
    base = factors.base(objective.model, prior, target.factor, target.components.centre)
    said = jax.tree.map(jnp.subtract, target.components, base)
    stats = jax.tree.map(lambda old, new: old.at[slot].set(new), memory.stats, said)
    seen = memory.seen.at[slot].set(jnp.ones((), jnp.bool_))

    mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), stats)
    # The target's centre is that of `params` but for rounding, and the centre must never move.
    components = jax.tree.map(jnp.add, base, mean)
    components = dataclasses.replace(components, centre=params.components.centre)
    weights = sticks.update(prior.weights, mean.count, params.weights)
    whole = ConjugateParams(weights=weights, components=components, factor=target.factor)

    expected = _Expected(objective, params)
    entropies = memory.entropies.at[slot].set(estimate.terms["log_lik"] - expected.of(said))
    exact = jnp.mean(entropies) + expected.of(mean)
    terms = estimate.terms | {"log_lik": jnp.where(jnp.all(seen), exact, estimate.terms["log_lik"])}
    return (
        Estimate(
            elbo=jax.tree.reduce(jnp.add, terms),
            grads=jax.tree.map(jnp.subtract, params, whole),
            terms=terms,
            se=estimate.se,
        ),
        Memory(stats=stats, entropies=entropies, seen=seen),
    )


def forget(objective: Objective, memory: Memory | None, fault: Bool[Array, " K"]) -> Memory | None:
    """Empty the components at fault in what every batch said; one more pass makes the bound exact again."""
    if memory is None:
        return None

    def empty(before: Memory) -> Memory:
        def one(stats: Any) -> Any:
            return recovery.replaced(objective, stats, jax.tree.map(jnp.zeros_like, stats), fault)

        stats = jax.vmap(one)(before.stats)
        return Memory(stats=stats, entropies=before.entropies, seen=jnp.zeros_like(before.seen))

    after: Memory = lax.cond(jnp.any(fault), empty, lambda before: before, memory)
    return after


class _Expected:
    """E_q of the log joint density as a linear function of statistics, up to a constant per row."""

    def __init__(self, objective: Objective, params: ConjugateParams) -> None:
        model, components = objective.model, params.components
        self._slope = jax.grad(model.algebra.log_partition)(components)
        self._log_weights = sticks.expected_log_weights(params.weights, model.num_components)

    def of(self, stats: Any) -> Float[Array, ""]:
        """T . grad A(lambda) + counts . E[log pi]."""
        parts = jax.tree.map(lambda slope, stat: jnp.sum(slope * stat), self._slope, stats)
        total: Array = jax.tree.reduce(jnp.add, parts)
        return total + jnp.sum(stats.count * self._log_weights)
