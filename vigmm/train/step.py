"""One training step and a compiled scan of them: pure functions of their arguments.

`run` is one of the few places with a ``jit``. What somebody chose (`Objective`, `Optimizer`, `Sampler`) is
static; parameters, prior, data, keys and the horizon are arguments. Nothing is read back on the host.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from vigmm.core import rng
from vigmm.core.axes import rows_over
from vigmm.core.effort import once, pass_work, program
from vigmm.core.struct import state
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.sampler import Rows, Sampler
from vigmm.estimators import Objective
from vigmm.families import ConjugateParams, Family, guess
from vigmm.math.tiles import choose_tile, tiled_sum
from vigmm.models import Mixture, Prior
from vigmm.optim import Optimizer, SelfJudging
from vigmm.train import memory, recovery
from vigmm.train.memory import Memory
from vigmm.train.placement import spread
from vigmm.train.recovery import Caution

__all__ = ["Checks", "Metrics", "TrainState", "first_params", "init", "run", "step", "term_names"]

# Calls of a compiled chunk in a run, about.
_CHUNKS = 20


@state
class TrainState:
    """Everything a run needs to go on: a checkpoint and nothing else."""

    step: Int[Array, ""]
    key: PRNGKey
    params: Any
    opt_state: Any
    caution: Caution
    memory: Memory | None


@state
class Metrics:
    """What one step reports.

    Args:
        elbo: of this step's batch and draws, at the parameters before the step; of all rows where every batch
            is remembered.
        se: its Monte-Carlo standard error given the batch.
        grad_norm: norm of the descent direction.
        rate: step size, after any cut.
        bad: number of the first non-finite term, -1 if there is none.
        reset: number of the first component that was reset, -1 if none was.
    """

    elbo: Float[Array, "*T"]
    se: Float[Array, "*T"]
    grad_norm: Float[Array, "*T"]
    rate: Float[Array, "*T"]
    bad: Int[Array, "*T"]
    reset: Int[Array, "*T"]


@state
class Checks:
    """What is measured once per compiled chunk of steps.

    `reset` is the first component that had to be reset after the chunk's last step, -1 if none had to be;
    `found` is what the optimiser judges itself by, if it does.
    """

    holdout: Float[Array, ""]
    effective_components: Float[Array, ""]
    reset: Int[Array, ""]
    found: dict[str, Float[Array, ""]]


def _little(*_: Any, **__: Any) -> float:
    """Work that depends on no rows."""
    return 0.0


@program(_little, static_argnames=("objective", "optimizer", "batches"))
def init(
    objective: Objective, optimizer: Optimizer, params: Any, prior: Prior, key: PRNGKey, *, batches: int = 1
) -> TrainState:
    """The state before the first step. Copies `params`, because `run` donates its state.

    One program: every shape that is copied or filled with zeros would be one of its own. `batches` is the
    number in a pass; an optimiser that remembers them needs no memory of one that is all.
    """
    remembers = optimizer.batches is not None and batches > 1
    params = jax.tree.map(jnp.copy, params)
    opt_state = optimizer.build(jnp.zeros((), jnp.int32), objective.metric).init(params)
    # Copies here too: a rule may use one array of zeros twice, and no buffer can be donated twice.
    opt_state = jax.tree.map(jnp.copy, opt_state)
    # A copy of the key as well: it is donated with the rest.
    copied = jax.random.wrap_key_data(jnp.copy(jax.random.key_data(key)))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=copied,
        params=params,
        opt_state=opt_state,
        caution=recovery.begin(objective, params),
        memory=memory.begin(objective, params, prior, batches) if remembers else None,
    )


@program(_little, static_argnames=("model", "family"))
def first_params(
    model: Mixture, family: Family, prior: Prior, start: ConjugateParams, surrogate_prior: Prior
) -> Any:
    """`family.init`, compiled as one program: run eagerly it would compile a hundred small ones."""
    return family.init(model, guess(model, prior, start, surrogate_prior))


def term_names(terms: Any) -> tuple[str, ...]:
    """Names of what is checked for finiteness, in order: the bound's terms, the gradient, the parameters."""
    return (*sorted(terms), "grads", "params")


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
    term was the first; the step counter moves on, the steps that follow are smaller, and a component that is
    at fault is reset (`vigmm.train.recovery`).
    """
    batch = sampler.pick(data, rng.stream(state.key, "batches"), state.step)
    noise = rng.at_step(rng.stream(state.key, "noise"), state.step)
    estimate = objective.estimate(state.params, prior, batch, noise)
    remembered = state.memory
    if remembered is not None:
        estimate, remembered = memory.recall(objective, remembered, state.params, prior, estimate, state.step)
    # Optax relies on implicit promotion; a caller who made JAX strict must still be able to train.
    with jax.numpy_dtype_promotion("standard"):
        rule = optimizer.build(horizon, objective.metric, state.caution.cut)
        updates, opt_state = optax.with_extra_args_support(rule).update(
            estimate.grads, state.opt_state, state.params, value=-estimate.elbo
        )
    params = optax.apply_updates(state.params, updates)

    terms = [estimate.terms[name] for name in sorted(estimate.terms)]
    finite = jnp.stack([recovery.all_finite(value) for value in (*terms, estimate.grads, params)])
    good = once(jnp.all(finite))
    bad = jnp.where(good, -1, jnp.argmin(finite.astype(jnp.int32)).astype(jnp.int32))

    def keep(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)

    fault = once(~good & recovery.at_fault(objective, state.params, estimate.grads, state.caution))
    before = state.params, state.opt_state
    if isinstance(optimizer, SelfJudging):
        before = optimizer.accident(*before, state.caution.cut)
    kept = keep(params, before[0])
    new = TrainState(
        step=state.step + 1,
        key=state.key,
        params=recovery.reset(objective, kept, prior, state.caution, fault),
        opt_state=keep(opt_state, before[1]),
        caution=recovery.tread(state.caution, good),
        memory=memory.forget(objective, keep(remembered, state.memory), fault),
    )
    metrics = Metrics(
        elbo=estimate.elbo,
        se=estimate.se,
        grad_norm=optax.tree.norm(estimate.grads),
        rate=_rate(optimizer, state, horizon) * state.caution.cut,
        bad=bad,
        reset=recovery.first_of(fault),
    )
    return new, metrics


def _rate(optimizer: Optimizer, state: TrainState, horizon: Int[Array, ""]) -> Float[Array, ""]:
    """Step size of the next step, before any cut."""
    if isinstance(optimizer, SelfJudging):
        return optimizer.rate_in(state.opt_state, horizon)
    return optimizer.rate_at(state.step, horizon)


def _run_work(
    state: TrainState,
    prior: Prior,
    data: Rows,
    holdout: Rows,
    *_: Any,
    objective: Objective,
    sampler: Sampler,
    length: int,
    **__: Any,
) -> float:
    """Operations of a run of usual length."""
    rows, dim = data.x.shape
    read = length * -(-rows // sampler.steps_per_epoch(rows)) + holdout.x.shape[0]
    return _CHUNKS * pass_work((read, dim), objective.model.num_components)


@program(
    _run_work,
    static_argnames=("objective", "optimizer", "sampler", "length", "num_draws", "mesh"),
    donate_argnames=("state",),
)
def run(
    state: TrainState,
    prior: Prior,
    data: Rows,
    holdout: Rows,
    horizon: Int[Array, ""],
    until: Int[Array, ""] | None = None,
    *,
    objective: Objective,
    optimizer: Optimizer,
    sampler: Sampler,
    length: int,
    num_draws: int,
    mesh: Mesh | None = None,
) -> tuple[TrainState, Metrics, Checks]:
    """Up to `length` steps in one compiled scan, none beyond `until`, then the checks.

    Steps past the end change nothing, so a run of any number of steps compiles once. `state` is donated: use
    the returned one.

    Args:
        state: where the run is.
        prior: hyperparameters.
        data: the rows that these steps read.
        holdout: rows that the checks look at.
        horizon: steps of the whole run, by which rates decrease.
        until: the first step that is not to be done, perhaps because it reads other rows; by default the
            horizon.
        objective: model, family and estimator.
        optimizer: makes updates of gradients.
        sampler: cuts batches out of the rows.
        length: number of steps.
        num_draws: posterior draws for the held-out density of families without a closed form.
        mesh: the devices that the rows lie on, if these are several.

    Returns:
        The new state, per-step metrics (the elements past the end are to be ignored) and the checks.
    """
    chunk = functools.partial(
        _chunk, objective=objective, optimizer=optimizer, sampler=sampler, length=length, num_draws=num_draws
    )
    end = horizon if until is None else until
    made: tuple[TrainState, Metrics, Checks] = spread(chunk, mesh, rows=2)(
        state, prior, data, holdout, horizon, end
    )
    return made


def _chunk(
    state: TrainState,
    prior: Prior,
    data: Rows,
    holdout: Rows,
    horizon: Int[Array, ""],
    end: Int[Array, ""],
    *,
    objective: Objective,
    optimizer: Optimizer,
    sampler: Sampler,
    length: int,
    num_draws: int,
) -> tuple[TrainState, Metrics, Checks]:
    """The work of `run` on one device, with that device's rows."""

    def body(carry: TrainState, _: None) -> tuple[TrainState, Metrics]:
        def go(s: TrainState) -> tuple[TrainState, Metrics]:
            return step(objective, optimizer, sampler, s, prior, data, horizon)

        def rest(s: TrainState) -> tuple[TrainState, Metrics]:
            zero, single, whole = (jnp.zeros((), one) for one in (data.x.dtype, jnp.float32, jnp.int32))
            return s, Metrics(elbo=zero, se=zero, grad_norm=zero, rate=single, bad=whole, reset=whole)

        out: tuple[TrainState, Metrics] = lax.cond(carry.step < end, go, rest, carry)
        return out

    state, metrics = lax.scan(body, state, None, length=length)
    # No step follows that would notice if the last one left a component without a standard form.
    fault = recovery.blocked(objective, state.params)
    params = recovery.reset(objective, state.params, prior, state.caution, fault)
    forgotten = memory.forget(objective, state.memory, fault)
    state = dataclasses.replace(state, params=params, memory=forgotten)
    model, family = objective.model, objective.family
    weights = family.weights(model, state.params)
    entropy = -jnp.sum(jax.scipy.special.xlogy(weights, weights))
    key = rng.stream(state.key, "holdout")
    with rows_over(None):  # every device has all of these rows
        density = _mean_log_predictive(objective, state.params, prior, holdout, key, num_draws)
    checks = Checks(
        holdout=density,
        effective_components=jnp.exp(entropy),
        reset=recovery.first_of(fault),
        found=optimizer.findings(state.opt_state) if isinstance(optimizer, SelfJudging) else {},
    )
    return state, metrics, checks


def _mean_log_predictive(
    objective: Objective, params: Any, prior: Prior, holdout: Rows, key: PRNGKey, num_draws: int
) -> Float[Array, ""]:
    """Weighted mean log predictive density of the held-out rows; NaN if there are none."""
    model, family = objective.model, objective.family

    def total(piece: Batch) -> Float[Array, ""]:
        joint = family.log_predictive(model, params, prior, piece.x, key, num_draws=num_draws)
        return jnp.sum(piece.weight * jax.nn.logsumexp(joint, axis=-1))

    tile = choose_tile(holdout.x, model.num_components * holdout.x.shape[1])
    batch = Batch(x=holdout.x, weight=holdout.weight)
    density: Array = tiled_sum(total, batch, tile) / jnp.sum(holdout.weight)
    return density
