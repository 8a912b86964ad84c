"""When a run is over, judged on made-up metrics: nothing is compiled here."""

from __future__ import annotations

import numpy as np
import pytest

from vigmm.core.outcome import Status
from vigmm.train.stopping import Progression, shortened

TERMS = ("log_lik", "neg_kl", "grads", "params")


def chunk(elbo, *, bad=None, start=0, se=0.01, reset=None) -> dict[str, np.ndarray]:
    elbo = np.asarray(elbo, np.float64)
    none = np.full(len(elbo), -1)
    return {
        "elbo": elbo,
        "se": np.full(len(elbo), se),
        "bad": none if bad is None else np.asarray(bad),
        "reset": none if reset is None else np.asarray(reset),
        "step": np.arange(start, start + len(elbo)),
    }


def progression(**changes) -> Progression:
    setting = {
        "steps_per_pass": 10,
        "total_weight": 1.0,
        "tolerance": 1e-5,
        "patience": 2,
        "horizon": 400,
        "tail": 0.2,
        "terms": TERMS,
    }
    return Progression(**(setting | changes))


def noise(passes: int, sd: float, seed: int = 0) -> np.ndarray:
    """Noise of steps that do not cancel within a pass."""
    return sd * np.random.default_rng(seed).normal(size=10 * passes)


def test_a_flat_but_noisy_elbo_is_still_and_a_rising_one_with_the_same_noise_is_not():
    flat, rising = progression(), progression()
    flat.see(chunk(noise(30, 0.1)))
    # Over the window of 5 passes the slope's standard error is 0.1 / sqrt(10) / sqrt(10) = 0.01 per pass.
    rising.see(chunk(noise(30, 0.1) + 0.1 * np.repeat(np.arange(30), 10)))
    assert flat.still
    assert flat.final(300).status is Status.CONVERGED
    assert "±" in flat.final(300).message
    assert not rising.still
    assert rising.final(300).status is Status.BUDGET


def test_noise_within_a_pass_that_cancels_over_the_pass_does_not_hide_a_rise():
    # Batches differ by 1 nat per row, in every pass alike: the spread within a pass, over the root of its 10
    # steps, would be 0.3, thirty times the rise.
    batches = np.tile(np.linspace(-1.5, 1.5, 10), 30)
    seen = progression()
    seen.see(chunk(batches + 0.01 * np.repeat(np.arange(30), 10) + noise(30, 1e-3)))
    assert not seen.still


def test_an_exact_bound_is_still_by_the_tolerance_alone():
    seen = progression(steps_per_pass=1, tail=0.0)
    seen.see(chunk(1.0 - 0.5 ** np.arange(15), se=0.0))
    assert not seen.still
    seen.see(chunk(1.0 - 0.5 ** np.arange(15, 25), se=0.0, start=15))
    assert seen.still
    assert "less than 1e-05 nats per row for 2 passes" in seen.final(25).message


def test_where_batches_are_remembered_the_last_step_of_a_pass_speaks_for_it():
    # The first pass is of single batches; from then on the bound is of all rows, and at rest.
    elbo = np.concatenate([noise(1, 1.0)[:9], np.zeros(21)])
    seen = progression(whole=True, tail=0.0)
    seen.see(chunk(elbo[:20], se=0.0))
    assert not seen.still
    seen.see(chunk(elbo[20:], se=0.0, start=20))
    assert seen.still
    assert "less than 1e-05 nats per row for 2 passes" in seen.final(30).message


@pytest.mark.parametrize("steps_per_pass", [1, 10])
def test_a_tolerance_of_zero_never_ends_a_run_early(steps_per_pass):
    seen = progression(steps_per_pass=steps_per_pass, tolerance=0.0, tail=0.0)
    seen.see(chunk(np.zeros(400), se=0.0))
    assert not seen.still
    assert seen.final(400).status is Status.BUDGET


def test_what_happens_in_the_tail_is_no_evidence():
    rising = 0.1 * np.repeat(np.arange(32), 10)
    seen = progression()
    seen.see(chunk(rising))
    seen.see(chunk(np.full(80, rising[-1]), start=320))
    assert seen.final(400).status is Status.BUDGET
    seen = progression()
    seen.see(chunk(rising[:100]))
    seen.tail_begins(100)
    seen.see(chunk(np.full(200, rising[99]), start=100))
    assert seen.final(300).status is Status.BUDGET


def test_a_pass_with_a_bad_step_is_never_still_and_one_accident_is_only_reported():
    bad = np.full(300, -1)
    bad[5::10] = 0
    seen = progression(tolerance=1e6)
    seen.see(chunk(np.zeros(300), bad=bad))
    assert not seen.still
    assert seen.final(300).status is Status.NONFINITE

    bad = np.full(300, -1)
    bad[57] = 2
    seen = progression()
    elbo = noise(30, 0.1)
    elbo[57] = np.nan
    seen.see(chunk(elbo, bad=bad))
    outcome = seen.final(300)
    assert outcome.status is Status.CONVERGED
    assert (outcome.bad_step, outcome.bad_term, outcome.bad_steps) == (57, "grads", 1)
    assert outcome.message.endswith("grads was not finite at step 57, which was undone")


def test_ten_bad_steps_in_a_row_or_half_of_a_chunk_are_a_failure():
    bad = np.full(50, -1)
    bad[7:16] = 1
    seen = progression()
    seen.see(chunk(np.zeros(50), bad=bad, reset=np.where(np.arange(50) == 8, 3, -1)))
    assert not seen.failed
    assert "component 3 had to be emptied" in seen.final(50).message
    # The streak goes on from one chunk to the next.
    ends, goes_on = np.full(50, -1), np.full(50, -1)
    ends[45:], goes_on[:5] = 1, 1
    seen.see(chunk(np.zeros(50), bad=ends))
    assert not seen.failed
    seen.see(chunk(np.zeros(50), bad=goes_on))
    assert seen.failed
    outcome = seen.final(150)
    assert outcome.status is Status.NONFINITE
    assert outcome.resets == (3,)
    seen = progression()
    seen.see(chunk(np.zeros(50), bad=np.where(np.arange(50) % 50 < 26, 0, -1)[np.arange(50) * 7 % 50]))
    assert seen.failed


def test_a_falling_elbo_is_diverged_and_never_converged():
    seen = progression()
    seen.see(chunk(-0.1 * np.repeat(np.arange(30), 10) + noise(30, 0.01)))
    assert not seen.still
    assert seen.final(300).status is Status.DIVERGED


def test_a_time_limit_is_named_and_takes_the_place_of_convergence():
    seen = progression()
    seen.see(chunk(noise(30, 0.1)))
    outcome = seen.final(300, out_of_time="used the 3 seconds it was given")
    assert outcome.status is Status.BUDGET
    assert outcome.message.startswith("used the 3 seconds")


@pytest.mark.parametrize("tail", [0.2, 0.5])
def test_the_tail_begins_where_the_run_is(tail):
    horizon = shortened(1000, tail, 100_000)
    assert (1.0 - tail) * horizon == pytest.approx(1000, abs=1)
