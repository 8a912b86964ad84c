"""k-means seeding and the conjugate start."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.conftest import rows
from vigmm.core import rng
from vigmm.families import Conjugate, MeanField, guess
from vigmm.train import KMeansStart
from vigmm.train.kmeans import kmeans


def inertia(x, means):
    return ((x[:, None] - np.asarray(means)[None]) ** 2).sum(-1).min(1).sum()


def test_kmeans_matches_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    x = rows(0)
    ones = jnp.ones(len(x), jnp.float32)
    labels, means = kmeans(jnp.asarray(x), ones, rng.root_key(0), num_clusters=3, iterations=20)
    reference = cluster.KMeans(3, n_init=10, random_state=0).fit(x)
    assert inertia(x, means) <= reference.inertia_ * (1 + 1e-4)
    assert np.bincount(np.asarray(labels), minlength=3).min() > 100


def test_rows_of_weight_zero_are_never_seeds_and_count_nothing():
    x = np.concatenate([rows(0), np.full((50, 2), 1e3, np.float32)])
    weight = jnp.asarray(np.r_[np.ones(600), np.zeros(50)], jnp.float32)
    _, means = kmeans(jnp.asarray(x), weight, rng.root_key(0), num_clusters=4, iterations=10)
    assert np.abs(np.asarray(means)).max() < 5


def test_fewer_distinct_rows_than_clusters_is_no_problem():
    x = jnp.asarray(np.repeat([[0.0, 0.0], [1.0, 1.0]], 20, axis=0), jnp.float32)
    labels, means = kmeans(x, jnp.ones(40, jnp.float32), rng.root_key(0), num_clusters=5, iterations=5)
    assert np.isfinite(np.asarray(means)).all()
    assert len(np.unique(np.asarray(labels))) == 2


def test_the_start_is_sorted_by_size_and_repeats(problem, config):
    make = KMeansStart(rows=300, restarts=2, steps=20)
    arguments = (problem.model, MeanField(), problem.prior, problem.data, rng.root_key(4))
    first = make.first(*arguments, config=config, progress=None)
    again = make.first(*arguments, config=config, progress=None)
    assert np.all(np.diff(np.asarray(first.components.count)) <= 1e-3)
    np.testing.assert_array_equal(np.asarray(first.components.first), np.asarray(again.components.first))


def test_the_start_counts_for_the_whole_data(problem):
    # 300 of 600 rows were used: their statistics are scaled to the whole.
    total = np.asarray(problem.start.components.count - problem.prior.components.mean_precision).sum()
    assert total == pytest.approx(600, rel=1e-4)


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
