"""One contract for every source: the same rows as one array, however they are stored, to the last bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image
from pyarrow import feather
from scipy.sparse import csr_matrix

from vigmm.core.errors import DataError
from vigmm.data import csv_parts
from vigmm.data.chunks import open_chunks
from vigmm.data.protocol import blocks, check_finite
from vigmm.data.sources import MANY, SOURCES, ArraySource, DataFile, Source

N, CUTS = 57, (0, 11, 11, 30, 57)  # four parts, one of them empty
COLUMNS = ("a", "b", "c")
ROWS = np.random.default_rng(0).normal(size=(N, 3))
TWICE = np.column_stack([ROWS, -ROWS])
WHOLE = np.random.default_rng(1).integers(0, 256, (N, 3)).astype(np.uint8)
PATCHES = np.random.default_rng(1).integers(0, 256, (N, 12)).astype(np.uint8)
NAMES = (COLUMNS, ("x0", "x1", "x2"), ("r", "g", "b"), ("x1", "x0", "x3"))


def table(rows: np.ndarray) -> pa.Table:
    return pa.table({name: rows[:, i] for i, name in enumerate(COLUMNS)})


def parts(folder: Path, suffix: str, write: Callable[[np.ndarray, Path], None]) -> Path:
    """Part 0, 1, 2 and 10, so that the order of names is not that of the alphabet."""
    folder.mkdir()
    for number, low, high in zip((0, 1, 2, 10), CUTS, CUTS[1:], strict=False):
        write(ROWS[low:high], folder / f"part-{number}{suffix}")
    (folder / "_SUCCESS").touch()
    return folder


def write_parquet(rows: np.ndarray, path: Path) -> None:
    pq.write_table(table(rows), path, row_group_size=7)


def write_arrow(rows: np.ndarray, path: Path) -> None:
    with pa.ipc.new_file(path, table(rows).schema) as file:
        file.write_table(table(rows), max_chunksize=7)


def write_npy(rows: np.ndarray, path: Path) -> None:
    if len(rows):  # an empty shard is refused, as an empty file is
        np.save(path, rows)


def write_anndata(
    path: Path, x: Any, *, names: tuple[str, ...], layers: dict[str, Any] | None = None
) -> None:
    """A file as anndata 0.12 writes it, in the parts that matter."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for group, index in (("obs", [f"cell{i}" for i in range(x.shape[0])]), ("var", list(names))):
            made = file.create_group(group)
            made.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
            made["_index"] = index
        for key, matrix in {
            "X": x,
            **{f"layers/{name}": one for name, one in (layers or {}).items()},
        }.items():
            if isinstance(matrix, np.ndarray):
                file[key] = matrix
                file[key].attrs["encoding-type"] = "array"
                continue
            made = file.create_group(key)
            made.attrs.update({"encoding-type": f"{matrix.format}_matrix", "shape": matrix.shape})
            made.update({"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr})


def make_npy(folder: Path) -> DataFile:
    np.save(folder / "x.npy", ROWS)
    return DataFile(str(folder / "x.npy"))


def make_npz(folder: Path) -> DataFile:
    np.savez(folder / "x.npz", rows=ROWS, other=ROWS[:2])
    return DataFile(str(folder / "x.npz"), key="rows")


def write_csv(rows: np.ndarray, path: Path) -> None:
    lines = [",".join(COLUMNS), *(",".join(map(repr, row)) for row in rows.tolist())]
    path.write_text("\n".join(lines) + "\n")


def make_csv(folder: Path) -> DataFile:
    write_csv(ROWS, folder / "x.csv")
    return DataFile(str(folder / "x.csv"))


class InBlocks(DataFile):
    """Opens a text file as if it were large."""

    def open(self) -> Source:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv_parts, "BLOCK", 300)
            patch.setattr(csv_parts, "_KEPT", 0)
            return super().open()


def make_csv_blocks(folder: Path) -> DataFile:
    return InBlocks(make_csv(folder).path)


def make_parquet(folder: Path) -> DataFile:
    write_parquet(ROWS, folder / "x.parquet")
    return DataFile(str(folder / "x.parquet"))


def make_arrow(folder: Path) -> DataFile:
    write_arrow(ROWS, folder / "x.arrow")
    return DataFile(str(folder / "x.arrow"))


def make_arrow_stream(folder: Path) -> DataFile:
    with pa.ipc.new_stream(folder / "x.arrow", table(ROWS).schema) as file:
        file.write_table(table(ROWS), max_chunksize=7)
    return DataFile(str(folder / "x.arrow"), columns=COLUMNS)


def make_feather(folder: Path) -> DataFile:
    feather.write_feather(table(ROWS), folder / "x.feather", compression="lz4", chunksize=7)
    return DataFile(str(folder / "x.feather"))


def make_image(folder: Path) -> DataFile:
    Image.fromarray(WHOLE[None]).save(folder / "x.png")
    return DataFile(str(folder / "x.png"))


def write_image(rows: np.ndarray, path: Path) -> None:
    if len(rows):
        Image.fromarray(rows.astype(np.uint8)[None]).save(path)


def make_image_folder(folder: Path) -> DataFile:
    folder = parts(folder / "p", ".png", lambda rows, path: None)
    for number, low, high in zip((0, 1, 2, 10), CUTS, CUTS[1:], strict=False):
        write_image(WHOLE[low:high], folder / f"part-{number}.png")
    return DataFile(str(folder))


def make_image_patch(folder: Path) -> DataFile:
    # Squares of 2 x 2 in two lines of pixels, then a line and a column that are left out.
    picture = np.zeros((3, 2 * N + 1, 3), np.uint8)
    picture[:2, :-1] = PATCHES.reshape(N, 2, 2, 3).transpose(1, 0, 2, 3).reshape(2, 2 * N, 3)
    Image.fromarray(picture).save(folder / "x.png")
    return DataFile(str(folder / "x.png"), patch=2)


def make_hdf5(folder: Path) -> DataFile:
    with h5py.File(folder / "x.h5", "w") as file:
        file["group/rows"] = ROWS
        file["other"] = ROWS[:2]
    return DataFile(str(folder / "x.h5"), key="/group/rows")


def make_zarr(folder: Path) -> DataFile:
    store = zarr.open_group(folder / "x.zarr", mode="w")
    store.create_array("group/rows", data=ROWS, chunks=(10, 2))
    store.create_array("other", data=ROWS[:2])
    return DataFile(str(folder / "x.zarr"), key="/group/rows")


def make_zarr_2(folder: Path) -> DataFile:
    zarr.create_array(folder / "x", data=ROWS, chunks=(7, 3), zarr_format=2)
    return DataFile(str(folder / "x"), kind="zarr")


def make_anndata(folder: Path) -> DataFile:
    write_anndata(folder / "x.h5ad", np.zeros((N, 3)), names=COLUMNS, layers={"counts": ROWS})
    return DataFile(str(folder / "x.h5ad"), key="layers/counts")


def make_anndata_sparse(folder: Path) -> DataFile:
    write_anndata(folder / "x.h5ad", csr_matrix(ROWS), names=COLUMNS)
    return DataFile(str(folder / "x.h5ad"))


def make_duckdb(folder: Path) -> DataFile:
    write_parquet(ROWS, folder / "x.parquet")
    return DataFile(f"duckdb:SELECT c, a, b, 'word' AS w FROM '{folder}/x.parquet'", columns=COLUMNS)


def make_npy_folder(folder: Path) -> DataFile:
    return DataFile(str(parts(folder / "p", ".npy", write_npy)))


def make_npy_pattern(folder: Path) -> DataFile:
    return DataFile(str(parts(folder / "p", ".npy", write_npy) / "*.npy"))


def make_parquet_folder(folder: Path) -> DataFile:
    return DataFile(str(parts(folder / "p", ".parquet", write_parquet)))


def make_parquet_columns(folder: Path) -> DataFile:
    def shuffled(rows: np.ndarray, path: Path) -> None:
        order = ("c", "a", "b") if "-2" in path.name else ("b", "c", "a")
        pq.write_table(table(rows).select(order).append_column("w", [["x"] * len(rows)]), path)

    return DataFile(str(parts(folder / "p", ".pq", shuffled) / "part-*.pq"), columns=COLUMNS)


def make_arrow_folder(folder: Path) -> DataFile:
    return DataFile(str(parts(folder / "p", ".arrow", write_arrow)))


def make_npy_skip(folder: Path) -> DataFile:
    bad = np.insert(ROWS, [0, 11, 11, 30, N], ROWS[:5], axis=0)
    bad[[0, 12, 13, 33, N + 4], [0, 1, 2, 0, 1]] = [np.nan, np.inf, -np.inf, np.nan, np.nan]
    np.save(folder / "x.npy", bad)
    return DataFile(str(folder / "x.npy"), on_bad_rows="skip")


def make_parquet_skip(folder: Path) -> DataFile:
    write_parquet(np.insert(ROWS, [5, 20], np.nan, axis=0), folder / "x.parquet")
    return DataFile(str(folder / "x.parquet"), on_bad_rows="skip")


def make_csv_folder(folder: Path) -> DataFile:
    return DataFile(str(parts(folder / "p", ".csv", write_csv)))


class Chunked(DataFile):
    """Opens rows that come in chunks."""

    def open(self) -> Source:
        return open_chunks((ROWS[low:high] for low, high in itertools.pairwise(CUTS)), columns=COLUMNS)


def make_chunks(folder: Path) -> DataFile:
    return Chunked("chunks")


def make_chosen(folder: Path) -> DataFile:
    np.save(folder / "x.npy", TWICE)
    return DataFile(str(folder / "x.npy"), columns=("x1", "x0", "x3"))


MAKERS = {name.removeprefix("make_"): make for name, make in list(globals().items()) if name[:5] == "make_"}


@pytest.fixture(scope="module", params=sorted(MAKERS))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Source, np.ndarray]:
    source = MAKERS[request.param](tmp_path_factory.mktemp(request.param)).open()
    others = {
        "image": WHOLE,
        "image_folder": WHOLE,
        "image_patch": PATCHES,
        "chosen": TWICE[:, [1, 0, 3]],
    }
    return source, others.get(request.param, ROWS)


def same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.contract
def test_every_kind_is_here():
    kinds = {name.partition("_")[0] for name in MAKERS}
    assert set(SOURCES) <= kinds
    assert {f"{kind}_folder" for kind in MANY} <= set(MAKERS)


@pytest.mark.contract
class TestContract:
    def test_shape_type_and_names(self, pair: tuple[Source, np.ndarray]) -> None:
        source, rows = pair
        assert (len(source), source.dim, source.dtype) == (*rows.shape, rows.dtype)
        assert source.dtype.isnative
        assert len(source.columns) == source.dim
        assert isinstance(source.name, str)
        assert source.columns in NAMES or source.columns[:4] == ("r_0_0", "g_0_0", "b_0_0", "r_0_1")

    @pytest.mark.parametrize(
        "index",
        [
            *(slice(*bounds) for bounds in ((None,), (3, 9), (9, 40), (11, 30), (50, 500), (-5, None))),
            *(
                slice(*bounds)
                for bounds in ((5, 5), (40, 9), (500, 600), (2, 50, 7), (50, 2, -7), (None, None, -1))
            ),
        ],
        ids=str,
    )
    def test_slices(self, pair: tuple[Source, np.ndarray], index: slice) -> None:
        same(pair[0][index], pair[1][index])

    @pytest.mark.parametrize(
        "index",
        [
            np.array([3]),
            np.array([56, 0, 30, 11, 10, 29, 0]),
            np.array([], np.int64),
            np.array([-1, -57, 5]),
            np.array([7, 56], np.uint32),
            np.random.default_rng(2).permutation(N),
        ],
        ids=["one", "unordered", "none", "negative", "unsigned", "all"],
    )
    def test_index_arrays(self, pair: tuple[Source, np.ndarray], index: np.ndarray) -> None:
        same(pair[0][index], pair[1][index])

    @pytest.mark.parametrize("index", [[57], [-58], [0, 1000]])
    def test_out_of_range(self, pair: tuple[Source, np.ndarray], index: list[int]) -> None:
        with pytest.raises(IndexError):
            pair[0][np.array(index)]

    @pytest.mark.parametrize("size", [1, 10, 57, 1000])
    def test_blocks(self, pair: tuple[Source, np.ndarray], size: int) -> None:
        source, rows = pair
        same(np.concatenate([block for _, block in blocks(source, size=size)]), rows)
        index = np.random.default_rng(3).permutation(N)[:40]
        same(np.concatenate([block for _, block in blocks(source, index=index, size=size)]), rows[index])

    def test_digest_is_that_of_the_array(self, pair: tuple[Source, np.ndarray]) -> None:
        source, rows = pair
        assert source.fingerprint() == ArraySource(rows).fingerprint()

    def test_a_bad_row_is_named(self, pair: tuple[Source, np.ndarray]) -> None:
        source, rows = pair
        block = rows[20:40].astype(np.float64)
        block[4, 1] = np.nan
        with pytest.raises(DataError) as caught:
            check_finite(block, source, start=20)
        words = str(caught.value)
        assert words.startswith(source.name)
        assert f"column {source.columns[1]!r} is NaN" in words
        assert "row 24" in words
        many = "/p/" in f"{source.name}/"  # the folder of those makers that write several files
        assert (" of all)" in words) == many, "the file is named where there are several, and only there"
