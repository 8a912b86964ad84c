"""Rows that are skipped: which, how many, and where the others are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vigmm.core.errors import DataError, SpecError
from vigmm.data.arrays import ArraySource
from vigmm.data.good_rows import GoodRows
from vigmm.data.sources import DataFile


@pytest.mark.parametrize("bad", [[], [0], [9], [0, 1, 9], [3, 4, 5], [0, 2, 4, 6, 8]])
def test_the_others_stay_in_order(bad: list[int]) -> None:
    rows = np.arange(20.0).reshape(10, 2)
    rows[bad, 1] = np.nan
    source, good = GoodRows(ArraySource(rows)), np.delete(np.arange(10), bad)
    assert source.bad_rows.tolist() == bad
    assert source.row_numbers(0, len(source)).tolist() == good.tolist()
    for low in range(len(good)):
        for high in range(low, len(good) + 1):
            np.testing.assert_array_equal(source[low:high], rows[good[low:high]])
            assert source.row_numbers(low, high).tolist() == good[low:high].tolist()


def test_pieces_and_places(tmp_path: Path) -> None:
    rows = np.arange(12.0)
    rows[[4, 5, 6, 7, 9]] = np.inf
    pq.write_table(pa.table({"a": rows[:6]}), tmp_path / "1.parquet", row_group_size=4)
    pq.write_table(pa.table({"a": rows[6:]}), tmp_path / "2.parquet", row_group_size=2)
    source = DataFile(str(tmp_path), on_bad_rows="skip").open()
    assert source[:][:, 0].tolist() == [0, 1, 2, 3, 8, 10, 11]
    assert source.piece_ends.tolist() == [4, 5, 7]
    assert source.place(5) == f"row 4 of {tmp_path}/2.parquet (row 10 of all) (row 5 of those that are kept)"


def test_only_the_columns_that_are_used_count(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=[[1.0, np.nan], [2.0, 3.0]])
    assert len(DataFile(str(tmp_path / "x.npz"), on_bad_rows="skip").open()) == 1
    assert len(DataFile(str(tmp_path / "x.npz"), on_bad_rows="skip", columns=("x0",)).open()) == 2
    np.savez(tmp_path / "x.npz", a=[[np.nan], [np.inf]])
    with pytest.raises(DataError, match="has no row without a NaN or an infinity"):
        DataFile(str(tmp_path / "x.npz"), on_bad_rows="skip").open()
    with pytest.raises(SpecError, match="on_bad_rows must be 'refuse' or 'skip', got 'drop'"):
        DataFile("x.npz", on_bad_rows="drop")
