"""Streams: a pass is exact, its order follows from the key and the step, and held-out rows weigh nothing."""

from __future__ import annotations

import threading

import jax
import numpy as np
import pytest

from vigmm.core import rng
from vigmm.core.errors import DataError
from vigmm.data.arrays import ArraySource
from vigmm.data.moments import Standardizer
from vigmm.data.sampler import Minibatch, Rows
from vigmm.data.sources import DataFile
from vigmm.data.stream import Stream, block_ends

N, DIM = 1_003, 2
X = np.random.default_rng(0).normal(size=(N, DIM)) * [1.0, 30.0] + [5.0, -2.0]
WEIGHT = np.random.default_rng(1).uniform(0.0, 3.0, size=N)
HELD = np.sort(np.random.default_rng(2).choice(N, 40, replace=False))
STANDARD = Standardizer(center=np.array([5.0, -2.0]), scale=np.array([1.0, 30.0]))
SAMPLER = Minibatch(32)
PICK = jax.jit(SAMPLER.pick)


class InPieces:
    """A source that says where its pieces end, and counts the threads that read it."""

    def __init__(self, source: ArraySource, ends: list[int]) -> None:
        self._source, self.piece_ends = source, np.array(ends)
        self.name, self.dim, self.dtype, self.columns = source.name, source.dim, source.dtype, source.columns
        self.threads: set[str] = set()

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        self.threads.add(threading.current_thread().name)
        return self._source[index]

    def fingerprint(self):
        return self._source.fingerprint()


def stream(source=None, *, portion=256, **options) -> Stream:
    source = ArraySource(X) if source is None else source
    return Stream(source, STANDARD, np.dtype("float32"), portion, **options)


def a_pass(made: Stream, key, first: int = 0) -> list[Rows]:
    """The batches of one pass, from step `first` on."""
    found = []
    with made.feed(SAMPLER, rng.stream(key, "blocks")) as feed:
        for step in range(first, first + feed.steps_per_pass):
            portion = feed.at(step)
            assert step < portion.until
            found.append(PICK(portion.rows, rng.stream(key, "batches"), step))
    return found


def counts(batches: list[Rows]) -> np.ndarray:
    """Mean over a pass of the weight of each row of X, which is found by its first column."""
    x = np.concatenate([np.asarray(one.x) for one in batches]).astype(np.float64)
    weight = np.concatenate([np.asarray(one.weight) for one in batches]).astype(np.float64)
    order = np.argsort(X[:, 0])
    at = np.searchsorted((X[order, 0] + X[np.roll(order, -1), 0])[:-1] / 2, x[:, 0] + 5.0)
    total = np.zeros(N)
    np.add.at(total, order[at], weight)
    return total / len(batches)


@pytest.mark.parametrize("portion", [256, 250, 2_000])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_pass_of_weighted_batches_sums_exactly_to_all_rows(portion, weighted):
    weight = WEIGHT if weighted else None
    expected = np.where(np.isin(np.arange(N), HELD), 0.0, WEIGHT if weighted else 1.0)
    made = stream(portion=portion, weight=weight, without=HELD)
    found = counts(a_pass(made, rng.root_key(3)))
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    np.testing.assert_allclose(made.total_weight(), expected.sum(), rtol=1e-12)


def test_pieces_that_are_read_whole_are_shuffled_whole():
    ends = [100, 101, 350, 700, 1_003]
    source = InPieces(ArraySource(X), ends)
    np.testing.assert_array_equal(block_ends(source, 256), ends)
    np.testing.assert_allclose(counts(a_pass(stream(source), rng.root_key(3))), 1.0, rtol=2e-6)
    assert source.threads, "nothing was read"
    assert all(name.startswith("vigmm-read") for name in source.threads)


def test_the_order_depends_on_the_key_and_the_step_only():
    made, key = stream(), rng.root_key(5)
    whole = a_pass(made, key)
    resumed = a_pass(made, key, first=17)[: len(whole) - 17]
    for one, other in zip(whole[17:], resumed, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.weight, other.weight)
    second = a_pass(made, key, first=len(whole))
    assert not np.array_equal(second[0].x, whole[0].x)
    assert not np.array_equal(a_pass(made, rng.root_key(6))[0].x, whole[0].x)


def test_without_reshuffling_every_pass_has_the_same_batches():
    sampler, made, key = Minibatch(32, reshuffle=False), stream(), rng.root_key(5)
    with made.feed(sampler, key) as feed:
        length = feed.steps_per_pass
        picked = [
            np.asarray(sampler.pick(feed.at(step).rows, key, step).x)
            for step in (3, 3 + length, 3 + 2 * length)
        ]
    np.testing.assert_array_equal(picked[0], picked[1])
    np.testing.assert_array_equal(picked[0], picked[2])


def test_rows_of_sorted_data_are_mixed_within_a_portion():
    """Of data in order, a batch holds rows from all over, not a run of neighbours."""
    source = ArraySource(np.stack([np.arange(40_000.0)] * 2, axis=1))
    made = Stream(source, Standardizer.identity(2), np.dtype("float32"), 20_000)
    with made.feed(SAMPLER, rng.root_key(0)) as feed:
        batch = PICK(feed.at(0).rows, rng.root_key(1), 0)
    spread = np.diff(np.sort(np.asarray(batch.x)[:, 0]))
    # 32 of 40,000 uniform rows: gaps of 1,250 on average; of a run of neighbours all would be one block's.
    assert np.asarray(batch.x)[:, 0].std() == pytest.approx(40_000 / 12**0.5, rel=0.35)
    assert np.mean(spread) > 900


def test_pieces_cover_all_rows_in_order_with_one_shape():
    made = stream(weight=WEIGHT, without=HELD)
    pieces = list(made.pieces())
    assert {piece.x.shape for piece in pieces} == {(251, 2)}
    x = np.concatenate([np.asarray(piece.x) for piece in pieces])[:N]
    weight = np.concatenate([np.asarray(piece.weight) for piece in pieces])
    np.testing.assert_allclose(x, STANDARD.forward(X), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(weight[:N], np.where(np.isin(np.arange(N), HELD), 0, WEIGHT), rtol=1e-6)
    assert not weight[N:].any()


def test_what_is_missing_is_kept_or_filled():
    x = X.copy()
    x[7, 1] = np.nan
    made = stream(ArraySource(x), missing=True)
    assert np.isnan(np.concatenate([np.asarray(piece.x) for piece in made.pieces()])).sum() == 1
    filled = np.concatenate([np.asarray(piece.x) for piece in made.filled().pieces()])
    assert filled[7, 1] == 0.0


def test_float64_survives_the_readers_thread():
    with jax.enable_x64(True):
        made = Stream(ArraySource(X), STANDARD, np.dtype("float64"), 256)
        with made.feed(SAMPLER, rng.root_key(0)) as feed:
            assert feed.at(0).rows.x.dtype == np.float64


def test_an_error_of_the_reader_reaches_the_run():
    x = X.copy()
    x[900, 1] = np.inf
    with pytest.raises(DataError, match="row 900"):
        a_pass(stream(ArraySource(x)), rng.root_key(0))


def test_a_row_group_is_the_block_of_a_parquet_file(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1]}), path, row_group_size=300)
    source = DataFile(str(path)).open()
    np.testing.assert_array_equal(block_ends(source, 256), [300, 600, 900, 1_003])
