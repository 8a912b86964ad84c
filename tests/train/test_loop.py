"""The loop: resumes to the same bits, compiles once, stops for the right reasons."""

from __future__ import annotations

import dataclasses
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.conftest import Problem, rows
from vigmm.core import rng
from vigmm.core.outcome import Status
from vigmm.data.sampler import Rows
from vigmm.estimators import Natural, Objective
from vigmm.families import Conjugate
from vigmm.optim import Adam, Sgd
from vigmm.train import Train, train
from vigmm.train import step as steps

HORIZON = jnp.asarray(24, jnp.int32)


def scan(problem: Problem, name: str, state: steps.TrainState, config: Train, data: Rows | None = None):
    objective, optimizer, _ = problem.setting(name)
    return steps.run(
        state, problem.prior, data or problem.data, problem.holdout, HORIZON,
        objective=objective, optimizer=optimizer, sampler=config.sampler,
        length=config.chunk_steps, num_draws=config.num_draws,
    )  # fmt: skip


def bits(tree) -> list[np.ndarray]:
    def raw(leaf):
        key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if key else leaf)

    return [raw(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("name", ["natural", "pathwise"])
def test_a_resumed_scan_is_bit_identical_to_an_unbroken_one(problem, config, name):
    objective, optimizer, params = problem.setting(name)
    unbroken = steps.init(objective, optimizer, params, problem.prior, rng.root_key(7))
    elbos = []
    for _ in range(4):
        unbroken, metrics, _ = scan(problem, name, unbroken, config)
        elbos.append(np.asarray(metrics.elbo))

    resumed = steps.init(objective, optimizer, params, problem.prior, rng.root_key(7))
    for part in range(4):
        # Through the host, as a checkpoint would.
        frozen = bits(resumed)
        leaves = [
            jax.random.wrap_key_data(jnp.asarray(raw))
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else jnp.asarray(raw)
            for raw, leaf in zip(frozen, jax.tree.leaves(resumed), strict=True)
        ]
        resumed = jax.tree.unflatten(jax.tree.structure(resumed), leaves)
        resumed, metrics, _ = scan(problem, name, resumed, config)
        np.testing.assert_array_equal(np.asarray(metrics.elbo), elbos[part])
    for a, b in zip(bits(unbroken), bits(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_steps_past_the_horizon_change_nothing(problem, config):
    objective, optimizer, params = problem.setting("natural")
    state = steps.init(objective, optimizer, params, problem.prior, rng.root_key(7))
    for _ in range(4):
        state, _, _ = scan(problem, "natural", state, config)
    before = bits(state)
    state, _, _ = scan(problem, "natural", state, config)
    assert int(state.step) == 24
    for a, b in zip(before, bits(state), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["natural", "pathwise"])
def test_a_refit_with_new_data_and_another_budget_does_not_retrace(problem, config, name):
    objective, optimizer, params = problem.setting(name)
    train(
        objective,
        optimizer,
        params,
        problem.prior,
        problem.data,
        problem.holdout,
        rng.root_key(0),
        config=config,
    )
    traced = chex.assert_max_traces(steps.step, n=0)
    original, steps.step = steps.step, traced
    try:
        new = Rows(x=jnp.asarray(rows(5)), weight=problem.data.weight)
        longer = dataclasses.replace(config, passes=5)
        # Equal Specs, built anew: a closure would recompile here.
        again, same, _ = problem.setting(name)
        train(again, same, params, problem.prior, new, problem.holdout, rng.root_key(1), config=longer)
    finally:
        steps.step = original


def test_the_callers_arrays_survive_donation(problem, config):
    objective, optimizer, params = problem.setting("natural")
    key = rng.root_key(3)
    for _ in range(2):
        train(objective, optimizer, params, problem.prior, problem.data, problem.holdout, key, config=config)
    assert all(np.isfinite(leaf).all() for leaf in bits(params))


def test_full_batch_rate_one_is_coordinate_ascent_and_converges(problem):
    objective = Objective(model=problem.model, family=Conjugate(), estimator=Natural())
    config = Train(batch_size=600, min_steps=400, tolerance=1e-6, chunk_steps=20)
    result = train(
        objective, Sgd(rate=1.0), problem.start, problem.prior, problem.data, problem.holdout,
        rng.root_key(0), config=config,
    )  # fmt: skip
    assert result.outcome.status is Status.CONVERGED
    assert result.outcome.ok
    assert int(result.state.step) < 400
    # Up to the rounding of a sum of 600 terms in float32.
    assert np.diff(result.metrics["elbo"]).min() > -600 * 4 * np.finfo(np.float32).eps * 10


def test_metrics_have_one_entry_per_step_and_per_chunk(problem, config):
    objective, optimizer, params = problem.setting("natural")
    result = train(
        objective,
        optimizer,
        params,
        problem.prior,
        problem.data,
        problem.holdout,
        rng.root_key(0),
        config=config,
    )
    assert result.metrics["step"].tolist() == list(range(24))
    assert result.metrics["chunk_step"].tolist() == [6, 12, 18, 24]
    assert np.isfinite(result.metrics["holdout"]).all()
    assert result.metrics["bad"].max() == -1
    assert result.outcome.status is Status.BUDGET
    assert "4 passes" in result.outcome.message


@pytest.mark.parametrize("name", ["natural", "pathwise"])
def test_a_nan_row_in_every_pass_is_never_converged_and_leaves_the_last_good_model(problem, config, name):
    objective, optimizer, params = problem.setting(name)
    x = np.asarray(problem.data.x).copy()
    x[17, 1] = np.nan
    poisoned = Rows(x=jnp.asarray(x), weight=problem.data.weight)
    # Any change is below this tolerance: only NaN can stop "converged".
    lax = dataclasses.replace(config, tolerance=1e6, patience=1)
    result = train(
        objective, optimizer, params, problem.prior, poisoned, problem.holdout, rng.root_key(0), config=lax
    )
    outcome = result.outcome
    assert outcome.status is Status.NONFINITE
    assert not outcome.ok
    # One batch of every pass has the row; it ends no pass, and at the end there was none without it.
    assert outcome.bad_steps == 4
    assert outcome.step == 24
    assert 0 <= outcome.bad_step < 6
    assert outcome.bad_term == "log_lik"
    assert "log_lik was not finite at step" in outcome.message
    assert "4 of 24 steps were undone" in outcome.message
    assert all(np.isfinite(leaf).all() for leaf in bits(result.state.params))


def test_a_rate_that_is_far_too_high_is_diverged_or_nonfinite(problem, config):
    objective, _, params = problem.setting("pathwise")
    wild = Adam(rate=3.0, warmup=0.0, decay="none")
    result = train(
        objective, wild, params, problem.prior, problem.data, problem.holdout, rng.root_key(0), config=config
    )
    assert result.outcome.status in (Status.DIVERGED, Status.NONFINITE)


def test_ctrl_c_ends_with_a_usable_model(problem, config):
    class PressCtrlC:
        pressed = False

        def start(self, total_steps, phase):
            pass

        def update(self, step, values):
            if not self.pressed:
                self.pressed = True
                signal.raise_signal(signal.SIGINT)

        def finish(self):
            pass

    objective, optimizer, params = problem.setting("natural")
    longer = dataclasses.replace(config, passes=100)
    before = signal.getsignal(signal.SIGINT)
    result = train(
        objective, optimizer, params, problem.prior, problem.data, problem.holdout, rng.root_key(0),
        config=longer, progress=PressCtrlC(),
    )  # fmt: skip
    assert result.outcome.status is Status.INTERRUPTED
    assert result.outcome.ok
    assert 0 < int(result.state.step) < 600
    assert all(np.isfinite(leaf).all() for leaf in bits(result.state.params))
    assert signal.getsignal(signal.SIGINT) is before


def test_budgets_in_steps_and_seconds(problem, config):
    objective, optimizer, params = problem.setting("natural")

    def ends(**changes):
        result = train(
            objective, optimizer, params, problem.prior, problem.data, problem.holdout, rng.root_key(0),
            config=dataclasses.replace(config, **changes),
        )  # fmt: skip
        return result.outcome

    # `max_steps` has the last word, over the passes and over the least number of steps.
    assert ends(max_steps=15).step == 15
    assert ends(max_steps=15, min_steps=1000).step == 15
    assert ends(max_steps=10_000).step == 24
    timed = ends(passes=1e9, max_seconds=0.2)
    assert timed.status is Status.BUDGET
    assert timed.ok
    assert "used the 0.2 seconds it was given" in timed.message


def test_a_run_that_stops_rising_is_cooled_down_and_not_cut_off(problem, config):
    objective, optimizer, params = problem.setting("natural")
    # A rise of less than 0.1 nats per row and pass is none.
    early = dataclasses.replace(config, passes=400, tolerance=0.1)
    result = train(
        objective,
        optimizer,
        params,
        problem.prior,
        problem.data,
        problem.holdout,
        rng.root_key(0),
        config=early,
    )
    assert result.outcome.status is Status.CONVERGED
    assert result.outcome.step < 2400 / 2
    rate = result.metrics["rate"]
    assert len(rate) == result.outcome.step
    # The last fifth of the steps that were made falls linearly to zero.
    last = len(rate) // 5
    plain = (np.arange(len(rate)) + optimizer.delay) ** -optimizer.forgetting
    down = np.arange(last, 0, -1) / (optimizer.cooldown * len(rate))
    np.testing.assert_allclose(rate[-last:], plain[-last:] * down, rtol=1e-4)
