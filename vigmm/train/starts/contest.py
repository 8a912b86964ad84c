"""A contest of restarts by successive halving, as two compiled programs: contenders are made, and compete.

R contenders take equal numbers of stochastic natural-gradient steps on a subsample; the half with the better
ELBO on all of the subsample goes on, R -> R/2 -> ... -> 1. All contenders that remain follow one schedule of
rates, so that those of the last round have cooled down when the winner is chosen.

Contenders move in *lanes*: so many of them at a time, side by side under `vmap`; one compiled body, in a scan
over groups of lanes and rounds, serves every size of field. An accelerator moves the whole field at once. On
a CPU one lane is the fastest: with 20,000 rows of 16 columns and K = 40 a contest of six takes 1.1 s in one
lane and 2.0 s in six. Several devices have so many lanes each; the subsample is on all of them.

References:
    Jamieson and Talwalkar (2016), Non-stochastic best arm identification, AISTATS.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from vigmm.core import rng
from vigmm.core.effort import once, pass_work, program
from vigmm.core.struct import spec, state
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.sampler import Minibatch, Rows
from vigmm.families import Conjugate, ConjugateParams
from vigmm.math.partitions import adjusted_rand
from vigmm.math.rows import largest
from vigmm.math.tiles import choose_tile
from vigmm.models import Mixture, Prior
from vigmm.optim import RobbinsMonro
from vigmm.train.placement import abreast, alike, everywhere, on_host
from vigmm.train.recovery import all_finite
from vigmm.train.settle import by_size, natural
from vigmm.train.starts.base import Origin, Started

__all__ = ["Contest", "Seeding", "Standing", "compete", "hold", "num_lanes", "rounds"]

_LANE_BYTES = 2**30
# Seeds and Lloyd iterations, which are matrix products, take about as long as so many passes.
_SEEDING = 3


class Seeding(Protocol):
    """Makes one contender; hashable, because it is a part of the compiled program."""

    def contender(self, model: Mixture, prior: Prior, sample: Batch, key: PRNGKey) -> ConjugateParams:
        """A conjugate posterior of the subsample."""
        ...


@spec
class Contest:
    """How restarts compete.

    Args:
        rows: size of the subsample.
        restarts: R, how many compete.
        steps: natural-gradient steps of the winner, the same number in every round.
        batch_size: rows per step.
    """

    rows: int
    restarts: int
    steps: int
    batch_size: int


@state
class Standing:
    """How a contest ended: contenders from the best to the worst.

    A contender that left in an early round has the bound and the partition it left with.
    """

    params: ConjugateParams
    elbo: Float[Array, " R"]
    labels: Int[Array, "R B"]
    weight: Float[Array, " B"]


def rounds(restarts: int) -> tuple[int, ...]:
    """Contenders in each round.

    Example:
        >>> rounds(6), rounds(1)
        ((6, 3, 2), (1,))
    """
    sizes = [restarts]
    while sizes[-1] > 2:
        sizes.append(math.ceil(sizes[-1] / 2))
    return tuple(sizes)


def num_lanes(contest: Contest, num_components: int, devices: int = 1) -> int:
    """Contenders that move at a time on each device; the B x K partitions of its lanes share a gigabyte."""
    if jax.default_backend() == "cpu":
        return 1
    most = -(-contest.restarts // devices)
    return max(1, min(most, _LANE_BYTES // (4 * contest.rows * num_components)))


def hold(
    contest: Contest,
    seeding: Seeding,
    model: Mixture,
    prior: Prior,
    data: Rows,
    key: PRNGKey,
    origin: Origin | None = None,
) -> Started:
    """Hold a contest on a subsample of `data`.

    Args:
        contest: sizes and budgets.
        seeding: makes the contenders.
        model: the mixture.
        prior: its hyperparameters.
        data: the rows.
        key: decides what is random.
        origin: says which devices the contenders may be spread over.

    Returns:
        The winner, and notes: each contender's bound per row, in the standardised units of training, and the
        adjusted Rand index of the partitions of the last two.
    """
    mesh = origin.mesh if origin else None
    if mesh is not None:
        # The rows that matter, and no others, go to every device: a subsample of a subsample is itself.
        sample = _picked(contest, data, key)
        data = Rows(x=sample.x, weight=sample.weight)
    lanes = num_lanes(contest, model.num_components, mesh.size if mesh else 1)
    prior, data, key = everywhere((prior, data, key), mesh)
    sample, first = _made(contest, seeding, model, prior, data, key, lanes=lanes, mesh=mesh)
    held = _held(contest, model, prior, sample, first, key, lanes=lanes, mesh=mesh)
    params, standing = on_host(held, mesh)
    weight = np.asarray(standing.weight, np.float64)
    labels, counted = np.asarray(standing.labels), weight > 0
    per_row = np.asarray(standing.elbo, np.float64) / weight.sum()
    agreement = adjusted_rand(labels[0][counted], labels[1][counted]) if len(labels) > 1 else None
    # Fewer than were asked for where the data do not divide into such parts.
    seen = int(counted.sum())
    return Started(
        params=params,
        rows_seen=seen,
        notes={
            "rows": seen,
            "restarts": contest.restarts,
            "rounds": list(rounds(contest.restarts)),
            # JSON has no NaN.
            "standardised_elbo_per_row": [round(float(x), 6) if math.isfinite(x) else None for x in per_row],
            "agreement": None if agreement is None else round(agreement, 6),
        },
    )


def _seeding_work(
    contest: Contest, seeding: Seeding, model: Mixture, prior: Prior, data: Rows, *_: Any, **__: Any
) -> float:
    """Operations of the partitions of the subsample."""
    count, dim = data.x.shape
    return pass_work((_SEEDING * contest.restarts * min(contest.rows, count), dim), model.num_components)


def _contest_work(contest: Contest, model: Mixture, prior: Prior, sample: Batch, *_: Any, **__: Any) -> float:
    """Operations of a contest: steps, and a look at all of the subsample in every round."""
    count, dim = sample.x.shape
    turns = sum(rounds(contest.restarts))
    steps = turns * -(-contest.steps // len(rounds(contest.restarts)))
    return pass_work((turns * count + steps * min(contest.batch_size, count), dim), model.num_components)


@functools.partial(jax.jit, static_argnames="contest")
def _picked(contest: Contest, data: Rows, key: PRNGKey) -> Batch:
    return Minibatch(contest.rows).pick(data, rng.stream(key, "subsample"), 0)


@program(_seeding_work, static_argnames=("contest", "seeding", "model", "lanes", "mesh"))
def _made(
    contest: Contest,
    seeding: Seeding,
    model: Mixture,
    prior: Prior,
    data: Rows,
    key: PRNGKey,
    *,
    lanes: int,
    mesh: Mesh | None,
) -> tuple[Batch, ConjugateParams]:
    """The subsample, and the contenders."""

    def all_of_it(prior: Prior, data: Rows, key: PRNGKey) -> tuple[Batch, ConjugateParams]:
        sample = _picked(contest, data, key)
        keys = jax.random.split(key, contest.restarts)
        make = functools.partial(seeding.contender, model, prior, sample)
        return sample, _in_groups(make, keys, contest.restarts, lanes, mesh)

    return alike(all_of_it, mesh)(prior, data, key)


# Not one program with `_made`: where both are little work, the whole of them may not be.
@program(_contest_work, static_argnames=("contest", "model", "lanes", "mesh"))
def _held(
    contest: Contest,
    model: Mixture,
    prior: Prior,
    sample: Batch,
    first: ConjugateParams,
    key: PRNGKey,
    *,
    lanes: int,
    mesh: Mesh | None,
) -> tuple[ConjugateParams, Standing]:
    """The contenders compete; the winner, in order of size, and the standing."""

    def all_of_it(
        prior: Prior, sample: Batch, first: ConjugateParams, key: PRNGKey
    ) -> tuple[ConjugateParams, Standing]:
        keys = jax.random.split(key, contest.restarts)
        standing = compete(contest, model, prior, sample, first, keys, lanes=lanes, mesh=mesh)
        winner: ConjugateParams = jax.tree.map(lambda leaf: leaf[0], standing.params)
        return by_size(model, prior, winner), standing

    return alike(all_of_it, mesh)(prior, sample, first, key)


def _side_by_side(f: Any, lanes: int, mesh: Mesh | None) -> Any:
    """`jax.vmap` on every device; one lane is no batch, for which every operation would have another form."""
    return abreast(jax.vmap(f) if lanes > 1 else _alone(f), mesh)


def _alone(f: Any) -> Any:
    def alone(*args: Any) -> Any:
        made = f(*jax.tree.map(lambda leaf: leaf[0], args))
        return jax.tree.map(lambda leaf: leaf[None], made)

    return alone


def _in_groups(make: Any, keys: PRNGKey, count: int, lanes: int, mesh: Mesh | None) -> Any:
    """`make` of each key, so many at a time; a last group that is not full repeats the last key."""
    width = lanes * (mesh.size if mesh else 1)
    groups = -(-count // width)
    index = np.minimum(np.arange(groups * width), count - 1).reshape(groups, width)
    made = lax.map(_side_by_side(make, lanes, mesh), keys[index])
    return jax.tree.map(lambda leaf: leaf.reshape(groups * width, *leaf.shape[2:])[:count], made)


def compete(
    contest: Contest,
    model: Mixture,
    prior: Prior,
    sample: Batch,
    first: ConjugateParams,
    keys: PRNGKey,
    *,
    lanes: int,
    mesh: Mesh | None = None,
) -> Standing:
    """Successive halving.

    A contender with a bound that is not finite comes after all others, whatever the round.

    Args:
        contest: sizes and budgets.
        model: the mixture.
        prior: its hyperparameters.
        sample: the rows that everything is judged on.
        first: the contenders, stacked along a leading axis R.
        keys: one for each, for its batches.
        lanes: contenders that move at a time on each device.
        mesh: the devices that share the work; None for one. Then the call is inside `placement.alike`.
    """
    width = lanes * (mesh.size if mesh else 1)
    objective, rule, sampler = natural(model), RobbinsMonro(), Minibatch(contest.batch_size)
    rows = Rows(x=sample.x, weight=sample.weight)
    sizes, count = rounds(contest.restarts), contest.restarts
    length = -(-contest.steps // len(sizes))
    horizon = jnp.asarray(length * len(sizes), jnp.int32)

    def move(params: ConjugateParams, key: PRNGKey, since: Array) -> tuple[ConjugateParams, Array, Array]:
        def body(params: ConjugateParams, i: Array) -> tuple[ConjugateParams, None]:
            at = since + i
            batch = sampler.pick(rows, rng.stream(key, "batches"), at)
            grads = objective.estimate(params, prior, batch, key).grads
            # lambda <- lambda - rate (lambda - target). The training loop's step does the same and more,
            # and would take longer to compile.
            rate = rule.rate_at(at, horizon)
            new = jax.tree.map(lambda p, g: p - rate.astype(p.dtype) * g, params, grads)
            good = once(all_finite(new))
            return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, params), None

        params, _ = lax.scan(body, params, jnp.arange(length, dtype=jnp.int32))
        return params, *_judge(model, params, prior, sample)

    def turn(carry: Any, job: dict[str, Array]) -> tuple[Any, None]:
        field, elbo, labels, rank = carry
        alive = job["alive"]
        # A group that is not full moves its last contender more than once, always to the same place.
        who = rank[jnp.minimum(job["offset"] + jnp.arange(width, dtype=jnp.int32), alive - 1)]
        chosen = jax.tree.map(lambda leaf: leaf[who], field)
        advance = _side_by_side(lambda params, key: move(params, key, job["since"]), lanes, mesh)
        moved, bound, label = advance(chosen, keys[who])
        field = jax.tree.map(lambda every, new: every.at[who].set(new), field, moved)
        elbo, labels = elbo.at[who].set(bound), labels.at[who].set(label)
        here = jnp.arange(count, dtype=jnp.int32) < alive
        return (field, elbo, labels, jnp.where(job["last"] > 0, _ranked(elbo, rank, here), rank)), None

    jobs = [
        {"alive": size, "offset": offset, "since": i * length, "last": int(offset + width >= size)}
        for i, size in enumerate(sizes)
        for offset in range(0, size, width)
    ]
    table = {name: jnp.asarray([job[name] for job in jobs], jnp.int32) for name in jobs[0]}
    carry = (
        first,
        jnp.full((count,), -jnp.inf, sample.x.dtype),
        jnp.zeros((count, sample.x.shape[0]), jnp.int32),
        jnp.arange(count, dtype=jnp.int32),
    )
    (field, elbo, labels, rank), _ = lax.scan(turn, carry, table)
    params: ConjugateParams = jax.tree.map(lambda leaf: leaf[rank], field)
    return Standing(params=params, elbo=elbo[rank], labels=labels[rank], weight=sample.weight)


def _ranked(elbo: Float[Array, " R"], rank: Int[Array, " R"], alive: Array) -> Int[Array, " R"]:
    """Contenders by bound: first those of this round, then those that left, then those that broke."""
    bound = elbo[rank]
    finite = jnp.isfinite(bound)
    group = jnp.where(finite, jnp.where(alive, 0, 1), 2)
    return rank[jnp.lexsort((-jnp.where(finite, bound, 0.0), group))]


def _judge(
    model: Mixture, params: ConjugateParams, prior: Prior, sample: Batch
) -> tuple[Float[Array, ""], Int[Array, " B"]]:
    """The bound on the subsample and the most probable component of each of its rows, in one pass."""
    family = Conjugate()
    posterior = family.posterior(model, params)
    theta = family.expected(model, posterior)
    rows, dim = sample.x.shape
    tile = choose_tile(sample.x, model.num_components * dim)
    groups = -(-rows // tile)
    pad = groups * tile - rows
    x = jnp.pad(sample.x, ((0, pad), (0, 0)), mode="edge").reshape(groups, tile, dim)
    weight = jnp.pad(sample.weight, (0, pad)).reshape(groups, tile)

    def body(total: Array, piece: tuple[Array, Array]) -> tuple[Array, Array]:
        joint = model.log_joint(theta, piece[0])
        total = total + jnp.sum(piece[1] * jax.nn.logsumexp(joint, axis=-1))
        return total, largest(joint)

    log_lik, labels = lax.scan(body, jnp.zeros((), x.dtype), (x, weight))
    terms = family.neg_kl(model, posterior, prior)
    return jax.tree.reduce(jnp.add, terms, log_lik), labels.reshape(-1)[:rows]
