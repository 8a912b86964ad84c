"""CSV and Parquet: columns by name, nulls as NaN, and messages that name the column, the row and the cell."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vigmm.core.errors import DataError
from vigmm.data.csv_parts import open_csv
from vigmm.data.moments import compute_moments
from vigmm.data.parquet_parts import open_parquet
from vigmm.data.parts import Parts
from vigmm.data.sources import ArraySource, DataFile, Source


@pytest.fixture
def csv(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(text: str | bytes) -> Path:
        path = tmp_path / "t.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[[dict[str, object]], Path]:
    def write(columns: dict[str, object]) -> Path:
        path = tmp_path / "t.parquet"
        pq.write_table(pa.table(columns), path)
        return path

    return write


def everything(source: Source) -> list[list[float]]:
    return source[0 : len(source)].tolist()


class TestCsv:
    def test_numeric_columns_by_default(self, csv: Callable[[str], Path]) -> None:
        source = open_csv(csv("a,city,b,ok\n1,Rome,2.5,true\n3,Oslo,4,false\n"))
        assert (source.columns, source.ignored) == (("a", "b", "ok"), ("city",))
        assert everything(source) == [[1, 2.5, 1], [3, 4, 0]]
        np.testing.assert_array_equal(source[np.array([1])], [[3, 4, 0]])
        assert (source.dim, len(source), source.dtype) == (3, 2, np.float64)
        assert source.fingerprint() == ArraySource(source[0:2]).fingerprint()

    def test_columns_in_the_order_asked(self, csv: Callable[[str], Path]) -> None:
        source = DataFile(str(csv("a,city,b\n1,Rome,2\n3,Oslo,4\n")), columns=("b", "a")).open()
        assert isinstance(source, Parts)
        assert (source.columns, source.ignored, everything(source)) == (("b", "a"), (), [[2, 1], [4, 3]])
        assert source.dtype == np.int64

    @pytest.mark.parametrize("mark", [";", "\t"])
    def test_other_separators(self, csv: Callable[[str], Path], mark: str) -> None:
        assert everything(open_csv(csv("a,b\n1,2\n".replace(",", mark)))) == [[1, 2]]

    def test_first_line_of_numbers_is_data(self, csv: Callable[[str], Path]) -> None:
        source = open_csv(csv("1.5,2\n3,4\n"))
        assert (source.columns, everything(source)) == (("x0", "x1"), [[1.5, 2], [3, 4]])
        assert everything(open_csv(csv("5,5\n3,4\n"), columns=("x1",))) == [[5], [4]]
        assert everything(open_csv(csv("7\n8\n"))) == [[7], [8]]

    def test_counted_columns_are_names(self, csv: Callable[[str], Path]) -> None:
        assert open_csv(csv("0,1,2\n5,6,7\n")).columns == ("0", "1", "2")
        assert open_csv(csv("1990,1991,1992\n5,6,7\n")).columns == ("1990", "1991", "1992")

    def test_gaps_are_missing_values_and_infinities_stay(self, csv: Callable[[str], Path]) -> None:
        source = open_csv(csv("a,b\n1,\n,inf\nNA,nan\n4,1e400\n"))
        np.testing.assert_array_equal(
            source[0:4], [[1, np.nan], [np.nan, np.inf], [np.nan, np.nan], [4, np.inf]]
        )
        with pytest.raises(
            DataError, match=r"t.csv: row 0, column 'b' is NaN \(a missing value\). Rows are counted"
        ):
            compute_moments(source)

    def test_byte_order_mark(self, csv: Callable[[str | bytes], Path]) -> None:
        assert open_csv(csv(b"\xef\xbb\xbfa,b\n1,2\n")).columns == ("a", "b")

    def test_wrong_column(self, csv: Callable[[str], Path]) -> None:
        with pytest.raises(
            DataError, match=r"t.csv has no column 'widht'; did you mean 'width'\? It has: width, b"
        ):
            open_csv(csv("width,b\n1,2\n"), columns=("b", "widht"))

    def test_many_columns_are_not_all_listed(self, csv: Callable[[str], Path]) -> None:
        head = ",".join(f"c{i}" for i in range(30))
        with pytest.raises(DataError, match=r"It has: c0, .*, c19, \.\.\. \(30 in all\)"):
            open_csv(csv(f"{head}\n{head.replace('c', '')}\n"), columns=("zzz",))

    def test_cell_that_is_no_number(self, csv: Callable[[str], Path]) -> None:
        path = csv("a,b\n1,2\nNA,3\n12k,4\n")
        with pytest.raises(
            DataError,
            match=r"t.csv: column 'a' is not numeric but string: row 2 holds '12k' \(rows are counted from 0",
        ):
            open_csv(path, columns=("a", "b"))
        assert open_csv(path).ignored == ("a",)

    def test_column_without_values(self, csv: Callable[[str], Path]) -> None:
        path = csv("a,b\n1,\n2,\n")
        with pytest.raises(DataError, match="column 'b' has no values at all; leave it out"):
            open_csv(path, columns=("b",))
        assert open_csv(path).ignored == ("b",)

    def test_no_numeric_column(self, csv: Callable[[str], Path]) -> None:
        with pytest.raises(DataError, match=r"t.csv has no numeric column; it has: a \(string\), b \(date32"):
            open_csv(csv("a,b\nx,2020-01-01\n"))

    def test_header_only(self, csv: Callable[[str], Path]) -> None:
        with pytest.raises(DataError, match=r"t.csv has no rows \(columns: a, b\)"):
            open_csv(csv("a,b\n"))

    def test_name_twice(self, csv: Callable[[str], Path]) -> None:
        path = csv("a,b,a\n1,2,3\n")
        with pytest.raises(DataError, match=r"t.csv has 2 columns called 'a'; give them different names"):
            open_csv(path)
        assert everything(open_csv(path, columns=("b",))) == [[2]]

    @pytest.mark.parametrize(
        "content", [b"a,b\n1,2\n3\n", b"\n\n", b"\xff\xfe\xe9,b\n1,2\n", b"\x00\x01\xff\xfe" * 50]
    )
    def test_damage(self, csv: Callable[[str | bytes], Path], content: bytes) -> None:
        with pytest.raises(DataError, match=r"t.csv cannot be read as csv: .*damaged, cut short") as caught:
            open_csv(csv(content))
        assert caught.value.__cause__ is not None

    def test_late_change_of_type(self, csv: Callable[[str], Path]) -> None:
        # Arrow guesses types from the first megabyte and must look again; 200,000 rows are beyond it.
        lines = [f"{i},{i}" for i in range(200_000)]
        source = open_csv(csv("a,b\n" + "\n".join([*lines, "0.5,oops"]) + "\n"))
        assert (source.columns, source.ignored, source[200_000:].tolist()) == (("a",), ("b",), [[0.5]])


class TestParquet:
    def test_types(self, parquet: Callable[[dict[str, object]], Path]) -> None:
        path = parquet(
            {
                "small": pa.array([1, 2], pa.uint8()),
                "word": ["x", "y"],
                "flag": [True, False],
                "money": [Decimal("1.50"), Decimal("2.25")],
                "code": pa.array([5.0, 6.0]).dictionary_encode(),
                "nested": [{"a": 1}, {"a": 2}],
                "holes": pa.array([7, None], pa.int64()),
            }
        )
        source = open_parquet(path)
        assert source.columns == ("small", "flag", "money", "code", "holes")
        assert source.ignored == ("word", "nested")
        np.testing.assert_array_equal(source[0:2], [[1, 1, 1.5, 5, 7], [2, 0, 2.25, 6, np.nan]])
        assert source[np.array([1])].shape == (1, 5)
        assert open_parquet(path, columns=("small",)).dtype == np.uint8
        assert open_parquet(path, columns=("flag", "small")).columns == ("flag", "small")

    def test_single_precision_stays(self, parquet: Callable[[dict[str, object]], Path]) -> None:
        path = parquet({"a": pa.array([1.5, None], pa.float32()), "b": pa.array([1.0, 2.0], pa.float32())})
        source = DataFile(str(path)).open()
        assert source.dtype == np.float32
        np.testing.assert_array_equal(source[0:2], [[1.5, 1.0], [np.nan, 2.0]])
        assert source.fingerprint() == ArraySource(source[0:2]).fingerprint()

    def test_wrong_column(self, parquet: Callable[[dict[str, object]], Path]) -> None:
        with pytest.raises(DataError, match=r"t.parquet has no column 'heigth'; did you mean 'height'\?"):
            open_parquet(parquet({"height": [1.0]}), columns=("heigth",))

    def test_cell_that_is_no_number(self, parquet: Callable[[dict[str, object]], Path]) -> None:
        path = parquet(
            {"a": ["1", None, "Oslo"], "day": pa.array([1, 2, 3], pa.date32()), "l": [[1], [2], [3]]}
        )
        with pytest.raises(DataError, match="column 'a' is not numeric but string: row 2 holds 'Oslo'"):
            open_parquet(path, columns=("a",))
        with pytest.raises(
            DataError, match=r"column 'day' is not numeric but date32.*: row 0 holds datetime.date"
        ):
            open_parquet(path, columns=("day",))
        with pytest.raises(DataError, match=r"column 'l' is not numeric but list.*: row 0 holds \[1\]"):
            open_parquet(path, columns=("l",))
        with pytest.raises(DataError, match=r"has no numeric column; it has: a \(string\), day"):
            open_parquet(path)

    def test_no_rows(self, parquet: Callable[[dict[str, object]], Path]) -> None:
        with pytest.raises(DataError, match=r"t.parquet has no rows \(columns: a\)"):
            open_parquet(parquet({"a": pa.array([], pa.float64())}))

    def test_damage(self, parquet: Callable[[dict[str, object]], Path]) -> None:
        path = parquet({"a": np.arange(1000.0)})
        path.write_bytes(path.read_bytes()[:-50])
        with pytest.raises(DataError, match=r"t.parquet cannot be read as parquet: .*damaged, cut short"):
            open_parquet(path)
