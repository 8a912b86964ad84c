"""Merges: two components become one, and their statistics add.

Given responsibilities r, with q of the parameters at its optimum for them, the bound is a sum over
components, sticks and rows, and joining i and j changes only three of its parts:

    gain = log Z(i + j) - log Z(i) - log Z(j) + log Z(0)                    their parameters            (1)
         + log B(sticks after) - log B(sticks before)                       the weights
         - sum_n w_n [h(r_ni + r_nj) - h(r_ni) - h(r_nj)],  h(r) = r log r  the assignments

with Z the normaliser of a component's posterior. Where a common factor of the covariances is inferred, its q
stays, and one component less saves `factor.cost`. Further coordinate steps can only add to it. Candidates
are the pairs that share rows: for each component the few others with the largest sum_n w_n r_ni r_nj.

References:
    Hughes and Sudderth (2013), Memoized online variational inference for Dirichlet process mixture models,
    NIPS.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import xlogy
from jaxtyping import Array, Bool, Float, Int

from vigmm.core.effort import program
from vigmm.core.struct import state
from vigmm.core.typing import Batch
from vigmm.data.sampler import Rows
from vigmm.families import factor as factors
from vigmm.math.linalg import einsum
from vigmm.math.special import log_beta
from vigmm.models import Mixture, Prior, Sticks, sticks
from vigmm.train.moves.mixture import (
    MOVES,
    Slots,
    assemble,
    read,
    responsibilities,
    row_sum,
    search_work,
    slot_work,
)

__all__ = ["Pairs", "choose", "merge", "pairs"]

_PARTNERS = 3


@state
class Pairs:
    """Candidates: `first` and `second` are slots, `gain` in nats is equation (1), -inf where there is none.

    `stats`, about `centre`, are of the responsibilities that the gains were computed with.
    """

    first: Int[Array, " M"]
    second: Int[Array, " M"]
    gain: Float[Array, " M"]
    stats: Any
    centre: Float[Array, "S D"]


@program(search_work(2 * MOVES), static_argnames=("model",))
def pairs(model: Mixture, prior: Prior, slots: Slots, rows: Rows) -> Pairs:
    """The most promising pairs and what each merge would gain."""
    posterior, theta = read(model, slots)
    centre = posterior.components.loc
    algebra = model.algebra

    def first_pass(piece: Batch) -> tuple[Any, ...]:
        resp, _ = responsibilities(model, theta, piece.x)
        weighted = piece.weight[:, None] * resp
        own = jnp.sum(piece.weight[:, None] * xlogy(resp, resp), axis=0)
        overlap = einsum("bi,bj->ij", weighted, resp)
        return algebra.stats(piece.x, weighted, centre), own, overlap

    stats, own, overlap = row_sum(first_pass, model, rows)
    counts = stats.count
    i, j = _partners(overlap, slots.used)

    def second_pass(piece: Batch) -> Float[Array, " M"]:
        resp, _ = responsibilities(model, theta, piece.x)
        joint = resp[:, i] + resp[:, j]
        return jnp.sum(piece.weight[:, None] * xlogy(joint, joint), axis=0)

    entropy = row_sum(second_pass, model, rows) - own[i] - own[j]
    weights = _weight_gain(prior.weights, slots.params.weights, counts, i, j)
    given = factors.given(model, prior, slots.params.factor)
    saved = factors.cost(model, prior, slots.params.factor)
    gain = _component_gain(model, given, stats, counts, centre, i, j) + saved + weights - entropy
    able = slots.used[i] & slots.used[j] & (i != j) & jnp.isfinite(gain)
    return Pairs(
        first=jnp.minimum(i, j),
        second=jnp.maximum(i, j),
        gain=jnp.where(able, gain, -jnp.inf),
        stats=stats,
        centre=centre,
    )


def _partners(
    overlap: Float[Array, "S S"], used: Bool[Array, " S"]
) -> tuple[Int[Array, " M"], Int[Array, " M"]]:
    """For each component the few others with which it shares most rows."""
    num = overlap.shape[0]
    both = used[:, None] & used[None, :] & ~jnp.eye(num, dtype=bool)
    score = jnp.where(both, overlap, -1.0)
    _, other = lax.top_k(score, min(_PARTNERS, num))
    own = jnp.broadcast_to(jnp.arange(num, dtype=other.dtype)[:, None], other.shape)
    return own.reshape(-1), other.reshape(-1)


def _weight_gain(
    prior: Sticks, now: Sticks, counts: Float[Array, " S"], i: Int[Array, " M"], j: Int[Array, " M"]
) -> Float[Array, " M"]:
    """The second line of equation (1), components in order of size before and after."""

    def value(share: Float[Array, ""], i: Int[Array, ""], j: Int[Array, ""]) -> Float[Array, ""]:
        moved = share * counts[j]
        made = sticks.update(prior, -jnp.sort(-counts.at[i].add(moved).at[j].add(-moved)), now)
        return jnp.sum(log_beta(made.a, made.b))

    # The first has nothing moved: one program for all, because special functions are slow to compile.
    zero = jnp.zeros((1,), i.dtype)
    share = jnp.concatenate([jnp.zeros((1,), counts.dtype), jnp.ones(i.shape, counts.dtype)])
    values = jax.vmap(value)(share, jnp.concatenate([zero, i]), jnp.concatenate([zero, j]))
    return values[1:] - values[0]


def _component_gain(
    model: Mixture,
    given: Any,
    stats: Any,
    counts: Float[Array, " S"],
    centre: Float[Array, "S D"],
    i: Int[Array, " M"],
    j: Int[Array, " M"],
) -> Float[Array, " M"]:
    """The first line of equation (1), with the components' prior."""
    algebra = model.algebra
    num, dim = centre.shape

    def log_z(stats: Any, centre: Float[Array, "G D"], prior: Any) -> Float[Array, ""]:
        natural = jax.tree.map(jnp.add, algebra.natural(prior, centre), stats)
        value: Array = algebra.log_partition(natural)
        return value

    if model.structure.shared_size(dim):
        # A shared matrix ties every component to every other: the whole is compared with the whole.
        def joined(pair: tuple[Array, Array]) -> Float[Array, ""]:
            group = jnp.arange(num, dtype=i.dtype).at[pair[1]].set(pair[0])
            return log_z(*_about_common_mean(model, stats, counts, centre, group, num), given)

        # The first pair joins a component to itself, which changes nothing.
        zero = jnp.zeros((1,), i.dtype)
        values: Array = lax.map(joined, (jnp.concatenate([zero, i]), jnp.concatenate([zero, j])))
        return values[1:] - values[0]

    one = jax.tree.map(lambda leaf: leaf[:1], given)
    # One more component, which is empty: whatever is alone is paired with it.
    none = jnp.full((1,), num, i.dtype)
    padded = algebra.regroup(stats, jnp.zeros_like(centre), jnp.arange(num), num + 1)
    about = jnp.concatenate([centre, centre[:1]])

    def pair(i: Int[Array, ""], j: Int[Array, ""]) -> Float[Array, ""]:
        index = jnp.stack([i, j])
        both = algebra.order(padded, index)
        group = jnp.zeros((2,), jnp.int32)
        return log_z(*_about_common_mean(model, both, both.count, about[index], group, 1), one)

    singles = jnp.arange(num + 1, dtype=i.dtype)
    first = jnp.concatenate([i, singles])
    second = jnp.concatenate([j, jnp.broadcast_to(none, singles.shape)])
    values = jax.vmap(pair)(first, second)
    alone = values[i.shape[0] :]
    return values[: i.shape[0]] - alone[i] - alone[j] + alone[num]


def _about_common_mean(
    model: Mixture,
    stats: Any,
    counts: Float[Array, " S"],
    centre: Float[Array, "S D"],
    group: Int[Array, " S"],
    num_groups: int,
) -> tuple[Any, Float[Array, "G D"]]:
    """Statistics of the groups about the weighted mean of their members' centres."""
    join = jax.nn.one_hot(group, num_groups, dtype=centre.dtype, axis=0)
    mass = einsum("gk,k->g", join, counts)
    # A group of empty components takes the plain mean.
    share = jnp.where(mass[group] > 0, counts / jnp.maximum(mass[group], 1e-30), 0.0)
    plain = 1.0 / jnp.maximum(jnp.sum(join, axis=1), 1.0)[group]
    share = jnp.where(mass[group] > 0, share, plain)
    to = einsum("gk,k,kd->gd", join, share, centre)
    return model.algebra.regroup(stats, to[group] - centre, group, num_groups), to


@program(slot_work, static_argnames=("model",))
def merge(model: Mixture, prior: Prior, slots: Slots, found: Pairs, group: Int[Array, " S"]) -> Slots:
    """The posterior after component k has joined component group[k]: no row is read."""
    num = model.num_components
    moved, to = _about_common_mean(model, found.stats, found.stats.count, found.centre, group, num)
    return assemble(model, prior, slots.before, moved, to)


def choose(
    found: Pairs, *, least: float, most: int | None = None, disjoint: bool = True
) -> list[tuple[int, int, float]]:
    """Pairs by falling gain, on the host: those that gain more than `least`, at most `most`.

    `disjoint` pairs can be merged together; otherwise each pair is listed once.
    """
    first, second, gain = (np.asarray(leaf) for leaf in (found.first, found.second, found.gain))
    taken: set[int] = set()
    chosen: list[tuple[int, int, float]] = []
    for at in np.argsort(-gain):
        if not gain[at] > least or (most is not None and len(chosen) >= most):
            break
        i, j = int(first[at]), int(second[at])
        new = {i, j} if disjoint else {i * len(gain) + j}
        if not taken & new:
            taken |= new
            chosen.append((i, j, float(gain[at])))
    return chosen
