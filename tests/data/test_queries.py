"""SQL as a source, and HDF5: what is read, what is refused, and what is said where the library is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from vigmm.core.errors import DataError
from vigmm.data.sources import ArraySource, DataFile, kind_of


class TestDuckdb:
    def test_a_query_over_files(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("a,b,w\n1,2,x\n3,,y\n5,6,x\n")
        query = f"duckdb: SELECT a, b * 1.5 AS c, w FROM '{tmp_path}/t.csv' WHERE a > 1 ORDER BY a;"
        source = DataFile(query).open()
        assert isinstance(source, ArraySource)
        assert (source.columns, source.ignored, kind_of(query)) == (("a", "c"), ("w",), "duckdb")
        np.testing.assert_array_equal(source[:], [[3, np.nan], [5, 9]])
        assert source.name.startswith("duckdb:SELECT a, b * 1.5 AS c")
        assert len(source.name) <= 80
        assert DataFile("SELECT 1 AS a", kind="duckdb").open()[:].tolist() == [[1]]
        assert DataFile("duckdb:SELECT range AS i FROM range(200000)").open()[199_998:].tolist() == [
            [199_998],
            [199_999],
        ]

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("SELCT 1", "DuckDB refuses the query: .*syntax error.* Mend the query"),
            ("SELECT a FROM 'nowhere.parquet'", "refuses the query: .*No files found"),
            ("SELECT CAST('x' AS INT) AS a", "refuses the query: .*Could not convert"),
            ("SELECT b FROM (SELECT 1 AS a)", 'refuses the query: .*"b" not found'),
            ("SELECT 'x' AS a", r"has no numeric column; it has: a \(string\)"),
            ("SELECT 1 AS a WHERE false", r"has no rows \(columns: a\)"),
            ("SELECT 1 AS a, 2 AS a", "has 2 columns called 'a'"),
            ("SELECT * FROM secret", "refuses the query: .*secret does not exist"),
            ("SELECT * FROM 'https://example.org/a.parquet'", "refuses the query: .*httpfs"),
            ("SET threads = 1", "give exactly one SELECT; nothing else is run"),
            ("SELECT 1; SELECT 2", "give exactly one SELECT"),
            ("", "give exactly one SELECT"),
        ],
    )
    def test_refused(self, query: str, message: str) -> None:
        secret = [1]
        assert secret
        with pytest.raises(DataError, match=f"^duckdb:.*{message}"):
            DataFile(f"duckdb:{query}").open()

    def test_nothing_is_written(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="give exactly one SELECT"):
            DataFile(f"duckdb:COPY (SELECT 1) TO '{tmp_path}/t.csv'").open()
        assert list(tmp_path.iterdir()) == []

    def test_column_that_is_no_number(self) -> None:
        with pytest.raises(DataError, match="column 'w' is not numeric but string: row 1 holds 'x'"):
            DataFile("duckdb:SELECT unnest(['1', 'x']) AS w", columns=("w",)).open()

    def test_column_that_is_not_there(self) -> None:
        with pytest.raises(DataError, match=r"^duckdb:.* has no column 'widht'; did you mean 'width'\?"):
            DataFile("duckdb:SELECT 1 AS width", columns=("widht",)).open()

    def test_without_the_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "duckdb", None)
        with pytest.raises(DataError, match=r"queries need DuckDB; pip install 'vigmm\[duckdb\]'"):
            DataFile("duckdb:SELECT 1").open()


class TestHdf5:
    def test_choosing(self, tmp_path: Path) -> None:
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            file["train/rows"] = np.arange(6, dtype=">f4").reshape(3, 2)
            file["flat"] = np.arange(70_000)
            file["words"] = np.array([b"a"])
            file["cube"] = np.zeros((1, 2, 3))
            file["none"] = np.zeros((0, 3))
            file["scalar"] = 1.0
        source = DataFile(str(path), key="train/rows", columns=("x1",)).open()
        assert (source.dtype, source[:].tolist()) == (np.float32, [[1], [3], [5]])
        flat = DataFile(str(path), key="flat").open()
        assert (flat.dim, flat[np.array([69_999, 3])].tolist()) == (1, [[69_999], [3]])
        for key, message in (
            (None, r"x.h5 holds 6 data sets \(cube, .*choose one with key"),
            ("train/row", "has no data set 'train/row'; did you mean 'train/rows'"),
            ("words", "x.h5 holds .S1, not numbers|x.h5 is not numeric"),
            ("cube", r"has shape \(1, 2, 3\)"),
            ("none", "is empty: it has 0 rows"),
            ("scalar", r"has shape \(\)"),
        ):
            with pytest.raises(DataError, match=message):
                DataFile(str(path), key=key).open()

    def test_damage_and_a_file_that_shrank(self, tmp_path: Path) -> None:
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            file["rows"] = np.arange(10.0)
        source = DataFile(str(path)).open()
        with h5py.File(path, "w") as file:
            file["rows"] = np.arange(5.0)
        with pytest.raises(DataError, match=r"x.h5 has changed since the run began"):
            source[:]
        path.write_bytes(path.read_bytes()[:600])
        with pytest.raises(DataError, match=r"x.h5 cannot be read as hdf5: .*damaged, cut short"):
            DataFile(str(path)).open()

    def test_without_the_library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "x.h5").write_bytes(b"x")
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(DataError, match=r"reading HDF5 needs h5py; pip install 'vigmm\[hdf5\]'"):
            DataFile(str(tmp_path / "x.h5")).open()
