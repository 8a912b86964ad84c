"""Folders and patterns: what belongs to them, what is opened, and what is refused with which words."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vigmm.core.errors import DataError
from vigmm.data import parts as parts_module
from vigmm.data import table_parts
from vigmm.data.folders import list_files
from vigmm.data.moments import compute_moments
from vigmm.data.npy_parts import open_npy_parts
from vigmm.data.sources import DataFile, SelectColumns, kind_of

ROWS = np.arange(40.0).reshape(20, 2)


def shards(folder: Path, count: int = 4) -> Path:
    folder.mkdir()
    for i, rows in enumerate(np.split(ROWS, count)):
        np.save(folder / f"s{i}.npy", rows)
    return folder


def tables(folder: Path, *contents: dict[str, object], suffix: str = ".parquet") -> Path:
    folder.mkdir()
    for i, content in enumerate(contents):
        write(pa.table(content), folder / f"t{i}{suffix}")
    return folder


def write(made: pa.Table, path: Path) -> None:
    if path.suffix == ".parquet":
        pq.write_table(made, path)
    else:
        with pa.ipc.new_file(path, made.schema) as file:
            file.write_table(made)


class TestFiles:
    def test_natural_order_hidden_and_below(self, tmp_path: Path) -> None:
        for name in ("p10.npy", "p9.npy", ".p1.npy", "_x/p0.npy", "y=2/p1.npy", "y=10/p1.npy"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        found = list_files(str(tmp_path))
        assert found is not None
        names = [str(file.relative_to(tmp_path)) for file in found]
        assert names == ["p9.npy", "p10.npy", "y=2/p1.npy", "y=10/p1.npy"]
        assert list_files(f"{tmp_path}/y=*") == found[2:]
        assert list_files(f"{tmp_path}/**/p1.npy") == found[2:]

    def test_a_name_that_exists_is_no_pattern(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a[1].npy", ROWS)
        assert list_files(str(tmp_path / "a[1].npy")) is None
        assert len(DataFile(str(tmp_path / "a[1].npy")).open()) == 20

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"\*\.npy: no file matches this pattern; check the folder"):
            DataFile(str(tmp_path / "*.npy")).open()
        with pytest.raises(DataError, match="is a folder without files; check the path"):
            DataFile(str(tmp_path)).open()
        (tmp_path / "parts").mkdir()
        with pytest.raises(DataError, match=r"part: no such file; did you mean 'parts'\?"):
            DataFile(str(tmp_path / "part")).open()
        (tmp_path / "a.txt").write_text("words")
        with pytest.raises(DataError, match=r"is a folder without npy files \(\.npy\)"):
            DataFile(str(tmp_path), kind="npy").open()
        with pytest.raises(DataError, match=r"a.txt: the suffix does not tell the kind of file"):
            DataFile(str(tmp_path)).open()

    def test_kinds(self, tmp_path: Path) -> None:
        folder = shards(tmp_path / "s")
        assert kind_of(str(folder)) == "npy"
        (folder / "notes.txt").touch()
        np.savez(folder / "t.npz", a=ROWS)
        with pytest.raises(DataError, match=r"files of several kinds \(4 npy, 1 npz\)\. Set kind, or"):
            DataFile(str(folder)).open()
        assert len(DataFile(str(folder), kind="npy").open()) == 20
        with pytest.raises(DataError, match="if they are npy, parquet, arrow, csv, image; name one npz file"):
            DataFile(str(folder / "*.npz")).open()
        with pytest.raises(
            DataError, match="key is for npz, hdf5, zarr, anndata files, and this one is read as npy"
        ):
            DataFile(str(folder / "*.npy"), key="a").open()
        for file in folder.glob("s*.npy"):
            file.rename(file.with_suffix(".bin"))
        assert len(DataFile(str(folder / "*.bin"), kind="npy").open()) == 20


class TestReading:
    def test_only_touched_files_are_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = DataFile(str(shards(tmp_path / "s"))).open()
        opened: list[str] = []
        real = np.load
        monkeypatch.setattr(
            np, "load", lambda file, **how: (opened.append(Path(file).name), real(file, **how))[1]
        )
        source[6:9]
        assert opened == ["s1.npy"]
        source[np.array([19, 0, 18])]
        assert opened == ["s1.npy", "s0.npy", "s3.npy"]
        source[0:20]  # those that are open stay open
        assert opened == ["s1.npy", "s0.npy", "s3.npy", "s2.npy"]

    def test_only_touched_tables_are_read(self, tmp_path: Path) -> None:
        folder = tables(tmp_path / "t", {"a": [1.0, 2.0]}, {"a": [3.0, 4.0]}, {"a": [5.0]})
        source = DataFile(str(folder)).open()
        (folder / "t1.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
        assert source[0:2].tolist() == [[1], [2]]
        assert source[np.array([4, 0])].tolist() == [[5], [1]]
        with pytest.raises(DataError, match=r"t1.parquet cannot be read as parquet: .*damaged, cut short"):
            source[0:5]

    def test_few_stay_open(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parts_module, "_OPEN_PIECES", 2)
        source = open_npy_parts(sorted(shards(tmp_path / "s").iterdir()), name="s")
        np.testing.assert_array_equal(source[:], ROWS)
        assert len(source._kept) == 2

    def test_what_is_read_whole_takes_no_more_than_it_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not even while the next piece is opened: the others go first."""
        held: list[int] = []
        real = table_parts._TablePiece.open

        def watched(piece: table_parts._TablePiece) -> object:
            held.append(8 * (sum(source._pieces[i].rows for i in source._kept) + piece.rows))
            return real(piece)

        monkeypatch.setattr(table_parts._TablePiece, "open", watched)
        folder = tables(tmp_path / "t", *({"a": np.ones(n)} for n in (10, 10, 40, 10, 10, 10)))
        for limit, most, at_once in ((1 << 26, 720, 720), (240, 320, 320), (400, 400, 400)):
            monkeypatch.setattr(parts_module, "_OPEN_BYTES", limit)
            source = DataFile(str(folder)).open()
            assert isinstance(source, parts_module.Parts)
            held.clear()
            assert source[:].sum() == 90
            assert (source.kept_bytes, max(held)) == (most, at_once)
        assert open_npy_parts(sorted(shards(tmp_path / "s").iterdir()), name="s").kept_bytes == 0

    def test_shards_of_other_types_and_a_shard_that_shrank(self, tmp_path: Path) -> None:
        folder = shards(tmp_path / "s")
        np.save(folder / "s1.npy", ROWS[5:10].astype(">i2"))
        source = DataFile(str(folder)).open()
        assert source.dtype == np.float64
        np.testing.assert_array_equal(source[:], ROWS)
        source = DataFile(str(folder)).open()
        np.save(folder / "s1.npy", ROWS[5:9])
        with pytest.raises(DataError, match=r"s1.npy had 5 rows and has 4 now; start again"):
            source[6:8]

    @pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
    def test_missing_cells_and_other_types(self, tmp_path: Path, suffix: str) -> None:
        folder = tables(
            tmp_path / "t",
            {"a": pa.array([1, 2], pa.int8()), "b": [True, False]},
            {"a": pa.array([3, None], pa.int64()), "b": [True, True]},
            {"b": pa.array([0, 1], pa.uint8()), "a": pa.array([0.5, 6.0], pa.float32())},
            suffix=suffix,
        )
        source = DataFile(str(folder)).open()
        assert source.dtype == np.float64
        expected = [[1, 1], [2, 0], [3, 1], [np.nan, 1], [0.5, 0], [6, 1]]
        np.testing.assert_array_equal(source[0:6], expected)
        np.testing.assert_array_equal(source[np.array([4, 0])], [[0.5, 0], [1, 1]])
        with pytest.raises(DataError, match=rf"t: row 1 of .*t1{suffix} \(row 3 of all\), column 'a' is NaN"):
            compute_moments(source)
        with pytest.raises(DataError, match=rf"row 1 of .*t1{suffix} \(row 3 of all\), column 'a' is NaN"):
            compute_moments(SelectColumns(source, ("a",)))
        assert DataFile(str(folder), columns=("b",)).open().dtype == np.uint8

    def test_gaps_that_the_footer_is_silent_on(self, tmp_path: Path) -> None:
        made = pa.table({"a": pa.array([1, None]), "b": pa.array([1, 2])})
        pq.write_table(made, tmp_path / "t.parquet", write_statistics=False)
        source = DataFile(str(tmp_path / "*.parquet")).open()
        np.testing.assert_array_equal(source[:], [[1, 1], [np.nan, 2]])
        assert DataFile(str(tmp_path / "*.parquet"), columns=("b",)).open().dtype == np.int64

    @pytest.mark.parametrize("compression", [None, "lz4"])
    def test_a_large_arrow_file_is_read_by_batches(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None
    ) -> None:
        monkeypatch.setattr("vigmm.data.arrow_files.CHUNK", 7)
        made = pa.table({"a": ROWS[:, 0], "b": ["x"] * 20, "c": ROWS[:, 1]})
        with pa.ipc.new_file(
            tmp_path / "t.arrow", made.schema, options=pa.ipc.IpcWriteOptions(compression=compression)
        ) as file:
            file.write_table(made, max_chunksize=3)
        source = DataFile(str(tmp_path / "t.arrow")).open()
        assert isinstance(source, parts_module.Parts)
        assert source.piece_ends is not None
        assert (source.piece_ends.tolist(), source.ignored) == ([6, 12, 18, 20], ("b",))
        np.testing.assert_array_equal(source[:], ROWS)
        index = np.array([19, 0, 6, 5, 12])
        np.testing.assert_array_equal(source[index], ROWS[index])


class TestDisagreement:
    def test_columns(self, tmp_path: Path) -> None:
        folder = tables(tmp_path / "t", {"a": [1.0], "b": [1.0]}, {"a": [1.0]})
        with pytest.raises(DataError, match=r"t1.parquet has no column 'b', which .*t0.parquet has\. Choose"):
            DataFile(str(folder)).open()
        assert DataFile(str(folder), columns=("a",)).open()[:].tolist() == [[1], [1]]
        with pytest.raises(DataError, match=r"t1.parquet has no column 'b'\. It has: a"):
            DataFile(str(folder), columns=("a", "b")).open()
        folder = tables(tmp_path / "u", {"a": [1.0]}, {"a": [1.0], "b": [1.0]})
        with pytest.raises(DataError, match=r"t1.parquet has a column 'b', which .*t0.parquet has not"):
            DataFile(str(folder)).open()

    @pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
    def test_a_name_twice(self, tmp_path: Path, suffix: str) -> None:
        twice = pa.table([[1.0], [2.0], [3.0]], names=["a", "a", "b"])
        for folder, first in (("t", twice), ("u", twice.select([0, 2]))):
            (tmp_path / folder).mkdir()
            for number, made in ((0, first), (1, twice)):
                write(made, tmp_path / folder / f"{number}{suffix}")
            with pytest.raises(
                DataError, match=r"(parquet|arrow) has 2 columns called 'a'; give them different names"
            ):
                DataFile(str(tmp_path / folder)).open()
            with_b = DataFile(str(tmp_path / folder), columns=("b",)).open()
            np.testing.assert_array_equal(with_b[:], [[3], [3]])

    def test_types(self, tmp_path: Path) -> None:
        folder = tables(
            tmp_path / "t", {"a": [1.0], "b": [2]}, {"a": ["1"], "b": [2]}, {"a": ["x"], "b": [2]}
        )
        for columns in (None, ("a",)):
            with pytest.raises(
                DataError,
                match=r"t1.parquet: column 'a' is not numeric but string: row 0 holds '1' .*t0.parquet it is",
            ):
                DataFile(str(folder), columns=columns).open()
        (folder / "t0.parquet").unlink()
        source = DataFile(str(folder)).open()
        assert (source.columns, getattr(source, "ignored", None)) == (("b",), ("a",))
        pq.write_table(pa.table({"a": [1.0], "b": [2]}), folder / "t9.parquet")
        with pytest.raises(DataError, match=r"t9.parquet: column 'a' is double, but string in .*t1.parquet"):
            DataFile(str(folder)).open()
        with pytest.raises(DataError, match=r"t2.parquet: column 'a' is not numeric .* row 0 holds 'x'"):
            DataFile(str(folder / "t2*"), columns=("a",)).open()
        words = tables(tmp_path / "w", {"a": ["x"]})
        with pytest.raises(DataError, match=r"t0.parquet has no numeric column; it has: a \(string\)"):
            DataFile(str(words)).open()

    def test_a_column_of_shards(self, tmp_path: Path) -> None:
        source = DataFile(str(shards(tmp_path / "s")), columns=("x1",)).open()
        np.testing.assert_array_equal(source[3:17], ROWS[3:17, 1:])
        with pytest.raises(DataError, match=r"s has no column 'x2'.* It has: x0, x1"):
            DataFile(str(tmp_path / "s"), columns=("x2",)).open()

    def test_widths_of_shards(self, tmp_path: Path) -> None:
        folder = shards(tmp_path / "s")
        np.save(folder / "s2.npy", ROWS[:, :1])
        with pytest.raises(DataError, match=r"s2.npy has 1 columns, but .*s0.npy has 2: all parts need"):
            DataFile(str(folder)).open()

    def test_damage_and_no_rows(self, tmp_path: Path) -> None:
        folder = tables(tmp_path / "t", {"a": [1.0]}, {"a": [1.0]}, suffix=".arrow")
        (folder / "t1.arrow").write_bytes((folder / "t1.arrow").read_bytes()[:-20])
        for path in (folder, folder / "t1.arrow"):
            with pytest.raises(DataError, match=r"t1.arrow cannot be read as arrow: .*damaged, cut short"):
                DataFile(str(path)).open()
        (folder / "t1.arrow").write_bytes(b"")
        with pytest.raises(DataError, match=r"t1.arrow is empty \(0 bytes\)"):
            DataFile(str(folder)).open()
        none = tables(tmp_path / "none", {"a": pa.array([], pa.float64())})
        with pytest.raises(DataError, match=r"none has no rows \(columns: a\)"):
            DataFile(str(none)).open()


class TestFingerprint:
    @pytest.mark.parametrize("large", [False, True])
    def test_changes_with_the_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
    ) -> None:
        if large:  # as if every byte were too much: two samples of one row each
            monkeypatch.setattr("vigmm.data.protocol._HASH_WHOLE", 32)
            monkeypatch.setattr("vigmm.data.protocol._HASH_BLOCKS", 2)
        folder = shards(tmp_path / "s")

        def digest() -> str:
            return DataFile(str(folder)).open().fingerprint()

        first = digest()
        assert first.startswith("sha256-sampled:" if large else "sha256:")
        assert digest() == first
        np.save(folder / "s9.npy", ROWS[:1])
        assert digest() != first
        (folder / "s9.npy").unlink()
        assert digest() == first
        kept = (folder / "s1.npy").stat()
        changed = ROWS[5:10].copy()
        changed[2, 1] += 1
        np.save(folder / "s1.npy", changed)
        if large:  # of the same size, in a row that is no sample
            os.utime(folder / "s1.npy", ns=(kept.st_atime_ns, kept.st_mtime_ns + 1))
        assert digest() != first
        (folder / "s1.npy").unlink()
        assert digest() != first


class TestWhatHappensLater:
    """The files of a run that has begun are damaged, changed or removed."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        made = tables(tmp_path / "t", {"a": [1.0, 2.0]}, {"a": [3.0, 4.0]})
        pq.write_table(
            pa.table({"a": np.random.default_rng(0).normal(size=90)}), made / "t2.parquet", row_group_size=30
        )
        return made

    def test_cut_short(self, folder: Path) -> None:
        source = DataFile(str(folder)).open()
        path = folder / "t2.parquet"
        path.write_bytes(path.read_bytes()[:300])
        with pytest.raises(
            DataError, match=r"row group 2 of .*t2.parquet cannot be read as parquet: .*cut short"
        ):
            source[80:90]

    def test_removed(self, folder: Path) -> None:
        source = DataFile(str(folder)).open()
        (folder / "t1.parquet").unlink()
        assert source[:2].tolist() == [[1], [2]]
        with pytest.raises(DataError, match=r"row group 0 of .*t1.parquet is no longer there; put it back"):
            source[:4]

    @pytest.mark.parametrize("content", [{"b": [3.0, 4.0]}, {"a": ["x", "y"]}, {"a": [3.0]}, {"a": [3, 4]}])
    def test_replaced(self, folder: Path, content: dict[str, list[object]]) -> None:
        source = DataFile(str(folder)).open()
        write(pa.table(content), folder / "t1.parquet")
        with pytest.raises(DataError, match=r"t1.parquet (has changed since|cannot be read)"):
            source[2:4]
