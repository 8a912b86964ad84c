"""One-pass moments to full precision, messages for bad values, and a Standardizer that undoes itself."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from vigmm.core.errors import DataError
from vigmm.data.arrays import ArraySource
from vigmm.data.moments import Moments, Standardizer, compute_moments

RNG = np.random.default_rng(0)
NOISE = RNG.standard_normal((5000, 4)) @ RNG.standard_normal((4, 4))


@pytest.mark.parametrize("chunk", [1, 7, 1000, 5000, 65_536])
def test_agrees_with_numpy_for_any_chunk(chunk: int) -> None:
    rows = NOISE[: 200 if chunk == 1 else None]
    moments = compute_moments(ArraySource(rows), chunk=chunk)
    assert (moments.count, moments.rows) == (len(rows), len(rows))
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(moments.cov, np.cov(rows.T, ddof=0), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(moments.cov, moments.cov.T)
    np.testing.assert_array_equal(moments.minimum, rows.min(0))
    np.testing.assert_array_equal(moments.maximum, rows.max(0))
    assert {leaf.dtype for leaf in (moments.mean, moments.cov, moments.minimum)} == {np.dtype(np.float64)}


def test_mean_of_a_billion() -> None:
    # Storing the rows rounds them by up to 6e-8 each; beyond that, nothing may be lost.
    rows = NOISE + 1e9
    moments = compute_moments(ArraySource(rows), chunk=1024)
    np.testing.assert_allclose(moments.cov, np.cov((rows - 1e9).T, ddof=0), rtol=1e-12)
    np.testing.assert_allclose(
        moments.mean - 1e9, (rows - 1e9).mean(0), atol=2e-7
    )  # spacing of doubles at 1e9


def test_single_precision_far_from_zero() -> None:
    rows = (1000 + 0.01 * NOISE).astype(np.float32)
    moments = compute_moments(ArraySource(rows), chunk=1024)
    np.testing.assert_allclose(moments.cov, np.cov(rows.astype(np.float64).T, ddof=0), rtol=1e-9)


def test_columns_of_very_different_scale() -> None:
    scale = np.array([1e-150, 1e-8, 1e8, 1e150])
    moments = compute_moments(ArraySource(NOISE * scale))
    np.testing.assert_allclose(moments.cov / np.outer(scale, scale), np.cov(NOISE.T, ddof=0), rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.float16])
def test_types(dtype: type) -> None:
    rows = RNG.integers(0, 2, (100, 2)).astype(dtype)
    moments = compute_moments(ArraySource(rows))
    np.testing.assert_allclose(moments.cov, np.cov(rows.astype(float).T, ddof=0), rtol=1e-12)


def test_weights_are_repetitions() -> None:
    weight = RNG.integers(0, 4, len(NOISE))
    weight[:2000] = 0  # whole chunks, the first included, without any weight
    rows = NOISE.copy()
    rows[0] = 1e6  # of weight 0: must not be seen
    moments = compute_moments(ArraySource(rows), weight=weight, chunk=512)
    repeated = np.repeat(rows, weight, axis=0)
    assert (moments.count, moments.rows) == (weight.sum(), len(rows))
    np.testing.assert_allclose(moments.mean, repeated.mean(0), rtol=1e-11)
    np.testing.assert_allclose(moments.cov, np.cov(repeated.T, ddof=0), rtol=1e-11)
    np.testing.assert_array_equal(moments.maximum, repeated.max(0))


def test_one_row() -> None:
    moments = compute_moments(ArraySource([[3.0, 4.0]]))
    assert moments.mean.tolist() == [3.0, 4.0]
    assert not moments.cov.any()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.nan,
            r"bad: row 3001, column 'c' is NaN \(a missing value\). Rows are counted from 0.* Drop or impute",
        ),
        (np.inf, r"bad: row 3001, column 'c' is inf \(infinite\)"),
        (-np.inf, r"bad: row 3001, column 'c' is -inf \(infinite\)"),
    ],
)
@pytest.mark.parametrize("chunk", [100, 65_536])
def test_first_bad_value_is_named(value: float, message: str, chunk: int) -> None:
    rows = NOISE.copy()
    rows[3001, 2] = rows[3001, 3] = rows[4000, 0] = value
    with pytest.raises(DataError, match=message):
        compute_moments(ArraySource(rows, columns=("a", "b", "c", "d"), name="bad"), chunk=chunk)


def test_values_too_large_to_square() -> None:
    rows = NOISE.copy()
    rows[:, 1] *= 1e200
    with pytest.raises(
        DataError, match="x: column 'x1' spans values too large to square in float64; rescale"
    ):
        compute_moments(ArraySource(rows))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"sample weights have shape \(3,\), not \(5,\), one per row"),
        (np.ones((5, 1)), r"sample weights have shape \(5, 1\)"),
        (np.array([1, 1, -1, 1, 1]), "the weight of row 2 is -1.0; it must be finite and >= 0"),
        (np.array([1, np.nan, 1, 1, 1]), "the weight of row 1 is nan"),
        (np.zeros(5), "all sample weights are zero, so there is nothing to fit"),
        (np.array(list("abcde")), "sample weights must be numbers, got an array of <U1"),
    ],
)
def test_weights_are_checked(weight: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        compute_moments(ArraySource(NOISE[:5]), weight=weight)


def test_standardizer_gives_zero_mean_and_unit_sd_and_back() -> None:
    rows = NOISE * [1e-3, 1.0, 1e3, 1e6] + [1e6, -5.0, 0.0, 1e9]
    moments = compute_moments(ArraySource(rows))
    standardizer = Standardizer.from_moments(moments)
    z = standardizer.forward(rows)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(0), 1, rtol=1e-9)
    np.testing.assert_allclose(standardizer.inverse(z), rows, rtol=1e-15, atol=1e-9)
    np.testing.assert_allclose(
        standardizer.inverse_cov(np.cov(z.T, ddof=0)), moments.cov, rtol=1e-8, atol=1e-9 * moments.cov.max()
    )
    assert standardizer.log_scale_sum == pytest.approx(np.log(rows.std(0)).sum(), rel=1e-9)
    assert standardizer.dim == 4
    assert standardizer.inverse(z[:, None, :]).shape == (5000, 1, 4)
    assert standardizer.inverse_cov(np.ones((7, 4, 4))).shape == (7, 4, 4)


def test_constant_columns_are_only_centred() -> None:
    # 0.1 and 1e9 + 0.1 are not exact in binary: a variance of rounding noise must not become a scale.
    rows = np.column_stack([np.full(1000, 0.1), NOISE[:1000, 0], np.full(1000, 1e9 + 0.1)])
    moments = compute_moments(ArraySource(rows), chunk=77)
    assert moments.cov[0].tolist() == [0.0, 0.0, 0.0]
    standardizer = Standardizer.from_moments(moments)
    assert standardizer.scale[[0, 2]].tolist() == [1.0, 1.0]
    assert not standardizer.forward(rows)[:, [0, 2]].any()


def test_identity() -> None:
    standardizer = Standardizer.identity(4)
    np.testing.assert_array_equal(standardizer.forward(NOISE), NOISE)
    assert standardizer.log_scale_sum == 0


def test_gross_outliers_do_not_decide_what_is_typical() -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 3)) + np.array([0.0, 5.0, 0.0])
    rows[::100, 1] = 1e4
    moments = compute_moments(ArraySource(rows))
    found = moments.typical(np.float64)
    # The quartiles' standard error is 0.04 sds, and the outliers move them by 1 %.
    np.testing.assert_allclose(found.mean[1], 5.0, atol=0.2)
    np.testing.assert_allclose(found.cov[1, 1], 1.0, atol=0.4)
    assert found.cov[0, 1] == found.cov[1, 2] == 0.0
    # The other columns are as they were.
    np.testing.assert_array_equal(found.mean[[0, 2]], moments.mean[[0, 2]])
    np.testing.assert_array_equal(found.cov[::2, ::2], moments.cov[::2, ::2])
    # Ten thousand and one have squares that lie further apart than the digits of a float32.
    single = moments.typical(np.float32)
    assert np.sqrt(single.cov[1, 1]) == pytest.approx(3.0 * np.sqrt(np.finfo(np.float32).eps) * 1e4, rel=1e-3)


@pytest.mark.parametrize(
    "column",
    [
        np.random.default_rng(0).exponential(size=1000),
        np.repeat([0.0, 1.0], 500) + 1e-3 * np.random.default_rng(0).normal(size=1000),
        np.where(np.arange(1000) % 10 == 0, np.arange(1000), 0.0),
        np.full(1000, 3.0),
        np.array([1.0, 1e6]),
    ],
    ids=["skewed", "two clusters", "mostly zero", "constant", "two rows"],
)
def test_what_is_not_an_outlier_stays(column: np.ndarray) -> None:
    moments = compute_moments(ArraySource(column))
    assert moments.typical(np.float32) is moments


def test_quartiles_are_weighted_and_do_not_depend_on_the_chunk() -> None:
    rows = np.random.default_rng(0).normal(size=(50_000, 2))
    weight = (rows[:, 0] > 0).astype(np.float64)
    found = [
        compute_moments(ArraySource(rows), weight=weight, chunk=size).quartiles for size in (777, 60_000)
    ]
    np.testing.assert_array_equal(*found)
    # Of half a Gaussian: 0.319, 0.674, 1.150, from about 8,000 rows, whose error is below 0.02.
    np.testing.assert_allclose(found[0][:, 0], [0.319, 0.674, 1.150], atol=0.06)


def test_both_are_states() -> None:
    moments = compute_moments(ArraySource(NOISE))
    assert len(jax.tree.leaves(moments)) == 9
    assert isinstance(jax.tree.map(lambda leaf: leaf, moments), Moments)
    assert len(jax.tree.leaves(Standardizer.from_moments(moments))) == 2
