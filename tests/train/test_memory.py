"""Memoized statistics: an exact bound of all rows that never falls, ending where coordinate ascent ends."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.test_recovery import broken_component
from vigmm.core import rng
from vigmm.core.errors import SpecError
from vigmm.core.outcome import Status
from vigmm.core.typing import Batch
from vigmm.data.sampler import Minibatch, Rows
from vigmm.estimators import Natural, Objective, Pathwise
from vigmm.families import Conjugate, ConjugateParams, MeanField
from vigmm.models import COVARIANCES, DataScale, DirichletProcess, Gamma, Mixture, NormalWishart, sticks
from vigmm.optim import Memoized, Sgd
from vigmm.train import Train, memory, train
from vigmm.train import step as steps

pytestmark = pytest.mark.usefixtures("x64")

N, BATCHES, LENGTH = 600, 6, 8
# Rounding of sums of 600 terms of a few nats, in float64.
ROUNDING = 1e-9


def table() -> np.ndarray:
    """Three clusters that touch, sorted."""
    draw = np.random.default_rng(0)
    centres = np.repeat([[-1.2, 0.0], [1.2, 0.6], [0.0, -1.2]], N // 3, axis=0)
    return centres + 0.5 * draw.normal(size=(N, 2))


def rows_of(x: np.ndarray) -> Rows:
    return Rows(x=jnp.asarray(x), weight=jnp.ones(len(x), jnp.float64))


@functools.partial(jax.jit, static_argnames="objective")
def from_responsibilities(objective: Objective, prior: Any, data: Rows, resp: Any) -> ConjugateParams:
    """prior + statistics, about the means of the columns."""
    model = objective.model
    counts = jnp.sum(resp, axis=0)
    centre = jnp.zeros((model.num_components, data.x.shape[1]), jnp.float64)
    components = model.algebra.natural(prior.components, centre)
    empty = ConjugateParams(weights=sticks.update(prior.weights, counts), components=components)
    return Conjugate().target(model, prior, empty, counts, model.algebra.stats(data.x, resp, centre))


@functools.partial(jax.jit, static_argnames="objective")
def tight(objective: Objective, params: Any, prior: Any, data: Rows) -> Any:
    """The bound with the best responsibilities."""
    batch = Batch(x=data.x, weight=data.weight)
    return jax.tree.reduce(jnp.add, objective.value(params, prior, batch, jax.random.key(0)))


@dataclasses.dataclass
class Setting:
    """A problem and its compiled programs."""

    objective: Objective
    prior: Any
    data: Rows
    start: Any

    def begin(self, batches: int = BATCHES, start: Any = None) -> steps.TrainState:
        params = self.start if start is None else start
        return steps.init(self.objective, Memoized(), params, self.prior, rng.root_key(3), batches=batches)

    def run(self, state: steps.TrainState, chunks: int, *, batches: int = BATCHES, data: Rows | None = None):
        """The state after so many chunks of steps, and the ELBO, the bad term and the reset of every step."""
        none = Rows(x=self.data.x[:1], weight=self.data.weight[:1])
        seen = []
        for _ in range(chunks):
            state, metrics, _ = steps.run(
                state, self.prior, data or self.data, none, jnp.asarray(10_000, jnp.int32),
                objective=self.objective, optimizer=Memoized(),
                sampler=Minibatch(N // batches, reshuffle=False), length=LENGTH, num_draws=1,
            )  # fmt: skip
            seen.append([np.asarray(one) for one in (metrics.elbo, metrics.bad, metrics.reset)])
        return state, *map(np.concatenate, zip(*seen, strict=True))

    def bound(self, params: Any) -> float:
        return float(tight(self.objective, params, self.prior, self.data))


def setting(covariance: str = "full", **model: Any) -> Setting:
    mixture = Mixture(num_components=3, covariance=COVARIANCES[covariance](), **model)
    scale = DataScale(mean=np.zeros(2), cov=np.eye(2), center=np.zeros(2), scale=np.ones(2))
    prior = mixture.build_prior(scale, dtype=jnp.float64)
    objective = Objective(model=mixture, family=Conjugate(), estimator=Natural())
    data = rows_of(table())
    resp = np.random.default_rng(1).dirichlet(np.ones(3), size=N)
    return Setting(objective, prior, data, from_responsibilities(objective, prior, data, jnp.asarray(resp)))


@pytest.fixture(scope="module")
def inferred() -> Setting:
    """With an inferred concentration, whose posterior is not linear in the counts, and an inferred factor."""
    common = NormalWishart(hyper=Gamma(shape=2.0, rate=2.0))
    with jax.enable_x64(True):
        return setting(weights=DirichletProcess(hyper=Gamma()), prior=common)


@pytest.fixture(scope="module")
def run(inferred: Setting):
    """50 passes of 6 steps (a little less): the last state and the ELBO of every step."""
    with jax.enable_x64(True):
        state, elbo, _, _ = inferred.run(inferred.begin(), 37)
        return state, elbo


@pytest.fixture(scope="module")
def ascent(inferred: Setting):
    """Coordinate ascent from the same start: one batch, for which there is no memory."""
    with jax.enable_x64(True):
        state = inferred.begin(1)
        assert state.memory is None
        state, elbo, _, _ = inferred.run(state, 37, batches=1)
        return state, elbo


def test_the_bound_never_falls_once_every_batch_was_read(run):
    _, elbo = run
    assert np.diff(elbo[BATCHES - 1 :]).min() > -ROUNDING
    assert elbo[-1] > elbo[BATCHES - 1] + 1.0


def test_the_end_of_a_pass_is_a_bound_of_all_rows(inferred, run):
    """It lies below that with the best responsibilities, and reaches it where nothing moves any more."""
    state = inferred.begin()
    state, elbo, _, _ = inferred.run(state, 1)
    # The metric is at the parameters before the step: this one is below them.
    assert elbo[-1] < inferred.bound(state.params)
    final, trace = run
    np.testing.assert_allclose(inferred.bound(final.params), trace[-1], rtol=1e-10)


def test_it_ends_where_coordinate_ascent_ends_in_fewer_passes(run, ascent):
    memoized, full = run[1], ascent[1]
    np.testing.assert_allclose(memoized[-1], full[-1], rtol=1e-8)
    top = max(memoized[-1], full[-1])

    def passes(at_the_end_of_each: np.ndarray) -> int:
        return int(np.argmax(at_the_end_of_each > top - 1e-6 * N)) + 1

    # 41 passes against 70, to within 1e-6 nats per row.
    assert passes(full) > 1.5 * passes(memoized[BATCHES - 1 :: BATCHES])


def test_one_remembered_batch_is_coordinate_ascent(inferred):
    """What a memory makes of the estimate from all rows is that estimate."""
    batch = Batch(x=inferred.data.x, weight=inferred.data.weight)

    @jax.jit
    def both(params, prior):
        estimate = inferred.objective.estimate(params, prior, batch, jax.random.key(0))
        kept = memory.begin(inferred.objective, params, prior, 1)
        return estimate, memory.recall(inferred.objective, kept, params, prior, estimate, jnp.asarray(5))[0]

    for one, other in zip(*map(jax.tree.leaves, both(inferred.start, inferred.prior)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-11)


def test_a_run_goes_on_from_the_middle_of_a_pass(inferred):
    state, elbo, _, _ = inferred.run(inferred.begin(), 3)
    resumed, first, _, _ = inferred.run(inferred.begin(), 1)
    assert int(resumed.step) % BATCHES == 2
    # Through the host, as a checkpoint would.
    frozen = jax.tree.map(np.asarray, dataclasses.replace(resumed, key=jax.random.key_data(resumed.key)))
    thawed = jax.tree.map(jnp.asarray, frozen)
    thawed = dataclasses.replace(thawed, key=jax.random.wrap_key_data(thawed.key))
    resumed, rest, _, _ = inferred.run(thawed, 2)
    np.testing.assert_array_equal(np.concatenate([first, rest]), elbo)
    for one, other in zip(*(jax.tree.leaves((s.params, s.memory)) for s in (state, resumed)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_order_of_the_rows_does_not_matter(inferred, run):
    """The data are sorted by cluster; here they are not."""
    mixed = rows_of(table()[np.random.default_rng(2).permutation(N)])
    state, elbo, _, _ = inferred.run(inferred.begin(), 37, data=mixed)
    np.testing.assert_allclose(elbo[-1], run[1][-1], rtol=1e-8)
    np.testing.assert_allclose(inferred.bound(state.params), elbo[-1], rtol=1e-10)


def test_a_step_that_is_undone_leaves_the_memory_as_it_was(inferred, run):
    state, before, _, _ = inferred.run(inferred.begin(), 1)
    poisoned = dataclasses.replace(inferred.data, x=inferred.data.x.at[5, 0].set(jnp.nan))
    state, during, bad, reset = inferred.run(state, 1, data=poisoned)
    state, after, _, _ = inferred.run(state, 35)
    assert 1 <= np.sum(bad >= 0) <= 2
    assert reset.max() == -1
    good = np.concatenate([before[BATCHES - 1 :], during[bad < 0], after])
    assert np.diff(good).min() > -ROUNDING
    np.testing.assert_allclose(after[-1], run[1][-1], rtol=1e-8)


def test_a_component_that_is_reset_is_emptied_in_the_memory(inferred):
    wrong = broken_component(inferred.start, 2)
    state, elbo, bad, reset = inferred.run(inferred.begin(start=wrong), 37)
    assert np.flatnonzero(bad >= 0).tolist() == [0]
    assert reset[0] == 2
    # Every batch was read again, the one of the bad step last.
    assert np.diff(elbo[BATCHES:]).min() > -ROUNDING
    np.testing.assert_allclose(inferred.bound(state.params), elbo[-1], rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("covariance", ["tied", "diag", "tied_spherical"])
def test_the_bound_never_falls_for_any_structure(covariance):
    made = setting(covariance)
    state, elbo, _, _ = made.run(made.begin(), 30)
    assert np.diff(elbo[BATCHES - 1 :]).min() > -ROUNDING
    # Spherical components need not have come to rest: below the best bound, by less than a nat.
    assert -ROUNDING < made.bound(state.params) - elbo[-1] < 1.0


def test_only_the_natural_estimator_has_statistics_to_remember():
    objective = Objective(model=Mixture(num_components=2), family=MeanField(), estimator=Pathwise())
    with pytest.raises(SpecError, match="optimizer must be another than 'memoized'"):
        memory.check(objective, Memoized())
    memory.check(objective, Sgd())


def test_a_run_of_the_loop_ends_by_the_rule_without_noise(inferred):
    config = Train(batch_size=100, passes=60, min_steps=1, chunk_steps=LENGTH, num_draws=1)
    none = Rows(x=inferred.data.x[:1], weight=inferred.data.weight[:1])
    result = train(
        inferred.objective, Memoized(), inferred.start, inferred.prior, inferred.data, none,
        rng.root_key(3), config=config,
    )  # fmt: skip
    assert result.outcome.status is Status.CONVERGED
    assert "for 2 passes" in result.outcome.message
    assert result.state.memory.seen.shape == (BATCHES,)
