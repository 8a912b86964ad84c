"""Tables of pandas, polars and Arrow: names, types, nulls, and columns that hold no numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from vigmm.core.errors import DataError, EmptyError
from vigmm.data.arrays import ArraySource
from vigmm.data.sources import as_source

COLUMNS = {
    "width": [1.5, 2.5, float("nan")],
    "city": ["Rome", "Oslo", "Lima"],
    "count": [1, None, 3],
    "flag": [True, False, True],
}
NUMBERS = np.array([[1.5, 1.0, 1.0], [2.5, np.nan, 0.0], [np.nan, 3.0, 1.0]])


class CapsuleOnly:
    """A table of which nothing is known but that it speaks Arrow."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def arrow():
    return pa.table(COLUMNS)


KINDS = {
    "pandas": lambda: pd.DataFrame(COLUMNS).astype({"count": "Int64"}),
    "pandas-by-arrow": lambda: pd.DataFrame(COLUMNS).convert_dtypes(dtype_backend="pyarrow"),
    "pandas-with-an-index": lambda: (
        pd.DataFrame({**COLUMNS, "id": [7, 12, 9]}).astype({"count": "Int64"}).set_index("id")
    ),
    "pandas-filtered": lambda: pd.DataFrame({k: [v[0], *v] for k, v in COLUMNS.items()}).iloc[[0, 2, 3]],
    "polars": lambda: pl.DataFrame(COLUMNS),
    "table": arrow,
    "batch": lambda: arrow().to_batches()[0],
    "reader": lambda: arrow().to_reader(),
    "capsule": lambda: CapsuleOnly(arrow()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_of_a_table_and_their_names(kind):
    source = as_source(KINDS[kind]())
    assert source.columns == ("width", "count", "flag")
    np.testing.assert_array_equal(source[:], NUMBERS)
    np.testing.assert_array_equal(source[np.array([2, 0])], NUMBERS[[2, 0]])
    if kind != "reader":
        assert source.ignored == ("city",)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"reader"}))
def test_columns_choose_or_rename(kind):
    chosen = ArraySource(KINDS[kind](), columns=("flag", "width"))
    np.testing.assert_array_equal(chosen[:], NUMBERS[:, [2, 0]])
    assert (chosen.columns, chosen.ignored) == (("flag", "width"), ())
    renamed = ArraySource(KINDS[kind](), columns=("a", "b", "c"))
    assert (renamed.columns, renamed.ignored) == (("a", "b", "c"), ("city",))
    with pytest.raises(DataError, match=r"x: column 'city' is not numeric but .*: row 0 holds 'Rome'"):
        ArraySource(KINDS[kind](), columns=("width", "city"))


def test_a_frame_of_one_type_is_not_copied():
    array = np.arange(6.0).reshape(3, 2)
    frame = pd.DataFrame(array, columns=["a", "b"], copy=False)
    source = ArraySource(frame)
    assert np.shares_memory(source[:], array)
    assert source.columns == ("a", "b")


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint8, np.bool_])
def test_types_are_kept(kind):
    for table in (pd.DataFrame({"a": np.ones(2, kind)}), pl.DataFrame({"a": np.ones(2, kind)})):
        expected = np.uint8 if kind is np.bool_ and isinstance(table, pl.DataFrame) else kind
        assert ArraySource(table).dtype == expected


@pytest.mark.parametrize("make", [pd.Series, pl.Series], ids=["pandas", "polars"])
def test_a_series_is_a_column(make):
    series = make([1.0, 2.0], name="height") if make is pd.Series else make("height", [1.0, 2.0])
    source = ArraySource(series)
    assert (source[:].tolist(), source.columns[0]) == ([[1.0], [2.0]], "height")


def test_refusals():
    with pytest.raises(DataError, match=r"x has no numeric column; it has: city \(.*string.*\)"):
        ArraySource(pl.DataFrame({"city": ["Rome"]}))
    with pytest.raises(EmptyError, match=r"x has no rows \(columns: a\)"):
        ArraySource(pa.table({"a": pa.array([], pa.float64())}))
    with pytest.raises(DataError, match=r"x cannot be read as a table: .*column o .*Leave that column out"):
        ArraySource(pd.DataFrame({"o": [object()], "a": [1.0]}))
