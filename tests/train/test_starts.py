"""Where a run starts: seeds, the contest of restarts, and starts that are told where clusters are."""

from __future__ import annotations

import dataclasses
import functools
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.conftest import rows
from vigmm.config.load import read_job
from vigmm.core import rng
from vigmm.core.errors import ConfigError, DataError, SpecError
from vigmm.core.specdict import to_dict
from vigmm.core.typing import Batch
from vigmm.data.sampler import Rows
from vigmm.estimators import Natural
from vigmm.families import Conjugate, ConjugateParams, MeanField, guess
from vigmm.models import COVARIANCES, DataScale, Mixture
from vigmm.train import (
    STARTS,
    KMeansStart,
    LabelsStart,
    MeansStart,
    ModelStart,
    Origin,
    RandomStart,
    Train,
    placement,
    settle,
)
from vigmm.train.starts import contest as contests
from vigmm.train.starts.contest import Contest, _held, _made, compete, num_lanes, rounds
from vigmm.train.starts.kmeans import Partition
from vigmm.train.starts.seeding import kmeans, lloyd, parallel_seeds, plus_plus_seeds, random_seeds

CENTRES = np.array([[-2.0, 0.0], [2.0, 1.0], [0.0, -2.0]])
ONES = jnp.ones(600, jnp.float32)


def truth() -> np.ndarray:
    """The cluster of each row of the problem: they are 5 sd apart, so the nearest centre."""
    return ((rows(0)[:, None] - CENTRES[None]) ** 2).sum(-1).argmin(1)


def counts_of(problem, params) -> np.ndarray:
    return np.asarray(params.components.count - problem.prior.components.mean_precision)


def locs_of(problem, params) -> np.ndarray:
    return np.asarray(Conjugate().posterior(problem.model, params).components.loc)


@functools.partial(jax.jit, static_argnames="model")
def elbo(model, params, prior, data):
    batch = Batch(x=data.x, weight=data.weight)
    terms = Natural().value(model, Conjugate(), params, prior, batch, rng.root_key(0))
    return jax.tree.reduce(jnp.add, terms)


def assert_same(one, two):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


# Seeds --------------------------------------------------------------------------------------


def inertia(x, means):
    return ((x[:, None] - np.asarray(means)[None]) ** 2).sum(-1).min(1).sum()


def test_kmeans_matches_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    x = rows(0)
    labels, means = kmeans(jnp.asarray(x), ONES, rng.root_key(0), num_clusters=3, iterations=20)
    reference = cluster.KMeans(3, n_init=10, random_state=0).fit(x)
    assert inertia(x, means) <= reference.inertia_ * (1 + 1e-4)
    assert np.bincount(np.asarray(labels), minlength=3).min() > 100


@pytest.mark.parametrize("choose", [plus_plus_seeds, parallel_seeds, random_seeds])
def test_copies_and_rows_of_weight_zero_are_no_problem(choose):
    # Two distinct rows for 50 clusters, and far rows that count nothing and are never seeds.
    x = np.repeat([[0.0, 0.0], [1.0, 1.0], [1e3, 1e3]], [20, 20, 9], axis=0)
    x, weight = jnp.asarray(x, jnp.float32), jnp.asarray(np.r_[np.ones(40), np.zeros(9)], jnp.float32)
    seeds = choose(x, weight, rng.root_key(0), num_clusters=50)
    labels, means = lloyd(x, weight, seeds, iterations=5)
    assert np.abs(np.asarray(seeds)).max() <= 1
    assert np.abs(np.asarray(means)).max() <= 1
    assert len(np.unique(np.asarray(labels)[:40])) == 2


def test_random_seeds_are_different_rows_drawn_by_weight():
    x, weight = jnp.arange(6.0)[:, None], jnp.asarray([0.0, 1.0, 1.0, 1.0, 1.0, 4.0])
    draw = jax.vmap(lambda key: random_seeds(x, weight, key, num_clusters=2))
    found = np.asarray(draw(jax.random.split(rng.root_key(0), 2000)))[:, :, 0]
    assert (found[:, 0] != found[:, 1]).all()
    # P(row 5 is among the two) = 1/2 + 4/8 * 4/7.
    share, want = (found == 5).any(1).mean(), 0.5 + 2 / 7
    assert abs(share - want) < 5 * np.sqrt(want * (1 - want) / 2000)


@pytest.mark.slow
def test_parallel_seeds_are_as_good_as_those_taken_in_turn():
    draw = np.random.default_rng(0)
    x = draw.uniform(-10, 10, size=(40, 2))[draw.integers(40, size=1500)] + 0.3 * draw.normal(size=(1500, 2))
    x, weight = jnp.asarray(x, jnp.float32), jnp.ones(1500, jnp.float32)
    keys = jax.random.split(rng.root_key(0), 24)

    def potentials(choose):
        def one(key):
            _, means = lloyd(x, weight, choose(x, weight, key, num_clusters=40), iterations=5)
            return jnp.sum(jnp.min(jnp.sum((x[:, None] - means[None]) ** 2, -1), 1))

        return np.asarray(jax.jit(jax.vmap(one))(keys))

    turn, parallel, chance = (potentials(c) for c in (plus_plus_seeds, parallel_seeds, random_seeds))
    se = np.std(parallel - turn, ddof=1) / np.sqrt(len(keys))
    # "A few per cent" is what the seeding promises; the noise of 24 seeds comes on top.
    assert parallel.mean() < 1.05 * turn.mean() + 5 * se
    assert parallel.mean() < 0.8 * chance.mean()


# The contest --------------------------------------------------------------------------------

SMALL = Contest(rows=300, restarts=4, steps=0, batch_size=100)


@functools.partial(jax.jit, static_argnames=("model", "lanes"))
def stand(model, prior, sample, first, keys, lanes):
    return compete(SMALL, model, prior, sample, first, keys, lanes=lanes)


@pytest.fixture(scope="module")
def field(problem):
    """Four contenders: a random partition, NaN, the truth, and the truth with two clusters mixed."""
    draw = np.random.default_rng(1)
    merged = np.where(truth() == 2, draw.integers(1, 3, size=600), truth())
    made = [
        LabelsStart(labels=labels).first(problem.model, problem.prior, problem.data, rng.root_key(0)).params
        for labels in (draw.integers(4, size=600), truth(), truth(), merged)
    ]
    made[1] = jax.tree.map(lambda leaf: leaf * jnp.nan, made[1])
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)


@pytest.mark.parametrize("lanes", [1, 3])
def test_halving_keeps_the_best_and_what_is_not_finite_never_wins(problem, field, lanes):
    keys = jax.random.split(rng.root_key(0), 4)
    sample = Batch(x=problem.data.x, weight=problem.data.weight)
    standing = stand(problem.model, problem.prior, sample, field, keys, lanes)
    bounds = np.asarray(standing.elbo)
    assert np.all(np.diff(bounds[:3]) < 0)
    assert not np.isfinite(bounds[3])
    assert_same(
        jax.tree.map(lambda leaf: leaf[0], standing.params), jax.tree.map(lambda leaf: leaf[2], field)
    )
    want = float(elbo(problem.model, jax.tree.map(lambda leaf: leaf[2], field), problem.prior, problem.data))
    assert bounds[0] == pytest.approx(want, rel=1e-5)
    # The winner's partition is the truth, whatever its components are called.
    table = np.zeros((4, 3), int)
    np.add.at(table, (np.asarray(standing.labels[0]), truth()), 1)
    assert (table.max(0) == table.sum(0)).all()


def test_rounds_halve():
    assert [rounds(r) for r in (1, 2, 3, 8, 9)] == [(1,), (2,), (3, 2), (8, 4, 2), (9, 5, 3, 2)]
    assert num_lanes(SMALL, 10) in (1, 4)


@pytest.mark.slow
def test_devices_share_the_contest_and_come_to_the_same_result(problem, monkeypatch):
    devices = 3  # five contenders do not divide into three
    start = KMeansStart(rows=300, restarts=5, steps=30, batch_size=100)
    arguments = (problem.model, problem.prior, problem.data, rng.root_key(4))
    one = start.first(*arguments)
    widths = []

    def watched(function, mesh):
        widths.append(mesh.size)
        return placement.abreast(function, mesh)

    monkeypatch.setattr(contests, "abreast", watched)
    many = start.first(*arguments, Origin(mesh=placement.over_devices(devices).own))
    assert set(widths) == {devices}, "the contenders were not spread"
    np.testing.assert_allclose(
        many.notes["standardised_elbo_per_row"], one.notes["standardised_elbo_per_row"], rtol=2e-6
    )
    assert many.notes["agreement"] == one.notes["agreement"]
    for found, want in zip(jax.tree.leaves(many.params), jax.tree.leaves(one.params), strict=True):
        assert len(found.devices()) == 1
        np.testing.assert_allclose(found, want, rtol=2e-5, atol=2e-5)


def test_the_cost_does_not_depend_on_the_number_of_rows(problem):
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    contest, partition = Contest(rows=300, restarts=2, steps=20, batch_size=512), Partition(True, 10)
    data = Rows(x=shape((10_000_000, 2)), weight=shape((10_000_000,)))

    def whole(prior, data, key):
        sample, first = _made(contest, partition, problem.model, prior, data, key, lanes=1, mesh=None)
        return _held(contest, problem.model, prior, sample, first, key, lanes=1, mesh=None)

    traced = jax.make_jaxpr(whole)(problem.prior, data, rng.root_key(0))
    shapes = [var.aval.shape for eqn in _equations(traced.jaxpr) for var in eqn.outvars]
    # Everything that is computed has the size of the subsample, at most.
    assert max(int(np.prod(s)) for s in shapes) <= 300 * 4 * 8


def _equations(jaxpr):
    for eqn in jaxpr.eqns:
        inner = [sub for value in eqn.params.values() for sub in _jaxprs(value)]
        if not inner:
            yield eqn
        for sub in inner:
            yield from _equations(sub)


def _jaxprs(value):
    for one in value if isinstance(value, tuple | list) else (value,):
        if hasattr(one, "jaxpr"):
            yield one.jaxpr
        elif hasattr(one, "eqns"):
            yield one


def test_the_start_is_sorted_by_size_and_repeats(problem):
    make = KMeansStart(rows=300, restarts=2, steps=20)
    first, again = (make.first(problem.model, problem.prior, problem.data, rng.root_key(4)) for _ in "ab")
    assert np.all(np.diff(np.asarray(first.params.components.count)) <= 1e-3)
    assert_same(first.params, again.params)
    assert json.loads(json.dumps(first.notes)) == again.notes
    assert first.notes["rows"] == first.rows_seen == 300
    assert -1 <= first.notes["agreement"] <= 1
    bounds = first.notes["standardised_elbo_per_row"]
    assert len(bounds) == 2
    assert bounds[0] >= bounds[1]
    other = make.first(problem.model, problem.prior, problem.data, rng.root_key(5))
    assert not np.array_equal(
        np.asarray(other.params.components.first), np.asarray(first.params.components.first)
    )


def test_a_random_start_repeats(problem):
    make = RandomStart(rows=300, restarts=1, steps=20)
    first, again = (make.first(problem.model, problem.prior, problem.data, rng.root_key(4)) for _ in "ab")
    assert_same(first.params, again.params)
    assert first.notes["agreement"] is None


def test_the_start_counts_for_the_whole_data(problem):
    # 300 of 600 rows were used: their statistics are scaled to the whole.
    assert counts_of(problem, problem.start).sum() == pytest.approx(600, rel=1e-4)


def test_moment_matched_scales_are_those_of_the_posterior(problem):
    start = guess(problem.model, problem.prior, problem.start, problem.prior)
    params = MeanField().init(problem.model, start)
    counts = np.asarray(Conjugate().posterior(problem.model, problem.start).components.mean_precision)
    scale = np.exp(np.asarray(params.log_scale.components)[:, :2])
    big = counts > 50
    # sd of a mean is about 0.4 / sqrt(N_k) in this data, less where two components share a cluster.
    ratio = scale[big] * np.sqrt(counts[big])[:, None]
    assert ratio.min() > 0.15
    assert ratio.max() < 0.6


# Labels -------------------------------------------------------------------------------------


def test_labels_give_the_statistics_of_their_rows_and_empties_are_the_prior(problem):
    names = np.array([7, 2, 40])[truth()]
    started = LabelsStart(labels=names).first(problem.model, problem.prior, problem.data, rng.root_key(0))
    params, order = started.params, np.argsort(-np.bincount(truth()))
    np.testing.assert_allclose(
        counts_of(problem, params), [*np.bincount(truth())[order], 0], rtol=1e-6, atol=1e-4
    )
    x, kappa = rows(0).astype(float), float(problem.prior.components.mean_precision[0])
    sums = np.stack([x[truth() == k].sum(0) for k in order])
    want = sums / (np.bincount(truth())[order] + kappa)[:, None]
    np.testing.assert_allclose(locs_of(problem, params)[:3], want, rtol=1e-4, atol=1e-5)
    empty = problem.model.algebra.natural(problem.prior.components, problem.prior.components.loc)
    assert_same(*(jax.tree.map(lambda leaf: leaf[3], one) for one in (params.components, empty)))
    # The last stick is for what lies beyond the third component: nothing.
    assert float(params.weights.b[-1]) == float(problem.prior.weights.b[-1])
    assert started.notes == {"clusters": 3, "rows": 600, "unassigned": 0}


def test_rows_without_label_go_where_the_others_say(problem):
    some = truth().copy()
    some[np.random.default_rng(0).random(600) < 0.8] = -1
    started = LabelsStart(labels=some).first(problem.model, problem.prior, problem.data, rng.root_key(0))
    counts = counts_of(problem, started.params)
    # The clusters are far apart: all but a few rows are certain.
    np.testing.assert_allclose(counts[:3], np.sort(np.bincount(truth()))[::-1], atol=6)
    assert started.notes["unassigned"] == (some == -1).sum()
    # No row is lost, none is counted twice.
    assert counts.sum() == pytest.approx(600, rel=1e-5)


def test_labels_are_those_of_the_users_rows(problem):
    index = np.sort(np.random.default_rng(0).permutation(1200)[:600])
    labels = np.full(1200, 3)
    labels[index] = truth()
    make = LabelsStart(labels=labels)
    arguments = (problem.model, problem.prior, problem.data, rng.root_key(0))
    some = make.first(*arguments, Origin(index=index, num_rows=1200))
    assert_same(some.params, LabelsStart(labels=truth()).first(*arguments).params)
    with pytest.raises(DataError, match="1200 labels for 600 rows"):
        make.first(*arguments)


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_labels_come_from_a_file(problem, tmp_path, suffix):
    path = tmp_path / f"labels.{suffix}"
    if suffix == "npy":
        np.save(path, truth())
    else:
        path.write_text("cluster\n" + "\n".join(map(str, truth())) + "\n")
    arguments = (problem.model, problem.prior, problem.data, rng.root_key(0))
    told = LabelsStart(path=str(path)).first(*arguments)
    assert_same(told.params, LabelsStart(labels=truth()).first(*arguments).params)


def test_labels_that_cannot_be_used_are_refused(problem, tmp_path):
    arguments = (problem.model, problem.prior, problem.data, rng.root_key(0))
    with pytest.raises(SpecError, match=r"num_components must be >= 5.*raise it, got 4"):
        LabelsStart(labels=np.arange(600) % 5).first(*arguments)
    with pytest.raises(DataError, match="no row"):
        LabelsStart(labels=np.full(600, -1)).first(*arguments)
    with pytest.raises(DataError, match=r"label of row 1 is 0\.5"):
        LabelsStart(labels=[0, 0.5])
    with pytest.raises(DataError, match="label of row 0 is -2"):
        LabelsStart(labels=[-2])
    for bad in ({}, {"path": "x", "labels": [1]}, {"labels": [[1]]}, {"labels": "abc"}):
        with pytest.raises(SpecError):
            LabelsStart(**bad)
    np.save(tmp_path / "two.npy", np.zeros((600, 2)))
    with pytest.raises(DataError, match="2 columns"):
        LabelsStart(path=str(tmp_path / "two.npy")).first(*arguments)


@pytest.mark.parametrize("name", ["tied", "spherical"])
def test_structures_that_share_have_all_rows(problem, name):
    model = Mixture(num_components=4, covariance=COVARIANCES[name]())
    scale = DataScale(mean=np.zeros(2), cov=2.0 * np.eye(2), center=np.zeros(2), scale=np.ones(2))
    prior = model.build_prior(scale, dtype=jnp.float32)
    start = LabelsStart(labels=truth())
    params = start.first(model, prior, problem.data, rng.root_key(0)).params
    counts = np.asarray(params.components.count - prior.components.mean_precision)
    np.testing.assert_allclose(counts, [*np.sort(np.bincount(truth()))[::-1], 0], atol=1e-3)
    if name == "tied":
        assert float(params.components.dof[0] - prior.components.dof[0]) == pytest.approx(600, rel=1e-5)


# Means --------------------------------------------------------------------------------------


def test_means_are_in_the_units_of_the_data(problem):
    # 1e9 has no digits left in float32: the way back must be that of the origin.
    origin = Origin(center=np.array([1e9, -5.0]), scale=np.array([2.0, 1e-3]))
    means = CENTRES * origin.scale + origin.center
    arguments = (problem.model, problem.prior, problem.data, rng.root_key(0))
    told = MeansStart(means=means).first(*arguments, origin)
    assert_same(told.params, LabelsStart(labels=truth()).first(*arguments).params)
    plain = MeansStart(means=tuple(map(tuple, CENTRES))).first(*arguments)
    assert_same(plain.params, told.params)


def test_a_mean_without_rows_is_empty(problem):
    means = [*CENTRES.tolist(), [50.0, 50.0]]
    params = MeansStart(means=means).first(problem.model, problem.prior, problem.data, rng.root_key(0)).params
    empty = problem.model.algebra.natural(problem.prior.components, problem.prior.components.loc)
    assert_same(*(jax.tree.map(lambda leaf: leaf[3], one) for one in (params.components, empty)))


def test_means_that_cannot_be_used_are_refused(problem):
    arguments = (problem.model, problem.prior, problem.data, rng.root_key(0))
    with pytest.raises(SpecError, match=r"num_components must be >= 5"):
        MeansStart(means=np.zeros((5, 2))).first(*arguments)
    with pytest.raises(DataError, match="3 columns, the data have 2"):
        MeansStart(means=np.zeros((1, 3))).first(*arguments)
    for bad in ([1.0, 2.0], [[1.0], [1.0, 2.0]], [[np.nan]], [], "ab"):
        with pytest.raises(SpecError, match="means must be"):
            MeansStart(means=bad)


# Models -------------------------------------------------------------------------------------


def saved(model, params, prior, center=(0.0, 0.0), scale=(1.0, 1.0), family=None):
    return SimpleNamespace(
        model=model,
        family=family or Conjugate(),
        params=params,
        prior=prior,
        center=np.asarray(center),
        scale=np.asarray(scale),
        columns=("a", "b"),
    )


def test_a_warm_start_never_lowers_the_bound_and_stays_where_a_fit_had_ended(problem):
    params, bounds = problem.start, []
    for _ in range(30):
        bounds.append(float(elbo(problem.model, params, problem.prior, problem.data)))
        start = ModelStart(posterior=saved(problem.model, params, problem.prior))
        params = start.first(problem.model, problem.prior, problem.data, rng.root_key(0)).params
    # float32: the bound is a sum of 600 terms of a few nats, each good to 1e-7, and rounds to 1e-4.
    assert min(np.diff(bounds)) > -5e-3
    assert bounds[-1] - bounds[-2] == pytest.approx(0, abs=5e-3)


def test_a_warm_start_reads_rows_in_the_units_of_the_old_fit(problem):
    # The same rows, standardised otherwise when the old posterior was fitted.
    center, scale = np.array([1.0, -3.0]), np.array([2.0, 0.5])
    old = Rows(x=jnp.asarray((rows(0) - center) / scale, jnp.float32), weight=ONES)
    key, labels = rng.root_key(0), LabelsStart(labels=truth())
    params = labels.first(problem.model, problem.prior, old, key).params
    origin = Origin(center=np.array([10.0, 20.0]), scale=np.array([3.0, 4.0]))
    posterior = saved(
        problem.model, params, problem.prior, center * origin.scale + origin.center, scale * origin.scale
    )
    started = ModelStart(posterior=posterior).first(problem.model, problem.prior, problem.data, key, origin)
    want = labels.first(problem.model, problem.prior, problem.data, key).params
    # Responsibilities are not quite 0 and 1 under the old posterior.
    np.testing.assert_allclose(counts_of(problem, started.params), counts_of(problem, want), atol=2)
    np.testing.assert_allclose(locs_of(problem, started.params)[:3], locs_of(problem, want)[:3], atol=0.05)
    assert started.notes["held"] == pytest.approx(1, abs=1e-5)


def test_a_smaller_model_leaves_empties_and_a_larger_one_is_refused(problem):
    small = Mixture(num_components=3)
    prior = small.build_prior(
        DataScale(mean=np.zeros(2), cov=2.0 * np.eye(2), center=np.zeros(2), scale=np.ones(2)),
        dtype=jnp.float32,
    )
    key = rng.root_key(0)
    params = LabelsStart(labels=truth()).first(small, prior, problem.data, key).params
    start = ModelStart(posterior=saved(small, params, prior))
    params = start.first(problem.model, problem.prior, problem.data, key).params
    empty = problem.model.algebra.natural(problem.prior.components, problem.prior.components.loc)
    assert_same(*(jax.tree.map(lambda leaf: leaf[3], one) for one in (params.components, empty)))
    four = ModelStart(posterior=saved(problem.model, problem.start, problem.prior))
    with pytest.raises(SpecError, match=r"num_components must be >= 4.*raise it, got 3"):
        four.first(small, prior, problem.data, key)
    narrow = Rows(x=problem.data.x[:, :1], weight=problem.data.weight)
    with pytest.raises(DataError, match="fitted on 2 columns, the data have 1"):
        four.first(problem.model, problem.prior, narrow, key)


def test_a_path_needs_someone_who_reads_it(problem):
    arguments = (problem.model, problem.prior, problem.data, rng.root_key(0))
    made = saved(problem.model, problem.start, problem.prior)
    read = ModelStart(path="old").first(*arguments, Origin(load={"old": made}.get))
    assert_same(read.params, ModelStart(posterior=made).first(*arguments).params)
    with pytest.raises(SpecError, match="posterior"):
        ModelStart(path="old").first(*arguments)
    for bad in ({}, {"path": "x", "posterior": made}, {"posterior": 3}):
        with pytest.raises(SpecError):
            ModelStart(**bad)


# The path to other families -----------------------------------------------------------------


def test_settling_goes_on_from_the_start_and_sorts(problem, config):
    go = functools.partial(settle, problem.model, problem.prior, problem.start, problem.data, rng.root_key(0))
    assert go(passes=0, rows_seen=300, config=config) is problem.start
    done = go(passes=1.0, rows_seen=300, config=config)
    assert isinstance(done, ConjugateParams)
    assert np.all(np.diff(counts_of(problem, done)) <= 1e-3)
    before, after = (
        float(elbo(problem.model, params, problem.prior, problem.data)) for params in (problem.start, done)
    )
    assert after > before - 1.0


# Specs --------------------------------------------------------------------------------------

YAML = {
    "kmeans": "{kind: kmeans, restarts: 3}",
    "random": "{kind: random, rows: 500}",
    "labels": "{kind: labels, path: labels.csv}",
    "means": "{kind: means, means: [[1, 2.5], [3, 4e0]]}",
    "model": "{kind: model, path: runs/first}",
}


@pytest.mark.parametrize("name", STARTS)
def test_every_row_is_read_from_yaml(name):
    job = read_job(f"data: {{path: x.npy}}\nstart: {YAML[name]}\n", name="job.yaml")
    assert type(job.start) is STARTS[name]
    assert job.start.passes == 1.0
    hash(job)


def test_a_row_that_lacks_its_path_is_told_so():
    with pytest.raises(ConfigError, match=r"start\.path must be a path, unless labels is given"):
        read_job("data: {path: x.npy}\nstart: labels\n", name="job.yaml")


def test_arrays_are_values_and_are_described():
    array = np.arange(4)
    one, two, other = LabelsStart(labels=array), LabelsStart(labels=[0, 1, 2, 3]), LabelsStart(labels=[0])
    assert (one == two, hash(one) == hash(two), one == other) == (True, True, False)
    array[:] = 9
    assert one.labels.value.tolist() == [0, 1, 2, 3]
    told = json.loads(json.dumps(to_dict(one, STARTS)))
    assert told["labels"]["shape"] == [4]
    assert told["labels"]["fingerprint"].startswith("sha256:")
    assert dataclasses.replace(one, passes=0.0).labels == one.labels
    assert Train() == Train()


@pytest.mark.slow
def test_starts_in_a_fit(tmp_path):
    import vigmm

    draw = np.random.default_rng(0)
    labels = np.arange(400) % 2
    x = draw.normal(size=(400, 2)) * [1.0, 1e-3] + np.array([[0.0, 5.0], [9.0, 5.01]])[labels]
    parts = {
        "model": vigmm.Mixture(num_components=3),
        "train": vigmm.Train(min_steps=50, passes=1),
        "moves": None,
    }
    told = vigmm.fit(x, start=vigmm.LabelsStart(labels=labels), **parts)
    means = vigmm.fit(x, start=vigmm.MeansStart(means=[[0, 5], [9, 5.01]]), **parts)
    assert told.elbo.elbo == pytest.approx(means.elbo.elbo, abs=0.1)
    assert told.manifest["notes"]["start"] == {"clusters": 2, "rows": 380, "unassigned": 0}
    json.dumps(told.manifest)
    told.save(tmp_path)
    warm = vigmm.fit(x, start=vigmm.ModelStart(path=str(tmp_path)), **parts)
    # Rows, split and prior are the same: the first step sees the bound that the fit had ended at.
    assert warm.metrics["elbo"][0] == pytest.approx(told.elbo.elbo, abs=0.1)
    gaussian = vigmm.fit(
        x, family=vigmm.MeanField(), start=vigmm.ModelStart(posterior=told.posterior), **parts
    )
    double = vigmm.fit(x, start=vigmm.ModelStart(posterior=gaussian.posterior), dtype="float64", **parts)
    single = vigmm.fit(x, start=vigmm.ModelStart(posterior=double.posterior), **parts)
    for fit in (gaussian, double, single):
        assert (np.bincount(fit.posterior.predict(x))[:2] == 200).all()
