"""Bins, extremes, merge tree, contrasts and traces, each against a slower or another way to the same."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from vigmm.report.bins import Counts, axis_of, pack, unpack
from vigmm.report.contrasts import contrast, separation
from vigmm.report.extremes import Best
from vigmm.report.traces import curve
from vigmm.report.tree import merge_tree


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_every_row_is_in_a_bin_or_outside(rng):
    x, y = rng.standard_cauchy(5_000), rng.normal(size=5_000)
    x[::50], y[7] = np.nan, np.inf
    which = rng.integers(0, 3, 5_000)
    counts = Counts(3, axis_of(x, 30), axis_of(y, 20))
    for part in np.array_split(np.arange(5_000), 7):
        counts.add(which[part], counts.x.index(x[part]), counts.y.index(y[part]))
    assert counts.inside.shape == (3, 20, 30)
    np.testing.assert_array_equal(counts.inside.sum(axis=(1, 2)) + counts.outside, np.bincount(which))
    assert 0 < counts.outside.sum() < 200
    # A bin counts the rows between its edges.
    inside = (x >= counts.x.low + 4 * counts.x.width) & (x < counts.x.low + 5 * counts.x.width)
    inside &= (y >= counts.y.low) & (y < counts.y.high)
    assert counts.inside[:, :, 4].sum() == inside.sum()


def test_counts_survive_the_page(rng):
    counts = rng.integers(0, 4, (5, 6, 7)) * rng.integers(0, 10_000_000, (5, 6, 7))
    packed = {"shape": list(counts.shape), **pack(counts)}
    assert packed["planes"] == 4
    np.testing.assert_array_equal(unpack(packed), counts)
    assert pack(np.zeros((2, 3), np.int64))["planes"] == 1


@pytest.mark.parametrize(("step", "points", "most"), [(1.0, 256, 96), (0.1, 24, 96), (250.0, 1000, 40)])
def test_bins_of_a_lattice_hold_equally_many_points(step, points, most):
    values = np.repeat(np.arange(points) * step + 3.0, 2)
    axis = axis_of(values, most)
    held = np.bincount(axis.index(values), minlength=axis.count)
    assert axis.count <= most
    # Beyond an empty margin on both sides, all bins but the last are equally full.
    assert held[0] == held[-1] == 0
    full = held[held > 0]
    assert len(set(full[:-1].tolist())) == 1
    assert 0 < full[-1] <= full[0]
    assert np.max(np.bincount(axis_of(values, 10**6).index(values))) == 2


def test_axes_of_odd_columns():
    assert axis_of(np.array([]), 10).count == 1
    assert axis_of(np.full(9, np.nan), 10).count == 1
    one = axis_of(np.full(9, 1e6), 10)
    assert one.index(np.array([1e6])).tolist() == [0]


def test_a_gross_outlier_does_not_squash_the_axis(rng):
    values = np.append(rng.normal(size=10_000), 1e9)
    axis = axis_of(values, 50)
    assert axis.high < 10
    assert np.sum(axis.index(values) < 0) <= 30


def test_the_best_of_a_stream_are_the_best_of_all(rng):
    rows = rng.integers(0, 12, (4_000, 2)).astype(float)
    score = rng.normal(size=4_000).round(2)
    first = {}
    for n in np.lexsort((np.arange(4_000), -score)).tolist():
        first.setdefault(tuple(rows[n]), n)
    expected = list(first.values())[:6]
    best = Best(6, 2, extra=1)
    for part in np.array_split(np.arange(4_000), 9):
        best.offer(part, score[part], rows[part], score[part, None])
    assert best.number.tolist() == expected
    np.testing.assert_array_equal(best.rows, rows[expected])
    np.testing.assert_array_equal(best.extra[:, 0], score[expected])


def random_mixture(rng, num=6, dim=3):
    weights = rng.dirichlet(np.ones(num))
    factors = rng.normal(size=(num, dim, dim + 2))
    return weights, 2 * rng.normal(size=(num, dim)), factors @ factors.transpose(0, 2, 1) / 3


def test_the_tree_joins_the_cheapest_pair_first(rng):
    weights, means, covs = random_mixture(rng)

    def price(i, j):
        total = weights[i] + weights[j]
        centre = (weights[i] * means[i] + weights[j] * means[j]) / total
        wide = sum(
            weights[k] / total * (covs[k] + np.outer(means[k] - centre, means[k] - centre)) for k in (i, j)
        )
        logs = [math.log(np.linalg.det(cov)) for cov in (wide, covs[i], covs[j])]
        return 0.5 * (total * logs[0] - weights[i] * logs[1] - weights[j] * logs[2])

    prices = {pair: price(*pair) for pair in itertools.combinations(range(6), 2)}
    tree = merge_tree(weights, means, covs)
    assert len(tree) == 5
    assert {tree[0].first, tree[0].second} == set(min(prices, key=prices.__getitem__))
    assert tree[0].cost == pytest.approx(min(prices.values()))
    assert tree[-1].weight == pytest.approx(1.0)
    used = [k for join in tree for k in (join.first, join.second)]
    assert sorted(used) == list(range(10))
    for join in tree:
        below = [tree[k - 6].height for k in (join.first, join.second) if k >= 6]
        assert join.height >= max([join.cost, *below])


def test_the_cost_of_a_join_bounds_the_divergence(rng):
    """Monte-Carlo KL of the mixture before and after the first join, against equation (1)."""
    weights, means, covs = random_mixture(rng, num=3, dim=2)
    first = merge_tree(weights, means, covs)[0]
    i, j = first.first, first.second
    share = weights[i] / (weights[i] + weights[j])
    apart = means[i] - means[j]
    joined = share * covs[i] + (1 - share) * covs[j] + share * (1 - share) * np.outer(apart, apart)
    other = ({0, 1, 2} - {i, j}).pop()
    after = (
        np.array([weights[other], weights[i] + weights[j]]),
        np.stack([means[other], means[j] + share * apart]),
        np.stack([covs[other], joined]),
    )
    z = rng.choice(3, 20_000, p=weights)
    x = means[z] + np.einsum("nij,nj->ni", np.linalg.cholesky(covs)[z], rng.normal(size=(20_000, 2)))
    ratio = log_density(x, weights, means, covs) - log_density(x, *after)
    assert ratio.mean() <= first.cost + 5 * ratio.std() / math.sqrt(len(ratio))
    assert ratio.mean() > 0


def log_density(x, weights, means, covs):
    parts = []
    for w, m, c in zip(weights, means, covs, strict=True):
        far = np.einsum("ni,ij,nj->n", x - m, np.linalg.inv(c), x - m)
        parts.append(w * np.exp(-0.5 * far) / math.sqrt(np.linalg.det(2 * math.pi * c)))
    return np.log(np.sum(parts, axis=0))


def test_the_tree_knows_no_units(rng):
    weights, means, covs = random_mixture(rng)
    turn = np.array([[1e-6], [1.0], [1e6]]) * rng.normal(size=(3, 3))
    moved = merge_tree(weights, means @ turn.T + 1e3, turn @ covs @ turn.T)
    for a, b in zip(merge_tree(weights, means, covs), moved, strict=True):
        assert (a.first, a.second) == (b.first, b.second)
        assert a.cost == pytest.approx(b.cost, rel=1e-6)


def test_trees_of_few():
    assert merge_tree(np.ones(1), np.zeros((1, 2)), np.eye(2)[None]) == []
    (twins,) = merge_tree(np.full(2, 0.5), np.zeros((2, 2)), np.stack([np.eye(2)] * 2))
    assert twins.cost == pytest.approx(0.0, abs=1e-12)


def test_contrasts_are_those_of_samples(rng):
    weights, means, covs = random_mixture(rng, num=4, dim=2)
    sds = np.sqrt(np.diagonal(covs, axis1=1, axis2=2))
    found = contrast(weights, means, sds)
    rest = weights[1:] / weights[1:].sum()
    centre = rest @ means[1:]
    spread = np.sqrt(rest @ (sds[1:] ** 2 + (means[1:] - centre) ** 2))
    expected = (means[0] - centre) / np.sqrt((sds[0] ** 2 + spread**2) / 2)
    np.testing.assert_allclose(found.difference[0], expected)
    np.testing.assert_allclose(found.ratio[0], sds[0] / spread)
    assert ((found.overlap >= 0) & (found.overlap <= 1)).all()
    assert ((separation(weights, means, sds) > 0) & (separation(weights, means, sds) < 1)).all()


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0])
def test_the_overlap_of_two_gaussians_is_known(apart):
    """Twice the standard normal distribution function at minus half the distance."""
    found = contrast(np.array([0.2, 0.8]), np.array([[0.0], [apart]]) * 5, np.full((2, 1), 5.0))
    expected = math.erfc(apart / 2 / math.sqrt(2))
    # The reach of four standard deviations leaves out less than 1e-4, and 129 points err by as little.
    np.testing.assert_allclose(found.overlap, expected, atol=2e-4)


def test_words_name_what_stands_out():
    means = np.array([[0.0, 0.0], [9.0, 0.1]])
    found = contrast(np.full(2, 0.5), means, np.ones((2, 2)))
    assert found.words(1, ("height", "width")) == "high height (+9.0)"
    assert found.words(0, ("height", "width")) == "low height (−9.0)"
    alone = contrast(np.ones(1), means[:1], np.ones((1, 2)))
    assert alone.words(0, ("height", "width")) == "the only cluster"
    wide = contrast(np.full(2, 0.5), np.zeros((2, 1)), np.array([[5.0], [1.0]]))
    assert wide.words(0, ("height",)) == "wide in height, near the middle of all"


def test_a_thinned_trace_keeps_means_and_extremes(rng):
    y = rng.normal(size=10_007).cumsum()
    made = curve(np.arange(10_007.0), y, most=100)
    assert len(made["x"]) == 100
    assert made["x"][-1] == 10_006
    assert made["min"].min() == y.min()
    assert made["max"].max() == y.max()
    size = np.diff([-1.0, *made["x"]])
    assert np.sum(made["mean"] * size) == pytest.approx(y.sum())
    short = curve(np.arange(5.0), y[:5])
    np.testing.assert_array_equal(short["mean"], y[:5])
