"""One training step and a compiled scan of them: pure functions of their arguments.

`run` is one of the few places with a ``jit``. What somebody chose (`Objective`, `Optimizer`, `Sampler`) is
static; parameters, prior, data, keys and the horizon are arguments. Nothing is read back on the host.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vigmm.core import rng
from vigmm.core.struct import state
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.sampler import Rows, Sampler
from vigmm.estimators import Objective
from vigmm.families import ConjugateParams, Family, guess
from vigmm.math.tiles import choose_tile, tiled_sum
from vigmm.models import Mixture, Prior
from vigmm.optim import Optimizer

__all__ = ["Checks", "Metrics", "TrainState", "first_params", "init", "run", "step", "term_names"]


@state
class TrainState:
    """Everything a run needs to go on: a checkpoint and nothing else."""

    step: Int[Array, ""]
    key: PRNGKey
    params: Any
    opt_state: Any


@state
class Metrics:
    """What one step reports. `bad` is the number of the first non-finite term, -1 if there is none."""

    elbo: Float[Array, "*T"]
    grad_norm: Float[Array, "*T"]
    rate: Float[Array, "*T"]
    bad: Int[Array, "*T"]


@state
class Checks:
    """What is measured once per compiled chunk of steps."""

    holdout: Float[Array, ""]
    effective_components: Float[Array, ""]


def init(objective: Objective, optimizer: Optimizer, params: Any, key: PRNGKey) -> TrainState:
    """The state before the first step. Copies `params`, because `run` donates its state."""
    params = jax.tree.map(jnp.copy, params)
    opt_state = optimizer.build(jnp.zeros((), jnp.int32), objective.metric).init(params)
    # Copies here too: a rule may use one array of zeros twice, and no buffer can be donated twice.
    opt_state = jax.tree.map(jnp.copy, opt_state)
    # A copy of the key as well: it is donated with the rest.
    copied = jax.random.wrap_key_data(jnp.copy(jax.random.key_data(key)))
    return TrainState(step=jnp.zeros((), jnp.int32), key=copied, params=params, opt_state=opt_state)


@functools.partial(jax.jit, static_argnames=("model", "family"))
def first_params(
    model: Mixture, family: Family, prior: Prior, start: ConjugateParams, surrogate_prior: Prior
) -> Any:
    """`family.init`, compiled as one program: run eagerly it would compile a hundred small ones."""
    return family.init(model, guess(model, prior, start, surrogate_prior))


def term_names(terms: Any) -> tuple[str, ...]:
    """Names of what is checked for finiteness, in order: the bound's terms, the gradient, the parameters."""
    return (*sorted(terms), "grads", "params")


def _all_finite(tree: Any) -> Bool[Array, ""]:
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_and, leaves)


def step(
    objective: Objective,
    optimizer: Optimizer,
    sampler: Sampler,
    state: TrainState,
    prior: Prior,
    data: Rows,
    horizon: Int[Array, ""],
) -> tuple[TrainState, Metrics]:
    """One step: pick a batch, estimate, update.

    A step with any non-finite value leaves the parameters and the optimiser as they were and says which
    term was the first; only the step counter moves on.
    """
    batch = sampler.pick(data, rng.stream(state.key, "batches"), state.step)
    noise = rng.at_step(rng.stream(state.key, "noise"), state.step)
    estimate = objective.estimate(state.params, prior, batch, noise)
    # Optax relies on implicit promotion; a caller who made JAX strict must still be able to train.
    with jax.numpy_dtype_promotion("standard"):
        rule = optimizer.build(horizon, objective.metric)
        updates, opt_state = rule.update(estimate.grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)

    terms = [estimate.terms[name] for name in sorted(estimate.terms)]
    finite = jnp.stack([_all_finite(value) for value in (*terms, estimate.grads, params)])
    good = jnp.all(finite)
    bad = jnp.where(good, -1, jnp.argmin(finite.astype(jnp.int32)).astype(jnp.int32))

    def keep(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)

    new = TrainState(
        step=state.step + 1,
        key=state.key,
        params=keep(params, state.params),
        opt_state=keep(opt_state, state.opt_state),
    )
    metrics = Metrics(
        elbo=estimate.elbo,
        grad_norm=optax.tree.norm(estimate.grads),
        rate=optimizer.rate_at(state.step, horizon),
        bad=bad,
    )
    return new, metrics


@functools.partial(
    jax.jit,
    static_argnames=("objective", "optimizer", "sampler", "length", "num_draws"),
    donate_argnames=("state",),
)
def run(
    state: TrainState,
    prior: Prior,
    data: Rows,
    holdout: Rows,
    horizon: Int[Array, ""],
    *,
    objective: Objective,
    optimizer: Optimizer,
    sampler: Sampler,
    length: int,
    num_draws: int,
) -> tuple[TrainState, Metrics, Checks]:
    """Up to `length` steps in one compiled scan, none beyond `horizon`, then the checks.

    Steps past the horizon change nothing, so a run of any number of steps compiles once. `state` is
    donated: use the returned one.

    Returns:
        The new state, per-step metrics (the elements past the horizon are to be ignored) and the checks.
    """

    def body(carry: TrainState, _: None) -> tuple[TrainState, Metrics]:
        def go(s: TrainState) -> tuple[TrainState, Metrics]:
            return step(objective, optimizer, sampler, s, prior, data, horizon)

        def rest(s: TrainState) -> tuple[TrainState, Metrics]:
            zero, single = jnp.zeros((), data.x.dtype), jnp.zeros((), jnp.float32)
            return s, Metrics(elbo=zero, grad_norm=zero, rate=single, bad=jnp.zeros((), jnp.int32))

        out: tuple[TrainState, Metrics] = lax.cond(carry.step < horizon, go, rest, carry)
        return out

    state, metrics = lax.scan(body, state, None, length=length)
    model, family = objective.model, objective.family
    weights = family.weights(model, state.params)
    entropy = -jnp.sum(jax.scipy.special.xlogy(weights, weights))
    key = rng.stream(state.key, "holdout")
    density = _mean_log_predictive(objective, state.params, prior, holdout, key, num_draws)
    return state, metrics, Checks(holdout=density, effective_components=jnp.exp(entropy))


def _mean_log_predictive(
    objective: Objective, params: Any, prior: Prior, holdout: Rows, key: PRNGKey, num_draws: int
) -> Float[Array, ""]:
    """Weighted mean log predictive density of the held-out rows; NaN if there are none."""
    rows, dim = holdout.x.shape
    model, family = objective.model, objective.family

    def total(piece: Batch) -> Float[Array, ""]:
        joint = family.log_predictive(model, params, prior, piece.x, key, num_draws=num_draws)
        return jnp.sum(piece.weight * jax.nn.logsumexp(joint, axis=-1))

    tile = choose_tile(rows, model.num_components, dim, itemsize=holdout.x.dtype.itemsize)
    batch = Batch(x=holdout.x, weight=holdout.weight)
    density: Array = tiled_sum(total, batch, tile) / jnp.sum(holdout.weight)
    return density
