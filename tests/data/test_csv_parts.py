"""Text tables in blocks: the same as if read at once, wherever a block ends."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vigmm.core.errors import DataError
from vigmm.data import csv_parts
from vigmm.data.csv_parts import open_csv
from vigmm.data.sources import DataFile

ROWS = np.random.default_rng(0).integers(-99, 99, (50, 2))
LINES = "".join(f"{a},{b}\n" for a, b in ROWS)


@pytest.fixture(params=[1, 7, 64, 10_000], ids=lambda size: f"blocks of {size}")
def csv(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Writes a file that will be read in small blocks, none of which is kept."""
    monkeypatch.setattr(csv_parts, "BLOCK", request.param)
    monkeypatch.setattr(csv_parts, "_KEPT", 0)

    def write(text: str | bytes, name: str = "t.csv") -> Path:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    "text",
    [
        f"a,b\n{LINES}",
        f"\ufeffa,b\n{LINES}",
        f"a,b\n{LINES}"[:-1],
        f"a,b\n{LINES}".replace("\n", "\r\n"),
        f"a,b\n{LINES}".replace("\n", "\n\n"),
        f"a;b\n{LINES}".replace(",", ";"),
        f'"a","b"\n{LINES}',
    ],
    ids=["plain", "byte order mark", "no last newline", "Windows", "empty lines", "semicolons", "quotes"],
)
def test_blocks_end_anywhere(csv: Callable[..., Path], text: str) -> None:
    source = open_csv(csv(text))
    assert (source.columns, source.dtype, len(source)) == (("a", "b"), np.int64, 50)
    np.testing.assert_array_equal(source[:], ROWS)
    np.testing.assert_array_equal(source[np.array([49, 0, 20])], ROWS[[49, 0, 20]])
    assert source.piece_ends[-1] == 50


def test_without_names(csv: Callable[..., Path]) -> None:
    source = open_csv(csv(LINES))
    assert source.columns == ("x0", "x1")
    np.testing.assert_array_equal(source[:], ROWS)
    np.testing.assert_array_equal(open_csv(csv(LINES), columns=("x1",))[:], ROWS[:, 1:])


def test_types_are_those_of_the_whole_file(csv: Callable[..., Path]) -> None:
    lines = [",1,x,true,1,"] * 10 + ["2,2,y,false,,"] * 10 + ["3,0.5,3,true,5,z"] + ["4,7,4,,6,"] * 5
    source = open_csv(csv("a,b,c,d,e,f\n" + "\n".join(lines) + "\n"))
    assert source.columns == ("a", "b", "d", "e")
    assert source.ignored == ("c", "f")
    assert source.dtype == np.float64
    np.testing.assert_array_equal(source[np.array([0, 10, 20, 25])][:, 1], [1, 2, 0.5, 7])
    np.testing.assert_array_equal(source[:][:, 0], [np.nan] * 10 + [2] * 10 + [3] + [4] * 5)
    np.testing.assert_array_equal(source[:][:, 3], [1] * 10 + [np.nan] * 10 + [5] + [6] * 5)
    with pytest.raises(DataError, match=r"column 'f' is not numeric but string: row 20 holds 'z'"):
        open_csv(csv("a,b,c,d,e,f\n" + "\n".join(lines) + "\n"), columns=("a", "f"))


def test_a_line_that_is_cut_short_is_found(csv: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"t.csv cannot be read as csv: .*Expected 2 columns, got 1"):
        open_csv(csv(f"a,b\n{LINES}5\n{LINES}"))


def test_compressed(csv: Callable[..., Path]) -> None:
    source = open_csv(csv(gzip.compress(f"a,b\n{LINES}".encode()), "t.csv.gz"))
    np.testing.assert_array_equal(source[:], ROWS)
    assert source.piece_ends.tolist() == [50]


def test_a_file_that_changes(csv: Callable[..., Path]) -> None:
    source = open_csv(csv(f"a,b\n{LINES}"))
    csv(f"a,b\n{LINES[:100]}\n")
    with pytest.raises(DataError, match=r"t.csv (has changed since|cannot be read)"):
        source[:]


def test_few_numbers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.csv").write_text(f"a,b\n{LINES}")
    source = open_csv(tmp_path / "t.csv")
    monkeypatch.setattr(csv_parts, "_table", lambda *_: pytest.fail("parsed twice"))
    np.testing.assert_array_equal(source[:], ROWS)


class TestFolder:
    def test_parts_agree_on_names_not_on_order(self, csv: Callable[..., Path], tmp_path: Path) -> None:
        csv(f"a,b\n{LINES}", "1.csv")
        csv("b,a\n", "2.csv")
        csv("b,w,a\n0.5,x,1\n,y,2\n", "3.csv")
        with pytest.raises(DataError, match=r"3.csv has a column 'w', which .*1.csv has not"):
            DataFile(str(tmp_path)).open()
        source = DataFile(str(tmp_path), columns=("a", "b")).open()
        assert source.dtype == np.float64
        np.testing.assert_array_equal(source[:], np.vstack([ROWS, [[1, 0.5], [2, np.nan]]]))

    def test_a_part_is_named(self, csv: Callable[..., Path], tmp_path: Path) -> None:
        csv("a,b\n1,2\n", "1.csv")
        csv("a,b\n1,x\n", "2.csv")
        with pytest.raises(DataError, match=r"2.csv: column 'b' is not numeric .*1.csv it is int64"):
            DataFile(str(tmp_path)).open()

    def test_no_rows_at_all(self, csv: Callable[..., Path], tmp_path: Path) -> None:
        csv("a,b\n", "1.csv")
        csv("a,b\n", "2.csv")
        with pytest.raises(DataError, match=r"has no rows \(columns: a, b\)"):
            DataFile(str(tmp_path)).open()
