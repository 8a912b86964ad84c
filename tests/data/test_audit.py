"""The audit of the order of rows: 1 for any random order, large where neighbours are alike."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vigmm.data.arrays import ArraySource
from vigmm.data.audit import shuffle_audit

N = 200_000
RNG = np.random.default_rng(0)
LABELS = np.arange(N) * 20 // N
CLUSTERS = RNG.normal(size=(20, 3)) * 4
SORTED = (RNG.normal(size=(N, 3)) + CLUSTERS[LABELS]).astype(np.float32)


class Counting(ArraySource):
    """Counts the rows that are read."""

    rows = 0

    def __getitem__(self, index):
        found = super().__getitem__(index)
        self.rows += len(found)
        return found


def test_random_order_is_about_one():
    # 64 blocks: a column's effect has mean 1 and standard deviation sqrt(2 / 63); the mean of three columns
    # over ten orders is within 5 standard errors.
    found = [shuffle_audit(ArraySource(np.random.default_rng(i).permutation(SORTED))) for i in range(10)]
    assert np.mean([one.mean for one in found]) == pytest.approx(1, abs=5 * np.sqrt(2 / 63 / 30))
    assert all(one.shuffled and one.mean <= one.effect < 2 for one in found)
    assert str(found[0]).startswith("the rows are well mixed: the means of 64 blocks of 1,024 rows vary ")


def test_sorted_by_cluster_is_hundreds():
    source = Counting(SORTED, columns=("a", "b", "c"))
    found = shuffle_audit(source)
    assert source.rows == 64 * 1024, "no more rows are read than was said"
    # All of a block but a few are of one cluster: the effect is the block's length times the share of the
    # variance that is between clusters.
    between = CLUSTERS.var(axis=0)
    expected = 1024 * between / (between + 1)
    assert found.effect == pytest.approx(expected.max(), rel=0.2)
    assert found.mean == pytest.approx(expected.mean(), rel=0.2)
    assert found.column == "abc"[int(expected.argmax())]
    assert not found.shuffled
    assert "shuffle them once with vigmm shuffle" in str(found)
    assert "is worth 1 random rows" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["effect"] == found.effect


def test_one_ordered_column_is_found():
    rows = np.random.default_rng(1).normal(size=(N, 8))
    rows[:, 5] = np.sort(rows[:, 5])
    found = shuffle_audit(ArraySource(rows))
    assert found.column == "x5"
    assert found.effect == pytest.approx(1024, rel=0.1)


def test_blocks_of_files_of_one_cluster_each_are_found():
    mixed = SORTED.reshape(20, -1, 3)
    within = np.concatenate([np.random.default_rng(2).permutation(part) for part in mixed])
    assert shuffle_audit(ArraySource(within)).effect > 500


def test_far_from_zero_and_heavy_tails_and_gaps():
    rng = np.random.default_rng(3)
    rows = np.column_stack(
        [rng.normal(size=N) * 0.01 + 1e6, rng.standard_cauchy(N), np.full(N, 3.3), rng.normal(size=N)]
    )
    rows[rng.random(N) < 0.3, 3] = np.nan
    rows[7, 3] = np.inf
    found = shuffle_audit(ArraySource(rows))
    assert found.shuffled
    assert found.mean == pytest.approx(1, abs=0.5)
    rows[:, 0] = np.sort(rows[:, 0])
    assert shuffle_audit(ArraySource(rows)).column == "x0"
    assert shuffle_audit(ArraySource(np.full((N, 1), np.nan))).effect == 1


@pytest.mark.parametrize("rows", [2, 63, 64, 100, 1000, 65_537])
def test_any_number_of_rows(rows):
    rng = np.random.default_rng(4)
    assert shuffle_audit(ArraySource(rng.normal(size=(rows, 2)))).shuffled
    ordered = shuffle_audit(ArraySource(np.arange(float(rows))[:, None]))
    assert ordered.shuffled is (rows < 64), ordered
    if rows < 64:
        assert str(ordered) == "too few rows for their order to matter"
