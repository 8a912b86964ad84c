"""Zarr stores and AnnData files: keys, types, pieces, and what is refused with which words."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from vigmm.core.errors import DataError
from vigmm.data import slices
from vigmm.data.sources import DataFile, kind_of

ROWS = np.arange(60.0).reshape(20, 3)
# Written by anndata 0.12.19: counts as CSR, a dense layer, a layer by columns and an embedding of five cells.
WRITTEN = Path(__file__).parent / "files" / "anndata-0.12.h5ad"
COUNTS = np.arange(15, dtype=np.float32).reshape(5, 3) * np.array([1, 0, 1], np.float32)


class TestZarr:
    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_one_array(self, tmp_path: Path, zarr_format: int) -> None:
        path = tmp_path / "x.zarr"
        zarr.create_array(path, data=ROWS.astype(np.float32), chunks=(6, 3), zarr_format=zarr_format)
        assert kind_of(str(path)) == "zarr"
        source = DataFile(str(path), columns=("x2", "x0")).open()
        assert source.dtype == np.float32
        np.testing.assert_array_equal(source[:], ROWS[:, [2, 0]])
        with pytest.raises(DataError, match=r"x.zarr is one array, .*leave it out"):
            DataFile(str(path), key="a").open()

    def test_pieces_are_whole_chunks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        zarr.create_array(tmp_path / "x.zarr", data=ROWS, chunks=(6, 3))
        monkeypatch.setattr(slices, "_BYTES", 8 * 3 * 13)  # of thirteen rows, two chunks
        source = DataFile(str(tmp_path / "x.zarr")).open()
        assert source.piece_ends.tolist() == [12, 20]
        np.testing.assert_array_equal(source[np.array([19, 0, 12])], ROWS[[19, 0, 12]])

    def test_a_group(self, tmp_path: Path) -> None:
        group = zarr.open_group(tmp_path / "x.zarr", mode="w")
        group.create_array("a/rows", data=ROWS)
        assert len(DataFile(str(tmp_path / "x.zarr")).open()) == 20
        group.create_array("b", data=ROWS[:, 0].astype(np.int16))
        group.create_array("cube", data=ROWS[None])
        with pytest.raises(
            DataError, match=r"x.zarr holds 3 arrays \(a/rows, b, cube\); choose one with key"
        ):
            DataFile(str(tmp_path / "x.zarr")).open()
        with pytest.raises(DataError, match="has no array 'a/row'; did you mean 'a/rows'"):
            DataFile(str(tmp_path / "x.zarr"), key="a/row").open()
        with pytest.raises(DataError, match=r"has shape \(1, 20, 3\)"):
            DataFile(str(tmp_path / "x.zarr"), key="cube").open()
        assert DataFile(str(tmp_path / "x.zarr"), key="b").open().dtype == np.int16

    def test_what_is_no_store(self, tmp_path: Path) -> None:
        zarr.create_array(tmp_path / "x.zarr", data=ROWS)
        with pytest.raises(DataError, match=r"y.zarr: no such file; did you mean 'x.zarr'"):
            DataFile(str(tmp_path / "y.zarr")).open()
        (tmp_path / "file.zarr").write_text("x")
        with pytest.raises(DataError, match=r"file.zarr is a file, and a Zarr store is a folder"):
            DataFile(str(tmp_path / "file.zarr")).open()
        (tmp_path / "empty.zarr").mkdir()
        with pytest.raises(DataError, match=r"empty.zarr cannot be read as zarr"):
            DataFile(str(tmp_path / "empty.zarr")).open()

    def test_damage(self, tmp_path: Path) -> None:
        zarr.create_array(tmp_path / "x.zarr", data=ROWS, chunks=(10, 3))
        source = DataFile(str(tmp_path / "x.zarr")).open()
        for chunk in (tmp_path / "x.zarr" / "c").rglob("0"):
            if chunk.is_file():
                chunk.write_bytes(chunk.read_bytes()[:20])
        with pytest.raises(DataError, match=r"x.zarr cannot be read as zarr: .*damaged, cut short"):
            source[:]

    def test_without_the_library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "x.zarr").mkdir()
        monkeypatch.setitem(sys.modules, "zarr", None)
        with pytest.raises(DataError, match=r"reading Zarr needs zarr; pip install 'vigmm\[zarr\]'"):
            DataFile(str(tmp_path / "x.zarr")).open()


class TestAnnData:
    def test_counts_by_gene(self) -> None:
        source = DataFile(str(WRITTEN)).open()
        assert (source.columns, source.dtype, len(source)) == (("CD4", "CD8A", "MS4A1"), np.float32, 5)
        np.testing.assert_array_equal(source[:], COUNTS)
        np.testing.assert_array_equal(source[np.array([4, 1])], COUNTS[[4, 1]])
        chosen = DataFile(str(WRITTEN), columns=("MS4A1", "CD4")).open()
        np.testing.assert_array_equal(chosen[:], COUNTS[:, [2, 0]])

    def test_layers_and_embeddings(self) -> None:
        layer = DataFile(str(WRITTEN), key="layers/dense").open()
        assert layer.columns == ("CD4", "CD8A", "MS4A1")
        np.testing.assert_array_equal(layer[:], COUNTS + 0.5)
        embedding = DataFile(str(WRITTEN), key="obsm/X_pca").open()
        assert (embedding.columns, embedding.dtype) == (("x0", "x1"), np.float64)
        np.testing.assert_array_equal(embedding[:], COUNTS[:, :2])

    def test_a_sparse_matrix_in_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(slices, "_BYTES", 2 * 3 * 4)
        source = DataFile(str(WRITTEN)).open()
        assert source.piece_ends.tolist() == [2, 4, 5]
        np.testing.assert_array_equal(source[1:5], COUNTS[1:5])

    def test_what_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"layers/columns is stored by columns \(CSC\).*adata.X.tocsr"):
            DataFile(str(WRITTEN), key="layers/columns").open()
        with pytest.raises(DataError, match=r"has no matrix 'layers/dens'; did you mean 'layers/dense'"):
            DataFile(str(WRITTEN), key="layers/dens").open()
        with h5py.File(tmp_path / "x.h5ad", "w") as file:
            file["rows"] = ROWS
        with pytest.raises(DataError, match=r"x.h5ad is no AnnData file.*set kind to hdf5"):
            DataFile(str(tmp_path / "x.h5ad")).open()
        shutil.copy(WRITTEN, tmp_path / "y.h5ad")
        (tmp_path / "y.h5ad").write_bytes(WRITTEN.read_bytes()[:5000])
        with pytest.raises(DataError, match=r"y.h5ad cannot be read as AnnData: .*damaged, cut short"):
            DataFile(str(tmp_path / "y.h5ad")).open()
