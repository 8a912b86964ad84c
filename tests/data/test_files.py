"""Files as sources: each kind read, chosen by suffix or by name, and each kind of damage explained."""

from __future__ import annotations

import gzip
import mmap
from pathlib import Path

import numpy as np
import pytest

from vigmm.core.errors import DataError, SpecError
from vigmm.core.struct import is_spec
from vigmm.data.files import locate
from vigmm.data.numpy_files import open_npy, open_npz
from vigmm.data.sources import SOURCES, ArraySource, DataFile, open_source

ROWS = np.arange(12.0).reshape(4, 3)


@pytest.fixture
def npy(tmp_path: Path) -> Path:
    path = tmp_path / "rows.npy"
    np.save(path, ROWS)
    return path


def test_npy_is_memory_mapped(npy: Path) -> None:
    source = open_source(DataFile(str(npy)))
    assert isinstance(source, ArraySource)
    owner: object = source[0:4]
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner, mmap.mmap)
    assert (source.name, source.dim, len(source), source.columns) == (str(npy), 3, 4, ("x0", "x1", "x2"))
    np.testing.assert_array_equal(source[1:3], ROWS[1:3])
    np.testing.assert_array_equal(source[np.array([2, 0])], ROWS[[2, 0]])
    assert type(source[0:2]) is np.ndarray
    assert source.fingerprint() == ArraySource(ROWS).fingerprint()


@pytest.mark.parametrize(
    "array", [ROWS.astype(">f4"), np.asfortranarray(ROWS), np.arange(5), np.array([True, False])]
)
def test_npy_of_any_layout(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    source = open_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(source[0 : len(source)], array.reshape(len(array), -1))
    assert source.dtype.isnative


def test_columns_of_an_array_file(npy: Path) -> None:
    source = DataFile(str(npy), columns=("x2", "x0")).open()
    assert source[0:1].tolist() == [[2.0, 0.0]]
    with pytest.raises(DataError, match=r"rows.npy has no column 'a'\. It has: x0, x1, x2"):
        DataFile(str(npy), columns=("a",)).open()


def test_npz(tmp_path: Path) -> None:
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    np.savez(one, rows=ROWS)
    np.savez_compressed(two, train=ROWS, test=ROWS[:2])
    np.testing.assert_array_equal(DataFile(str(one)).open()[0:4], ROWS)
    source = DataFile(str(two), key="test").open()
    assert isinstance(source, ArraySource)
    assert (len(source), source.dim, source.dtype) == (2, 3, np.float64)
    assert source.fingerprint() == ArraySource(ROWS[:2]).fingerprint()
    with pytest.raises(DataError, match=r"two.npz holds 2 arrays \(train, test\); choose one with key"):
        DataFile(str(two)).open()
    with pytest.raises(DataError, match=r"has no array 'tets'; did you mean 'test'\? It has: train, test"):
        DataFile(str(two), key="tets").open()


class TestPaths:
    def test_missing_file_suggests_its_neighbour(self, npy: Path) -> None:
        with pytest.raises(DataError, match=r"row\.npy: no such file; did you mean 'rows.npy'\?"):
            DataFile(str(npy.with_name("row.npy"))).open()
        with pytest.raises(DataError, match=r"/nowhere/at/all\.npy: no such file; check the path$"):
            DataFile("/nowhere/at/all.npy").open()

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="is a folder; name one file in it"):
            open_npy(tmp_path)

    @pytest.mark.parametrize("kind", sorted(kind for kind in SOURCES if SOURCES[kind].suffixes))
    def test_empty_file(self, tmp_path: Path, kind: str) -> None:
        (tmp_path / "empty").touch()
        with pytest.raises(DataError, match=r"empty is empty \(0 bytes\)"):
            DataFile(str(tmp_path / "empty"), kind=kind).open()

    def test_home_folder(self, npy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(npy.parent))
        assert locate("~/rows.npy") == npy

    def test_url(self) -> None:
        with pytest.raises(DataError, match="only local files can be read; download it first"):
            DataFile("https://host/rows.npy").open()

    def test_file_of_a_package_without_importing_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "datapack_for_test"
        (package / "inner").mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('imported')")
        np.save(package / "inner" / "rows.npy", ROWS)
        monkeypatch.syspath_prepend(tmp_path)
        source = DataFile("pkg://datapack_for_test.inner/rows.npy").open()
        assert source.name == "pkg://datapack_for_test.inner/rows.npy"
        np.testing.assert_array_equal(source[0:4], ROWS)
        assert locate("pkg://datapack_for_test/inner/rows.npy").is_file()
        np.testing.assert_array_equal(DataFile("pkg://datapack_for_test/inner").open()[:], ROWS)
        with pytest.raises(DataError, match=r"no such file; did you mean 'rows.npy'\?"):
            locate("pkg://datapack_for_test.inner/rowz.npy")

    def test_bad_package_paths(self) -> None:
        with pytest.raises(DataError, match="there is no installed package 'no_such_pack'; install it"):
            locate("pkg://no_such_pack/rows.npy")
        for path in ("pkg://numpy", "pkg:///rows.npy", "pkg://numpy/../secret", "pkg://nu-mpy/x"):
            with pytest.raises(DataError, match=r"write pkg://package.name/file"):
                locate(path)


class TestDamage:
    def test_npy_cut_short(self, npy: Path) -> None:
        whole = npy.read_bytes()
        for length in (len(whole) - 8, 40):
            npy.write_bytes(whole[:length])
            with pytest.raises(DataError, match=r"rows.npy cannot be read as npy: .*cut short") as caught:
                open_npy(npy)
            assert caught.value.__cause__ is not None

    def test_npz_cut_short(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        np.savez(path, rows=np.zeros((100, 3)))
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(DataError, match=r"a.npz cannot be read as npz: .*cut short"):
            open_npz(path)

    def test_another_kind_of_file(self, tmp_path: Path, npy: Path) -> None:
        text = tmp_path / "text.npy"
        text.write_text("a,b\n1,2\n")
        with pytest.raises(DataError, match=r"text.npy is no npy file, by its first bytes"):
            open_npy(text)
        with pytest.raises(DataError, match=r"rows.npy is no npz file, by its first bytes"):
            open_npz(npy)

    def test_pickled_objects_are_never_loaded(self, tmp_path: Path) -> None:
        objects = np.array([{"a": 1}], object)
        np.save(tmp_path / "o.npy", objects, allow_pickle=True)
        np.savez(tmp_path / "o.npz", o=objects)
        for name, opens in (("o.npy", open_npy), ("o.npz", open_npz)):
            with pytest.raises(DataError, match=f"{name}: it holds Python objects, which could run code"):
                opens(tmp_path / name)

    @pytest.mark.parametrize(
        ("shape", "message"), [((0, 3), "empty: it has 0 rows"), ((2, 2, 2), "has shape")]
    )
    def test_wrong_shape(self, tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
        np.save(tmp_path / "a.npy", np.zeros(shape))
        np.savez(tmp_path / "a.npz", np.zeros(shape))
        for kind in (SOURCES["npy"], SOURCES["npz"]):
            with pytest.raises(DataError, match=message):
                kind.open(tmp_path / f"a{kind.suffixes[0]}")


class TestChoosing:
    def test_kind_overrides_the_suffix(self, npy: Path) -> None:
        odd = npy.rename(npy.with_suffix(".dat"))
        assert len(DataFile(str(odd), kind="npy").open()) == 4
        with pytest.raises(
            DataError, match=r"rows.dat: the suffix does not tell .* npy \(\.npy\); npz .* csv"
        ):
            DataFile(str(odd)).open()

    def test_suffix_in_capitals_and_compressed(self, tmp_path: Path) -> None:
        (tmp_path / "A.CSV").write_text("a,b\n1,2\n")
        assert DataFile(str(tmp_path / "A.CSV")).open().columns == ("a", "b")
        (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a;b\n1;2\n"))
        assert DataFile(str(tmp_path / "a.csv.gz")).open()[0:1].tolist() == [[1, 2]]

    def test_options_of_another_kind(self, npy: Path) -> None:
        with pytest.raises(
            DataError,
            match=r"rows.npy: key is for npz, hdf5, zarr, anndata files, and this one is read as npy",
        ):
            DataFile(str(npy), key="a").open()
        with pytest.raises(DataError, match=r"rows.npy: xy is for image files, and this one is read as npy"):
            DataFile(str(npy), xy=True).open()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"path": ""}, "path must be the path of a file, got ''"),
            (
                {"kind": "cvs"},
                r"kind must be one of anndata, arrow, csv, .* parquet, zarr; did you mean 'csv'\?",
            ),
            ({"columns": ()}, r"columns must be a non-empty tuple of column names, got \(\)"),
            ({"columns": "ab"}, "columns must be a non-empty tuple of column names, got 'ab'"),
            ({"columns": ("a", "a")}, "columns must be different names"),
        ],
    )
    def test_spec_is_checked(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(SpecError, match=message):
            DataFile(**{"path": "a.npy", **options})

    def test_is_a_spec(self) -> None:
        chosen = DataFile("a.csv", columns=("a", "b"))
        assert is_spec(chosen)
        assert hash(chosen) == hash(DataFile(path="a.csv", columns=("a", "b")))

    @pytest.mark.contract
    @pytest.mark.parametrize("kind", sorted(SOURCES))
    def test_every_row_of_the_table_says_what_it_reads(self, kind: str) -> None:
        row = SOURCES[kind]
        assert row.suffixes or row.prefixes
        assert all(prefix.endswith(":") and prefix == prefix.lower() for prefix in row.prefixes)
        assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in row.suffixes)
        others = [SOURCES[name] for name in SOURCES if name != kind]
        assert not set(row.suffixes) & {suffix for other in others for suffix in other.suffixes}
        assert not set(row.prefixes) & {prefix for other in others for prefix in other.prefixes}
