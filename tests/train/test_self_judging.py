"""The loop with a rule that finds its rates itself and says when it is done."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.test_checkpoint import ALWAYS, Break, Breaking, assert_same, run
from vigmm.core.outcome import Status
from vigmm.data.sampler import Rows
from vigmm.optim import Automatic
from vigmm.train import Checkpoints

# Rough, so that it ends after some hundred steps.
RULE = Automatic(window=64, accuracy=0.3)


@pytest.fixture(scope="module")
def patient(config):
    return dataclasses.replace(config, min_steps=4_000, chunk_steps=40)


@pytest.fixture(scope="module")
def unbroken(problem, patient):
    return run(problem, "pathwise", patient, optimizer=RULE)


def test_it_ends_by_itself_and_says_why(unbroken):
    outcome = unbroken.outcome
    assert outcome.status is Status.CONVERGED
    assert outcome.step < 2_000
    assert outcome.message.startswith("done after ")
    assert "has R-hat 1.0" in outcome.message
    assert "of q's own scale" in outcome.message
    assert "nats below this family's best" in outcome.message


def test_its_record_has_what_it_judged_by(unbroken):
    metrics = unbroken.metrics
    for name in ("rhat", "mcse", "window", "stages", "gap", "judged", "done"):
        assert metrics[name].shape == metrics["chunk_step"].shape, name
    assert metrics["rhat"][-1] < 1.1
    assert metrics["mcse"][-1] < 0.3
    assert metrics["gap"][-1] > 0
    assert metrics["stages"][-1] >= 2
    # A rate is half of the one before it, and what is done does not move.
    rates = metrics["rate"]
    assert rates.max() == pytest.approx(0.1)
    assert np.isclose(rates, 0.05).sum() > 32
    assert rates[-1] == 0.0
    assert metrics["done"].sum() <= 2, "at most the chunk that was under way when it was done"


def test_a_run_broken_off_again_and_again_ends_with_the_same_bits(problem, patient, unbroken, tmp_path):
    for _ in range(40):
        with Checkpoints(tmp_path, ALWAYS) as saved:
            try:
                hands = {"progress": Breaking(3), "checkpoints": saved}
                result = run(problem, "pathwise", patient, optimizer=RULE, **hands)
                break
            except Break:
                pass
    assert_same(unbroken, result)


def test_a_budget_that_ends_first_says_how_far_it_got(problem, patient):
    short = dataclasses.replace(patient, max_steps=320)
    outcome = run(problem, "pathwise", short, optimizer=RULE).outcome
    assert outcome.status is Status.BUDGET
    assert outcome.step == 320
    assert "not done after " in outcome.message
    assert "has R-hat" in outcome.message


def test_a_nan_row_in_every_pass_is_never_converged(problem, patient):
    x = np.asarray(problem.data.x).copy()
    x[17, 1] = np.nan
    poisoned = Rows(x=jnp.asarray(x), weight=problem.data.weight)
    result = run(problem, "pathwise", patient, data=poisoned, optimizer=RULE)
    assert result.outcome.status is Status.NONFINITE
    assert result.outcome.bad_steps >= result.outcome.step // 6 - 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))
