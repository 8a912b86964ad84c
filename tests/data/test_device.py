"""Rows on the device: precision before the cast, no shared memory, held-out rows, mismatches named."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.core.errors import DataError, SpecError
from vigmm.data.arrays import ArraySource
from vigmm.data.device import holdout_index, holdout_split, to_rows
from vigmm.data.moments import Standardizer, compute_moments

KEY = jax.random.key(3)
ROWS = np.random.default_rng(0).standard_normal((1000, 3))


def test_centred_before_the_cast(dtype: np.dtype) -> None:
    far = ROWS + 1e9
    source = ArraySource(far)
    moments = compute_moments(source)
    data = to_rows(source, Standardizer.from_moments(moments), dtype, chunk=64)
    assert data.x.dtype == data.weight.dtype == dtype
    expected = (far - far.mean(0)) / far.std(0)
    # Spacing of doubles at 1e9 is 1.2e-7, so the mean is known no better; a float32 has 6e-8 of its own.
    np.testing.assert_allclose(np.asarray(data.x, np.float64), expected, atol=5e-7)
    assert np.asarray(data.weight).tolist() == [1.0] * 1000


@pytest.mark.parametrize("chunk", [1, 100, 65_536])
def test_chosen_rows_and_weights(chunk: int) -> None:
    index = np.array([5, 17, 17, 999])
    weight = np.arange(1000.0)
    data = to_rows(
        ArraySource(ROWS), Standardizer.identity(3), np.float32, index=index, weight=weight, chunk=chunk
    )
    np.testing.assert_array_equal(data.x, ROWS[index].astype(np.float32))
    np.testing.assert_array_equal(data.weight, weight[index].astype(np.float32))
    everything = to_rows(ArraySource(ROWS), Standardizer.identity(3), "float32", weight=weight)
    np.testing.assert_array_equal(everything.weight, weight.astype(np.float32))


def test_no_rows_chosen() -> None:
    data = to_rows(ArraySource(ROWS), Standardizer.identity(3), np.float32, index=np.empty(0, np.int64))
    assert (data.x.shape, data.weight.shape) == ((0, 3), (0,))


def test_the_device_array_shares_nothing_with_the_caller() -> None:
    rows = ROWS.astype(np.float32)
    data = to_rows(ArraySource(rows), Standardizer.identity(3), np.float32)
    again = to_rows(ArraySource(rows), Standardizer.identity(3), np.float32)
    before = np.array(data.x)
    rows[:] = -1.0
    np.testing.assert_array_equal(data.x, before)
    np.testing.assert_array_equal(again.x, before)


def test_column_mismatch() -> None:
    with pytest.raises(
        DataError, match=r"new has 3 columns \(x0, x1, x2\), but 2 are expected: give the columns"
    ):
        to_rows(ArraySource(ROWS, name="new"), Standardizer.identity(2), np.float32)


def test_bad_values_are_named_by_their_row_in_the_source() -> None:
    rows = ROWS.copy()
    rows[700, 1] = np.nan
    with pytest.raises(DataError, match="x: row 700, column 'x1' is NaN"):
        to_rows(ArraySource(rows), Standardizer.identity(3), np.float32, chunk=64)
    index = np.array([3, 5, 700])
    with pytest.raises(DataError, match="x: row 700, column 'x1' is NaN"):
        to_rows(ArraySource(rows), Standardizer.identity(3), np.float32, index=index, chunk=2)
    with pytest.raises(DataError, match="x has values too far from the training data for float32"):
        to_rows(ArraySource(ROWS * 1e39), Standardizer.identity(3), np.float32)


@pytest.mark.parametrize("wanted", ["float64", "int32"])
def test_type_must_be_an_enabled_float(wanted: str) -> None:
    with pytest.raises(SpecError, match="dtype must be a float type that JAX has enabled"):
        to_rows(ArraySource(ROWS), Standardizer.identity(3), wanted)


@pytest.mark.parametrize(
    ("n", "fraction", "limit", "size"),
    [
        (1000, 0.05, None, 50),
        (1000, 0.05, 20, 20),
        (1000, 0.0, None, 0),
        (1000, 0.5, 0, 0),
        (3, 0.9, None, 2),
    ],
)
def test_holdout(n: int, fraction: float, limit: int | None, size: int) -> None:
    train, heldout = holdout_split(n, fraction, limit, KEY)
    assert len(heldout) == size
    assert sorted([*train.tolist(), *heldout.tolist()]) == list(range(n))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(heldout) > 0)
    np.testing.assert_array_equal(heldout, holdout_index(n, fraction, limit, KEY))
    assert heldout.dtype.kind == train.dtype.kind == "i"


def test_holdout_is_spread_evenly_and_follows_the_key() -> None:
    n, size = 100_000, 5000
    heldout = holdout_index(n, 0.05, None, KEY)
    assert heldout.mean() == pytest.approx(n / 2, abs=5 * n / np.sqrt(12 * size))
    other = holdout_index(n, 0.05, None, jax.random.key(4))
    # Overlap of two independent draws: mean size^2 / n = 250, sd below its root.
    assert abs(np.intersect1d(heldout, other).size - 250) < 5 * np.sqrt(250)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fraction_is_checked(fraction: float) -> None:
    with pytest.raises(SpecError, match="fraction must be >= 0 and < 1"):
        holdout_index(10, fraction, None, KEY)
    with pytest.raises(SpecError, match="limit must be >= 0"):
        holdout_index(10, 0.1, -1, KEY)


def test_works_on_the_output_of_a_jax_computation() -> None:
    data = to_rows(ArraySource(jnp.ones((4, 2))), Standardizer.identity(2), jnp.float32)
    assert data.x.shape == (4, 2)
