"""A rate that nobody chooses: windows, what successive averages say, and runs whose answer is known."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vigmm
from vigmm.core.errors import SpecError
from vigmm.estimators import Natural, Objective
from vigmm.families import FAMILIES, Conjugate, Guess, MeanFieldParams
from vigmm.models import Mixture
from vigmm.optim import Automatic, windows
from vigmm.optim import stages as history
from vigmm.optim.windows import Verdict
from vigmm.train import Train, plan

# --- windows -------------------------------------------------------------------------------------------


@jax.jit
def kept(x):
    """The windows after all of the iterates."""
    return jax.lax.scan(lambda w, one: (windows.add(w, one)[0], None), windows.begin(x[0]), x)[0]


@functools.partial(jax.jit, static_argnames="fewest")
def judged(kept, unit, fewest=200):
    return windows.judge(kept, unit, limit=1.1, fewest=fewest)


def autoregression(steps, memory, count=200, seed=0):
    """Stationary series of variance one and lag-one correlation `memory`."""
    noise = np.random.default_rng(seed).normal(size=(steps, count)) * np.sqrt(1 - memory**2)
    x = np.empty_like(noise)
    x[0] = noise[0] / np.sqrt(1 - memory**2)
    for i in range(1, steps):
        x[i] = memory * x[i - 1] + noise[i]
    return x


@pytest.mark.parametrize("steps", [1, 8, 255, 256, 1000, 3001])
def test_blocks_are_means_of_equal_parts_of_all_steps(steps):
    x = np.random.default_rng(steps).normal(size=(steps, 3)).astype(np.float32)
    found = kept(jnp.asarray(x))
    length, full, taken = int(found.length), int(found.full), int(found.taken)
    # Between M and 2M blocks as soon as there are so many, whatever the number of steps.
    assert length * full + taken == steps
    assert full < 2 * windows.BLOCKS
    assert full >= windows.BLOCKS or length == 8
    for i in range(full):
        mean = x[i * length : (i + 1) * length].mean(axis=0)
        np.testing.assert_allclose(found.means[i], mean, atol=1e-5)
    if full:
        last = windows.average(found, jnp.asarray(length * (full // 2 or 1)))
        whole = x[length * (full - (full // 2 or 1)) : length * full]
        np.testing.assert_allclose(last, whole.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_the_standard_error_is_that_of_the_average(memory):
    """In theory: variance (1 + memory) / (1 - memory) / W of the mean of W steps."""
    unit = 5.0
    x = 3.0 + autoregression(2000, memory)
    found = judged(kept(jnp.asarray(x, jnp.float32)), jnp.full(200, unit, jnp.float32))
    theory = (1 + memory) / (1 - memory) / int(found.steps) / unit**2
    assert bool(found.settled)
    assert int(found.steps) >= 1500
    # 200 series of some 30 blocks: a relative standard error of 2 %, and r is known to 1/sqrt(6000).
    np.testing.assert_allclose(float(found.noise) / 200, theory, rtol=0.2)
    assert float(found.error) == pytest.approx(float(np.sqrt(found.noise / 200)), rel=1e-5)


def test_rhat_sees_the_one_parameter_that_drifts():
    x = autoregression(2000, 0.0)
    assert float(judged(kept(jnp.asarray(x, jnp.float32)), jnp.ones(200)).rhat) < 1.05
    # By 8 units over the run, so by 1 between the halves of the shortest window: sqrt(1 + 1/2).
    x[:, 7] += np.linspace(0.0, 8.0, 2000)
    found = judged(kept(jnp.asarray(x, jnp.float32)), jnp.ones(200))
    assert not bool(found.settled)
    assert 1.15 < float(found.rhat) < 1.3
    assert 1.0 < float(judged(kept(jnp.asarray(x, jnp.float32)), jnp.full(200, 100.0)).rhat) < 1.001


def test_a_window_leaves_out_where_the_run_came_from():
    x = autoregression(2000, 0.0)
    x[:700] += 20.0
    found = judged(kept(jnp.asarray(x, jnp.float32)), jnp.ones(200))
    assert bool(found.settled)
    assert 500 <= int(found.steps) <= 1300


def test_iterates_whose_memory_is_longer_than_a_block_have_not_settled():
    """However small their moves are in units: their standard error cannot be seen."""
    x = 0.01 * autoregression(400, 0.998)
    assert not bool(judged(kept(jnp.asarray(x, jnp.float32)), jnp.ones(200)).settled)


def test_what_is_not_a_number_has_not_settled():
    x = autoregression(400, 0.0, count=3).astype(np.float32)
    x[390, 1] = np.nan
    found = judged(kept(jnp.asarray(x)), jnp.ones(3))
    assert not bool(found.settled)
    assert int(found.steps) < 400


# --- stages --------------------------------------------------------------------------------------------


def ended(stages, square, rate, *, noise=1e-2, steps=1000.0, settled=True, accuracy=0.1):
    verdict = Verdict(
        rhat=jnp.asarray(1.01), error=jnp.asarray(0.01), noise=jnp.asarray(noise),
        steps=jnp.asarray(1000), settled=jnp.asarray(settled),
    )  # fmt: skip
    square, steps, rate = (jnp.asarray(one, jnp.float32) for one in (square, steps, rate))
    return history.after(
        stages, verdict, square, steps, rate, size=100, shrink=0.5, accuracy=accuracy, free=1000.0
    )


@pytest.mark.parametrize("kappa", [0.5, 0.75, 1.0])
def test_the_gap_is_what_the_law_of_the_bias_says(kappa):
    """Averages on a line, 3 g^kappa from the optimum: a distance that five rates are enough to know."""
    stages, rate, place = history.begin(jnp.float32), 0.1, None
    for _ in range(5):
        before, place = place, 3.0 * rate**kappa
        stages, *_ = ended(stages, 0.0 if before is None else (place - before) ** 2, rate, noise=1e-6)
        rate *= 0.5
    rough = 1.6 if kappa < 1 else 1.01
    assert 1 / rough < float(stages.gap) / (0.5 * place**2) < rough


def test_the_run_ends_where_the_bias_is_small_or_the_next_rate_does_not_pay():
    one, last, rough = ended(history.begin(jnp.float32), 9e4, 0.1)
    assert not bool(last), "one average says nothing of its bias"
    assert bool(rough), "and need not be known well"
    _, last, rough = ended(one, 100.0, 0.05)
    assert not bool(last)
    assert bool(rough), "the bias is a thousand times the noise"
    assert bool(ended(one, 0.2, 0.05)[1]), "the bias is a fifth of the noise that is allowed"
    # As much bias as noise, and so 3/4 of it left after a stage that is twice as long: 3/4 . 8/5 > 1.
    noisy, *_ = ended(history.begin(jnp.float32), 9e4, 0.1, noise=1.0)
    for steps, ends in ((4000.0, True), (1000.0, False)):
        _, last, rough = ended(noisy, 3.0, 0.05, noise=1.0, steps=steps, accuracy=0.105)
        assert bool(last) is ends
        assert not bool(rough), "an average that is as noisy as biased is worth more steps"
    # A distance of two noises that is one standard error, sqrt(2/100), larger than expected.
    assert bool(ended(noisy, 2.3, 0.05, noise=1.0, accuracy=0.105)[1])
    # A tenth of a nat is nothing, whatever the accuracy asked for.
    assert bool(ended(one, 0.09, 0.05, noise=1e-4, accuracy=2e-3)[1])
    # What is not known to the accuracy asked for is never the last.
    assert not bool(ended(noisy, 2.3, 0.05, noise=1.0)[1])


def test_stages_that_did_not_settle_are_no_evidence():
    one, *_ = ended(history.begin(jnp.float32), 9e4, 0.1, settled=False)
    two, last, _ = ended(one, 0.01, 0.05)
    assert not bool(last)
    assert np.isnan(two.gap)
    assert not bool(ended(two, 0.01, 0.025, settled=False)[1])
    assert bool(ended(two, 0.01, 0.025)[1])


# --- runs on a Gaussian target, whose optimum and whose noise are known -----------------------------------

SIZE, RUNS, STEPS = 8, 4, 3_600
# Of the target: no unit is like another.
SDS = 10.0 ** np.linspace(-3, 3, SIZE).astype(np.float32)
# Three sds off, and twice as wide.
START = MeanFieldParams(loc=jnp.asarray(3.0 * SDS), log_scale=jnp.asarray(np.log(2.0 * SDS)))


def excess(params: MeanFieldParams) -> np.ndarray:
    """KL(q || target), 0 at the optimum."""
    scale = np.exp(params.log_scale) / SDS
    return np.sum(0.5 * (scale**2 + (params.loc / SDS) ** 2 - 1.0) - np.log(scale), axis=-1)


@functools.partial(jax.jit, static_argnames="rule")
def descend(rule, horizon, seed):
    """Four runs of pathwise gradients from one draw: parameters, state, and each step's rate and place."""

    def loss(params, noise):
        draw = (params.loc + jnp.exp(params.log_scale) * noise) / SDS
        return jnp.sum(0.5 * draw**2 - params.log_scale)

    def step(carry, key):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, jax.random.normal(key, (SIZE,)))
        with jax.numpy_dtype_promotion("standard"):
            updates, after = rule.build(horizon).update(grads, state, params, value=value)
        params = jax.tree.map(jnp.add, params, updates)
        return (params, after), (rule.rate_in(state, horizon), params.loc / SDS)

    def run(key):
        first = START, rule.build(horizon).init(START)
        (params, state), (rates, places) = jax.lax.scan(step, first, jax.random.split(key, STEPS))
        return params, state, rates, places

    return jax.vmap(run)(jax.random.split(jax.random.key(seed), RUNS))


def runs(rule, horizon=20_000, seed=0):
    return jax.tree.map(np.asarray, descend(rule, jnp.asarray(horizon), seed))


# Never known well enough, so that only the budget ends a stage.
ENDLESS = Automatic(accuracy=1e-6)


@pytest.mark.slow
def test_the_noise_of_iterates_is_half_the_rate_in_any_units():
    """In units of q curvature and gradient noise are one, so the variance at rate g is g/2."""
    # A quarter of what is left of 8,000 steps, and of the 6,000 that then are left.
    _, _, rates, places = runs(ENDLESS, horizon=10_667)
    for rate, first, last in ((0.1, 500, 2000), (0.05, 2500, 3500)):
        np.testing.assert_allclose(rates[:, first:last], rate, rtol=1e-6)
        variance = places[:, first:last].var(axis=1)
        # 32 windows of 50 memories of 20 and 40 steps: a standard error of a thirtieth, and Adam's own noise.
        assert 0.8 < variance.mean() / (rate / 2) < 1.3
        by_unit = variance.mean(axis=0)
        assert by_unit.max() < 2.0 * by_unit.min()


@pytest.mark.slow
def test_a_budget_that_ends_first_ends_with_the_rate_going_to_zero():
    params, state, rates, _ = runs(ENDLESS, horizon=2000)
    assert not state.done.any()
    falling = np.arange(500, 0, -1) / 500
    np.testing.assert_allclose(rates[:, 1500:2000], rates[:, 1499:1500] * falling, rtol=1e-4)
    assert excess(params).mean() < 0.1
    found = {name: float(value[0]) for name, value in jax.vmap(ENDLESS.findings)(state).items()}
    words = ENDLESS.words(found)
    assert words.startswith("not done after 3 rates: ")
    assert "has R-hat 1.0" in words


@pytest.mark.slow
def test_accidents_in_short_order_lead_home_with_half_the_rate():
    params, state, *_ = jax.tree.map(lambda leaf: leaf[0], runs(ENDLESS, horizon=10_667))
    once = ENDLESS.accident(params, state, jnp.asarray(1.0))
    np.testing.assert_array_equal(once[0].loc, params.loc)
    assert float(once[1].rate) == state.rate
    back, twice = ENDLESS.accident(params, state, jnp.asarray(0.5))
    np.testing.assert_array_equal(np.concatenate([back.loc, back.log_scale]), state.home)
    assert np.abs(back.loc - params.loc).max() > 0
    assert float(twice.rate) == 0.5 * state.rate
    assert int(twice.windows.full) == 0


@pytest.mark.parametrize(
    "rate", [1.0, pytest.param(0.1, marks=pytest.mark.slow), pytest.param(3.0, marks=pytest.mark.slow)]
)
def test_it_ends_by_itself_as_close_as_it_says_whatever_the_first_rate(rate):
    rule = Automatic(rate=rate)
    params, state, rates, places = runs(rule, seed=1)
    assert state.done.all()
    assert state.count.max() < 3000
    assert state.rate.max() <= 0.25
    # Sixteen parameters with errors of 0.05; and a bias that may be two standard errors of a distance of two
    # such noises, or a tenth of a nat.
    noise = 2 * SIZE * 0.05**2
    bias = 2.0 * np.sqrt(2.0 / (2 * SIZE)) * 2.0 * noise
    assert excess(params).mean() < 0.5 * (noise + max(bias, 0.1))
    assert excess(params).mean() < 2.0 * state.stages.gap.mean()
    # What is done stays as it is to the last bit.
    end = state.count.max()
    np.testing.assert_array_equal(rates[:, end:], 0.0)
    np.testing.assert_array_equal(places[:, end:], np.broadcast_to(places[:, -1:], places[:, end:].shape))
    found = {name: float(value[0]) for name, value in jax.vmap(rule.findings)(state).items()}
    assert found["done"] == 1.0
    assert found["rhat"] < 1.1
    assert found["mcse"] < 0.05
    assert rule.words(found).startswith("done after ")
    assert "has R-hat 1.0" in rule.words(found)
    assert "nats below this family's best" in rule.words(found)


# --- where it does not belong ----------------------------------------------------------------------------


def test_natural_gradients_need_no_rate_and_are_refused():
    natural = Objective(model=Mixture(), family=Conjugate(), estimator=Natural())
    with pytest.raises(SpecError, match="optimizer must be another than 'automatic' for natural"):
        plan(natural, Automatic(), Train(), None, rows=1000)


@pytest.mark.parametrize("family", ["meanfield", "blocks", "lowrank", "fullrank"])
def test_units_are_those_of_q(family):
    """A location's is its scale, and 1/sqrt(2) that of a log scale; nothing else has one."""
    scale = {"a": jnp.asarray([[0.1, 3.0]]), "b": jnp.asarray([20.0])}
    guess = Guess(loc=jax.tree.map(jnp.zeros_like, scale), scale=scale, conjugate=None)
    params = FAMILIES[family]().init(Mixture(), guess)
    found = windows.units(params)
    chex.assert_trees_all_close(found.loc, scale, rtol=1e-6)
    chex.assert_trees_all_close(found.log_scale, jax.tree.map(lambda s: jnp.full_like(s, 0.5**0.5), scale))
    rest = {name: value for name, value in vars(found).items() if name not in ("loc", "log_scale")}
    assert all((np.asarray(leaf) == 1.0).all() for leaf in jax.tree.leaves(rest))


def test_the_budget_is_its_own_unless_steps_are_limited():
    objective = Objective(model=Mixture(), family=vigmm.MeanField(), estimator=vigmm.Pathwise())
    _, config = plan(objective, Automatic(steps=7_000), Train(), None, rows=1000)
    assert config.num_steps(1) == 7_000
    _, config = plan(objective, Automatic(), Train(max_steps=500), None, rows=1000)
    assert config.num_steps(1) == 500
    _, config = plan(objective, Automatic(steps=7_000), Train(passes=20.0), None, rows=10**7)
    assert config.num_steps(1000) == 20_000


@pytest.mark.parametrize(
    "bad", [{"rate": 0.0}, {"shrink": 1.0}, {"accuracy": float("nan")}, {"rhat": 1.0}, {"window": 10}]
)
def test_bad_values_are_refused(bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        Automatic(**bad)


# --- a mixture -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_mixture_whose_first_rate_is_ten_times_too_large_ends_where_adam_does():
    """400 rows of two clusters that overlap; Adam at its usual rate, and at its usual rate times ten."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(400, 2)) + np.repeat([[0.0, 0.0], [3.0, 1.0]], 200, axis=0)

    def fitted(optimizer):
        return vigmm.fit(
            rows, model=Mixture(num_components=2, weights=vigmm.Dirichlet(concentration=1.0)),
            family=vigmm.Blocks(), optimizer=optimizer,
        )  # fmt: skip

    usual, wild = fitted(vigmm.Adam()), fitted(Automatic(rate=1.0))
    assert wild.outcome.status is vigmm.Status.CONVERGED
    assert "R-hat 1.0" in wild.outcome.message
    error = 5.0 * np.hypot(usual.elbo.se, wild.elbo.se)
    assert wild.elbo.elbo > usual.elbo.elbo - error
    # Adam's is no more than a fifth of a nat from this family's best, so neither is this one.
    assert float(wild.metrics["gap"][-1]) < 0.2
    assert fitted(vigmm.Adam(rate=0.1, decay="none")).elbo.elbo < wild.elbo.elbo - error
