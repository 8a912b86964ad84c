"""Arrays, lists and data frames as sources: what is taken, what is refused and with which words."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse

from vigmm.core.errors import DataError
from vigmm.data.arrays import ArraySource, SelectColumns
from vigmm.data.protocol import Source, check_rows

ROWS = np.arange(12).reshape(4, 3)


class Frame:
    """The little that this library uses of a data frame."""

    def __init__(self, array: np.ndarray, columns: list[object]) -> None:
        self.array, self.columns = array, columns

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return self.array


class Series:
    """And of a series."""

    ndim, name = 1, "height"

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.array([1.0, 2.0])


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        ROWS.tolist(),
        ROWS.astype(">f8"),
        ROWS.astype(">i2"),
        np.asfortranarray(ROWS),
        np.arange(24).reshape(4, 6)[:, ::2] // 2,
        ROWS[::-1][::-1],
        ROWS.astype(np.float16),
        ROWS.astype(np.longdouble),
        ROWS.astype(np.uint8),
        jnp.asarray(ROWS, jnp.float32),
        jnp.asarray(ROWS, jnp.bfloat16),
        pa.table({"a": ROWS[:, 0], "b": ROWS[:, 1], "c": ROWS[:, 2]}),
    ],
    ids=lambda data: f"{type(data).__name__}-{getattr(data, 'dtype', '')}",
)
def test_reads_anything_that_is_a_table_of_numbers(data: object) -> None:
    source: Source = ArraySource(data)
    assert (len(source), source.dim, len(source.columns)) == (4, 3, 3)
    np.testing.assert_array_equal(source[1:3], ROWS[1:3])
    np.testing.assert_array_equal(source[np.array([3, 0, 3])], ROWS[[3, 0, 3]])
    assert source[0:1].dtype == source.dtype
    assert source.dtype.isnative


def test_booleans_and_one_dimension() -> None:
    source = ArraySource([True, False, True])
    assert (len(source), source.dim, source.columns) == (3, 1, ("x0",))
    assert source[0:3].tolist() == [[True], [False], [True]]


def test_keeps_a_reference_and_not_a_copy() -> None:
    data = np.ones((3, 2))
    assert np.shares_memory(ArraySource(data)[0:3], data)


def test_column_names() -> None:
    assert ArraySource(ROWS).columns == ("x0", "x1", "x2")
    assert ArraySource(Frame(ROWS, ["a", 7, ("b", "c")])).columns == ("a", "7", "('b', 'c')")
    assert ArraySource(pa.table({"u": [1.0], "v": [2.0]})).columns == ("u", "v")
    assert ArraySource(Series()).columns == ("height",)
    assert ArraySource(ROWS, columns=("a", "b", "c")).columns == ("a", "b", "c")
    with pytest.raises(DataError, match="x has 3 columns, but 2 column names"):
        ArraySource(ROWS, columns=("a", "b"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, 3)), "x is empty: it has 0 rows and 3 columns"),
        ([], "x is empty: it has 0 rows and 1 columns"),
        (np.zeros((3, 0)), "x is empty: it has 3 rows and 0 columns"),
        (np.zeros((2, 2, 2)), r"x has shape \(2, 2, 2\), but rows x columns are needed: reshape it"),
        (np.float64(3.0), r"x has shape \(\), but rows x columns are needed"),
        ([[1, 2], [3]], "x cannot be made an array: .* All rows need the same length"),
        (ROWS * 1j, "x holds complex numbers; give real and imaginary parts as two columns"),
        (np.array(["2020-01-01"], "M8[D]"), r"x holds datetime64\[D\], not numbers; convert it first"),
        (
            [["1", "b"]],
            "x is not numeric: row 0, column 'x0' holds .*'1'.*Leave that column out or encode it",
        ),
        (
            np.array([[1, 2.0], [3, "four"]], object),
            r"x is not numeric: row 1, column 'x1' holds 'four' \(rows are counted from 0\)",
        ),
        (np.array([[1, None]], object), "x is not numeric: row 0, column 'x1' holds None"),
        (
            np.array([[1, 2]], object),
            r"x is an array of object that holds numbers; convert it with .astype\(float\)",
        ),
        (Frame(np.array([[1, "Paris"]], object), ["age", "city"]), "row 0, column 'city' holds 'Paris'"),
        (
            np.zeros(2, [("a", "f8"), ("b", "f8")]),
            "x is a structured array with fields a, b; flatten it with",
        ),
        (scipy.sparse.eye_array(3), r"x is a sparse matrix; make it dense with .toarray\(\)"),
        (np.ma.masked_array([1.0, 2.0], [False, True]), "x has masked values; drop those rows or fill them"),
    ],
)
def test_refusals_say_what_and_where(data: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ArraySource(data)


def test_select_columns() -> None:
    source = SelectColumns(ArraySource(ROWS, columns=("red", "green", "blue"), name="tiny"), ("blue", "red"))
    assert (source.columns, source.dim, len(source), source.name) == (("blue", "red"), 2, 4, "tiny")
    np.testing.assert_array_equal(source[1:3], ROWS[1:3][:, [2, 0]])
    np.testing.assert_array_equal(source[np.array([3])], [[11, 9]])
    assert source.fingerprint() == ArraySource(ROWS[:, [2, 0]]).fingerprint()
    with pytest.raises(
        DataError, match=r"tiny has no column 'gren'; did you mean 'green'. It has: red, green, blue"
    ):
        SelectColumns(ArraySource(ROWS, columns=("red", "green", "blue"), name="tiny"), ("gren",))
    with pytest.raises(DataError, match=r"x has no column 'z'\. It has: x0, x1, x2"):
        SelectColumns(ArraySource(ROWS), ("z",))
    with pytest.raises(DataError, match="x has 2 columns called 'a'; give them different names"):
        SelectColumns(ArraySource(ROWS, columns=("a", "a", "b")), ("a",))


def test_min_rows() -> None:
    check_rows(ArraySource(ROWS), 4)
    with pytest.raises(DataError, match="tiny has 4 rows, but at least 5 are needed: give more data"):
        check_rows(ArraySource(ROWS, name="tiny"), 5)
    with pytest.raises(DataError, match="one has 1 row, but"):
        check_rows(ArraySource([1.0], name="one"), 2)


def test_fingerprint_follows_the_content() -> None:
    base = ArraySource(ROWS).fingerprint()
    assert base.startswith("sha256:")
    assert base == ArraySource(np.asfortranarray(ROWS), name="other").fingerprint()
    assert base == ArraySource(ROWS.astype(">i8")).fingerprint()
    changed = ROWS.copy()
    changed[2, 1] += 1
    others = [changed, ROWS.astype(np.float64), ROWS.reshape(3, 4), ROWS[:3], ROWS[::-1]]
    assert len({base, *(ArraySource(other).fingerprint() for other in others)}) == 6


def test_fingerprint_of_large_data_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vigmm.data.protocol._HASH_WHOLE", 1 << 14)
    data = np.arange(40_000, dtype=np.int64).reshape(-1, 2)
    base = ArraySource(data).fingerprint()
    assert base.startswith("sha256-sampled:")
    assert base == ArraySource(data.copy()).fingerprint()
    for row in (0, len(data) - 1):  # both ends are always looked at
        changed = data.copy()
        changed[row, 0] = -1
        assert ArraySource(changed).fingerprint() != base
