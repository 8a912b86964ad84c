"""Bad steps are undone, soften the ones that follow, and reset the component at fault."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.conftest import Problem
from vigmm.core import rng
from vigmm.core.outcome import Status
from vigmm.core.struct import spec
from vigmm.core.typing import Batch
from vigmm.data.sampler import Minibatch
from vigmm.train import recovery, train
from vigmm.train import step as steps


@spec
class Poisoned:
    """Batches of 100 rows, of which those of some steps hold a NaN."""

    first: int
    count: int

    def steps_per_epoch(self, n):
        return Minibatch(100).steps_per_epoch(n)

    def pick(self, data, key, step) -> Batch:
        batch = Minibatch(100).pick(data, key, step)
        bad = (step >= self.first) & (step < self.first + self.count)
        return Batch(x=jnp.where(bad, jnp.nan, batch.x), weight=batch.weight)


@pytest.fixture(scope="module")
def poisoned(problem: Problem):
    """24 steps of which 6 and 7 are bad."""
    objective, optimizer, params = problem.setting("natural")
    state = steps.init(objective, optimizer, params, problem.prior, rng.root_key(7))
    states, metrics = [], []
    for _ in range(4):
        state, seen, _ = steps.run(
            state, problem.prior, problem.data, problem.holdout, jnp.asarray(24, jnp.int32),
            objective=objective, optimizer=optimizer, sampler=Poisoned(6, 2), length=6, num_draws=2,
        )  # fmt: skip
        states.append(jax.tree.map(np.asarray, (state.params, state.caution)))
        metrics.append(seen)
    return states, {
        name: np.concatenate([getattr(one, name) for one in metrics]) for name in ("bad", "rate", "reset")
    }


def test_a_bad_step_halves_the_rate_and_good_ones_bring_it_back(problem, poisoned):
    _, metrics = poisoned
    assert np.flatnonzero(metrics["bad"] >= 0).tolist() == [6, 7]
    _, optimizer, _ = problem.setting("natural")
    plain = np.array([optimizer.rate_at(jnp.asarray(t), jnp.asarray(24)) for t in range(24)])
    # Step 7 is at half the rate, step 8 at a quarter; then every step takes back a 50th of a doubling.
    expected = np.concatenate([np.ones(7), [0.5], 0.25 * 2.0 ** (np.arange(16) / 50.0)])
    # The factor is a product of float32s.
    np.testing.assert_allclose(metrics["rate"], plain * expected, rtol=1e-5)


def test_a_transient_bad_step_resets_nothing_and_the_run_goes_on(poisoned):
    states, metrics = poisoned
    assert metrics["reset"].max() == -1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states))
    before, after = (np.asarray(params.components.count) for params, _ in (states[0], states[1]))
    assert not np.array_equal(before, after)


def broken_component(params, which: int):
    """`params` with a scale matrix that is not positive definite."""
    second = params.components.second
    second = second.at[which].set(-jnp.eye(2, dtype=second.dtype))
    return dataclasses.replace(params, components=dataclasses.replace(params.components, second=second))


def test_a_component_without_a_standard_form_is_emptied_and_reported(problem, config):
    objective, optimizer, params = problem.setting("natural")
    result = train(
        objective, optimizer, broken_component(params, 2), problem.prior, problem.data, problem.holdout,
        rng.root_key(0), config=config,
    )  # fmt: skip
    outcome = result.outcome
    assert outcome.status is Status.BUDGET
    assert outcome.ok
    assert (outcome.bad_steps, outcome.bad_step, outcome.resets) == (1, 0, (2,))
    assert "component 2 had to be emptied" in outcome.message
    assert np.flatnonzero(result.metrics["bad"] >= 0).tolist() == [0]
    assert result.metrics["reset"][0] == 2
    assert np.isfinite(result.metrics["elbo"][1:]).all()
    assert np.isfinite(result.metrics["holdout"]).all()


def test_an_emptied_component_is_the_prior_and_the_others_keep_their_rows(problem):
    objective, _, params = problem.setting("natural")
    caution = recovery.begin(objective, params)
    fault = recovery.at_fault(objective, broken_component(params, 1), params, caution)
    assert fault.tolist() == [False, True, False, False]
    emptied = recovery.reset(objective, broken_component(params, 1), problem.prior, caution, fault)
    standard = objective.model.algebra.standard(emptied.components)
    for name in ("loc", "mean_precision", "dof", "rate_factor"):
        ours, prior = getattr(standard, name)[1], getattr(problem.prior.components, name)[1]
        # Up to the rounding of the change of centre, at a distance of 2 or so.
        np.testing.assert_allclose(ours, prior, atol=1e-5, err_msg=name)
    counts = np.asarray(params.components.count) - 0.01
    kept = np.asarray(emptied.components.count)[[0, 2, 3]]
    np.testing.assert_array_equal(kept, np.asarray(params.components.count)[[0, 2, 3]])
    # The sticks: a_j = 1 + n_j and b_j = 1 + what lies beyond, without component 1.
    counts[1] = 0.0
    np.testing.assert_allclose(emptied.weights.a, 1.0 + counts[:3], rtol=1e-5)
    np.testing.assert_allclose(emptied.weights.b, 1.0 + np.cumsum(counts[::-1])[::-1][1:], rtol=1e-5)


def test_a_gradient_row_is_at_fault_only_the_second_time_and_goes_home(problem):
    objective, _, params = problem.setting("pathwise")
    caution = recovery.begin(objective, params)
    rows = params.loc.components.at[3, 0].set(jnp.inf)
    grads = dataclasses.replace(params, loc=dataclasses.replace(params.loc, components=rows))
    assert not recovery.at_fault(objective, params, grads, caution).any()
    caution = recovery.tread(caution, jnp.asarray(False))
    fault = recovery.at_fault(objective, params, grads, caution)
    assert fault.tolist() == [False, False, False, True]
    moved = jax.tree.map(lambda leaf: leaf + 1.0, params)
    back = recovery.reset(objective, moved, problem.prior, caution, fault)
    np.testing.assert_array_equal(back.loc.components[3], params.loc.components[3])
    np.testing.assert_array_equal(back.log_scale.components[3], params.log_scale.components[3])
    np.testing.assert_array_equal(back.loc.components[:3], moved.loc.components[:3])
    np.testing.assert_array_equal(back.loc.weights, moved.loc.weights)


def test_if_every_row_is_bad_no_component_is_to_blame(problem):
    objective, _, params = problem.setting("pathwise")
    nan = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params)
    caution = recovery.tread(recovery.begin(objective, params), jnp.asarray(False))
    assert not recovery.at_fault(objective, params, nan, caution).any()


def test_steps_that_all_fail_end_the_run_after_ten(problem, config):
    objective, optimizer, params = problem.setting("natural")
    x = problem.data.x.at[::5, 0].set(jnp.nan)
    nan = dataclasses.replace(problem.data, x=x)
    longer = dataclasses.replace(config, passes=100)
    result = train(
        objective, optimizer, params, problem.prior, nan, problem.holdout, rng.root_key(0), config=longer
    )
    outcome = result.outcome
    assert outcome.status is Status.NONFINITE
    # Read one chunk late, 6 steps at a time: 12 seen and 6 under way.
    assert outcome.step <= 24
    assert outcome.bad_steps == outcome.step
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))
