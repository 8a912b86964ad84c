"""A conjugate posterior some of whose components are out of use, and coordinate ascent on it.

Moves change the number of components; compiled programs have fixed shapes. So there are S *slots*, and a mask
says which of them rows may be assigned to. That is a restriction of q(z), not another model: with
q(z_n = k) = 0 for every k out of use,

    ELBO = sum_n w_n log sum_{k in use} exp(E[log pi_k] + E[log N_k(x_n)]) - KL(q || prior)          (1)

is a bound of the model with S components, and a slot out of use is at its prior and costs nothing. Where the
prior infers a common factor of all covariances, that is the prior given the factor, and q of the factor is
that of the components in use: it follows from their statistics, however many slots there are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vigmm.core.effort import once, pass_work, program
from vigmm.core.struct import state
from vigmm.core.typing import Batch
from vigmm.data.sampler import Rows
from vigmm.families import Conjugate, ConjugateParams, row_counts
from vigmm.families import factor as factors
from vigmm.families.factor import Factor
from vigmm.math.rows import softmax
from vigmm.math.tiles import LANES, choose_tile, tiled_sum
from vigmm.models import Mixture, Prior, Sticks, passes, sticks

__all__ = [
    "EMPTY",
    "MOVES",
    "Slots",
    "ascend",
    "assemble",
    "read",
    "resize",
    "responsibilities",
    "row_sum",
    "search_work",
    "slot_work",
    "tile_of",
]

# A component with fewer rows than this is out of use: it is at its prior, but for rounding.
EMPTY = 1e-3
# How fast steps are lengthened while that pays, and how much of a component a longer step must leave.
_STRETCH = 1.25
_LEAST_LEFT = 0.5
# A search makes about so many passes and tries about so many moves.
_PASSES, MOVES = 500, 50
_MANY_TILES = 32


@state
class Slots:
    """A conjugate posterior of S components and which are in use; those come first, the largest first."""

    params: ConjugateParams
    used: Bool[Array, " S"]

    @property
    def before(self) -> tuple[Sticks, Factor | None]:
        """What a posterior that is made anew takes over: sticks, and q of a common factor."""
        return self.params.weights, self.params.factor


def tile_of(model: Mixture, rows: Rows) -> int:
    """Rows that are handled at a time."""
    return choose_tile(rows.x, model.num_components * rows.x.shape[1])


def row_sum(f: Callable[[Batch], Any], model: Mixture, rows: Rows) -> Any:
    """Sum of f over tiles of the rows, see `tiled_sum`."""
    tile = tile_of(model, rows)
    return tiled_sum(f, Batch(x=rows.x, weight=rows.weight), tile, lanes=_lanes(tile, rows))


def _lanes(tile: int, rows: Rows) -> int:
    """Tiles that are worked on at a time: a second lane takes a second to compile, which few do not earn."""
    return LANES if rows.x.shape[0] > _MANY_TILES * tile else 1


def read(model: Mixture, slots: Slots) -> tuple[Any, Any]:
    """Posterior hyperparameters, and the expected components that rows are compared with."""
    family = Conjugate()
    posterior = family.posterior(model, slots.params)
    theta = family.expected(model, posterior)
    masked = jnp.where(slots.used, theta.log_weights, -jnp.inf)
    return posterior, dataclasses.replace(theta, log_weights=masked)


def responsibilities(
    model: Mixture, theta: Any, x: Float[Array, "B D"]
) -> tuple[Float[Array, "B S"], Float[Array, " B"]]:
    """q(z_b = k) at its optimum, and the log of its normaliser."""
    return softmax(model.log_joint(theta, x), dim=x.shape[1])


def assemble(
    model: Mixture,
    prior: Prior,
    before: tuple[Sticks | None, Factor | None],
    stats: Any,
    centre: Float[Array, "S D"],
) -> Slots:
    """Prior + statistics, sorted: the components in use first, the largest first.

    `before` are sticks, which decide q of an inferred concentration (``None`` starts that anew), and q of an
    inferred factor, which stays.
    """
    order = jnp.argsort(-stats.count)
    return _as_it_stands(model, prior, *before, model.algebra.order(stats, order), centre[order])


def _as_it_stands(
    model: Mixture,
    prior: Prior,
    sticks_before: Sticks | None,
    factor: Factor | None,
    stats: Any,
    centre: Float[Array, "S D"],
) -> Slots:
    """Prior + statistics, the components where they are."""
    used = stats.count > EMPTY
    base = factors.base(model, prior, factor, centre)
    weights = sticks.update(prior.weights, jnp.where(used, stats.count, 0.0), sticks_before)
    components = jax.tree.map(jnp.add, base, stats)
    return Slots(params=ConjugateParams(weights=weights, components=components, factor=factor), used=used)


def _visit(model: Mixture, prior: Prior, slots: Slots, rows: Rows) -> tuple[Any, Array, Float[Array, ""]]:
    """One pass: statistics about the current means, these means, and the bound (1) of `slots`.

    About the current means no precision is lost, however far a component has moved.
    """
    posterior, theta = read(model, slots)
    centre = posterior.components.loc
    batch, tile = Batch(x=rows.x, weight=rows.weight), tile_of(model, rows)
    log_lik, stats = passes.gather(model, theta, batch, centre, tile=tile, lanes=_lanes(tile, rows))
    terms = Conjugate().neg_kl(model, posterior, prior, slots.used)
    return stats, centre, once(log_lik + jax.tree.reduce(jnp.add, terms))


@state
class _Climb:
    """Where an ascent stands: the best so far, and what is looked at next.

    Args:
        done: passes.
        gain: of the last pass over the best before it.
        elbo: of `best`.
        best: the best posterior seen.
        plain: its plain coordinate step.
        trial: what is looked at next: a longer step in the same direction, or `plain`.
        reach: how much longer.
    """

    done: Int[Array, ""]
    gain: Float[Array, ""]
    elbo: Float[Array, ""]
    best: Slots
    plain: Slots
    trial: Slots
    reach: Float[Array, ""]


def search_work(passes: int) -> Callable[..., float]:
    """Operations of so many passes over the rows of a stage, for `program`."""

    def work(model: Mixture, prior: Prior, slots: Slots, rows: Rows, *_: Any) -> float:
        return passes * pass_work(rows.x.shape, model.num_components)

    return work


def slot_work(model: Mixture, prior: Prior, *_: Any) -> float:
    """Operations of moves that read no rows, for `program`."""
    return MOVES * pass_work((1, prior.frame.scale.shape[0]), model.num_components)


@program(search_work(_PASSES), static_argnames=("model",))
def ascend(
    model: Mixture,
    prior: Prior,
    slots: Slots,
    rows: Rows,
    steps: Int[Array, ""],
    tolerance: Float[Array, ""],
) -> tuple[Slots, Float[Array, ""]]:
    """Coordinate ascent until a step gains less than `tolerance` nats, or for `steps` passes.

    Where components overlap, coordinate steps are short and all in one direction. So each is lengthened, the
    more the longer that has paid, and taken back to its own length when the bound did not rise (Salakhutdinov
    and Roweis 2003, Adaptive overrelaxed bound optimization methods, ICML).

    Returns:
        The best posterior seen, sorted, and its bound (1), which no further pass lowers.
    """
    algebra = model.algebra
    same = jnp.arange(model.num_components)

    def more(climb: _Climb) -> Array:
        going: Array = (climb.done < steps) & (climb.gain > tolerance)
        return going

    def body(climb: _Climb) -> _Climb:
        trial = climb.trial
        stats, centre, elbo = _visit(model, prior, trial, rows)
        old, factor = trial.params.components, trial.params.factor
        base = factors.base(model, prior, factor, old.centre)
        start = jax.tree.map(jnp.subtract, old, base)
        start = algebra.regroup(start, centre - old.centre, same, model.num_components)
        reach = climb.reach * _STRETCH
        beyond = jax.tree.map(lambda a, b: a + reach.astype(a.dtype) * (b - a), start, stats)
        before = trial.params.weights, factors.best(model, prior, old, trial.used)
        plain = _as_it_stands(model, prior, *before, stats, centre)
        far = _as_it_stands(model, prior, *before, beyond, centre)
        # A component that is emptying must not be taken below nothing.
        sound = once(jnp.all(beyond.count >= _LEAST_LEFT * stats.count) & jnp.all(far.used == plain.used))
        first = climb.done == 0
        better = once(first | (elbo > climb.elbo))

        def pick(yes: Any, no: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(better, a, b), yes, no)

        ahead = jax.tree.map(lambda a, b: jnp.where(sound, a, b), far, plain)
        # A plain step that does not raise the bound has reached its rounding.
        stuck = ~better & (climb.reach <= 1.0)
        return _Climb(
            done=climb.done + 1,
            gain=jnp.where(first | ~(better | stuck), jnp.inf, jnp.where(stuck, 0.0, elbo - climb.elbo)),
            elbo=jnp.where(better, elbo, climb.elbo),
            best=pick(trial, climb.best),
            plain=pick(plain, climb.plain),
            trial=pick(ahead, climb.plain),
            reach=jnp.where(better & sound, reach, jnp.ones_like(reach)),
        )

    dtype = rows.x.dtype
    lowest = jnp.full((), -jnp.inf, dtype)
    begin = _Climb(
        done=jnp.zeros((), jnp.int32),
        gain=jnp.full((), jnp.inf, dtype),
        elbo=lowest,
        best=slots,
        plain=slots,
        trial=slots,
        reach=jnp.ones((), dtype),
    )
    end = lax.while_loop(more, body, begin)
    return _sorted(model, prior, end.best), end.elbo


def _sorted(model: Mixture, prior: Prior, slots: Slots) -> Slots:
    """The components in use first, the largest first."""
    components = slots.params.components
    order = jnp.argsort(-jnp.where(slots.used, components.count, -jnp.inf))
    counts = jnp.where(slots.used, row_counts(components, prior), 0.0)[order]
    weights = sticks.update(prior.weights, counts, slots.params.weights)
    ordered = model.algebra.order(components, order)
    made = ConjugateParams(weights=weights, components=ordered, factor=slots.params.factor)
    return Slots(params=made, used=slots.used[order])


@program(slot_work, static_argnames=("model",))
def resize(model: Mixture, before: Prior, after: Prior, slots: Slots) -> Slots:
    """The same components in another number of slots, which must hold all that are in use.

    Args:
        model: the mixture with as many components as there will be slots.
        before: hyperparameters of the slots that are.
        after: hyperparameters of the slots that will be.
        slots: the posterior.
    """
    components, factor = slots.params.components, slots.params.factor
    centre = components.centre
    base = factors.base(model, before, factor, centre)
    stats = jax.tree.map(jnp.subtract, components, base)
    size, num = centre.shape[0], model.num_components
    group = jnp.arange(size)
    # A group that does not exist takes its members with it: only slots out of use are dropped.
    fitted = model.algebra.regroup(stats, jnp.zeros_like(centre), group, num)
    place = jnp.minimum(jnp.arange(num), size - 1)
    return assemble(model, after, (None, factor), fitted, centre[place])
