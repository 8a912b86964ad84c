"""AnnData (``.h5ad``), the format of single-cell data: the matrix, a layer or an embedding.

Read by h5py, for the layout of the file is documented ("On-disk format" in anndata's documentation) and
versioned, and anndata itself would bring pandas and a start-up of seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.files import choose_key, locate, reading
from vigmm.data.hdf5 import hdf5_library
from vigmm.data.parts import Parts
from vigmm.data.slices import ReadRange, open_slices

__all__ = ["open_anndata"]

_GROUPS = ("layers", "obsm")
_SPARSE = ("csr_matrix", "csc_matrix")


def open_anndata(path: str | Path, *, key: str | None = None) -> Parts:
    """Cells as rows. Sparse matrices are stored by rows (CSR) and become dense piece by piece.

    Args:
        path: file, or ``pkg://package/file``.
        key: ``X`` (the default), ``layers/NAME``, ``obsm/NAME`` or ``raw/X``. Columns of ``X`` and of layers
            have the names of the variables (genes).

    Raises:
        DataError: as for `vigmm.data.hdf5.open_hdf5`, and for a matrix that is stored by columns.
    """
    name, file = str(path), locate(path)
    library = hdf5_library(name)
    with reading(name, "AnnData"), library.File(file, "r") as opened:
        if "var" not in opened or "obs" not in opened:
            raise DataError(f"{name} is no AnnData file, for it has no obs and var; set kind to hdf5")
        keys = _keys(opened)
        wanted = "X" if key is None and "X" in keys else key
        chosen = choose_key(wanted and wanted.strip("/"), keys, "matrix", name)
        found = opened[chosen]
        encoding = found.attrs.get("encoding-type")
        if encoding == "csc_matrix":
            raise DataError(
                f"{name}: {chosen} is stored by columns (CSC), and rows cannot be read from it "
                f"one after the other; store it by rows: adata.X = adata.X.tocsr()"
            )
        sparse = encoding == "csr_matrix"
        shape = tuple(int(n) for n in (found.attrs["shape"] if sparse else found.shape))
        chunks = None if sparse else found.chunks
        columns = _variables(opened, chosen, shape)
    read = _rows(library, file, chosen, shape, name, sparse=sparse)
    chunk = chunks[0] if chunks else 1
    return open_slices(file, shape, read, name=name, chunk=chunk, columns=columns)


def _keys(file: Any) -> tuple[str, ...]:
    """Everything in the file that is a matrix with a row per cell."""
    names = ["X", *(f"{group}/{name}" for group in _GROUPS for name in file.get(group, ())), "raw/X"]
    return tuple(name for name in names if name in file and _is_matrix(file[name]))


def _is_matrix(item: Any) -> bool:
    return hasattr(item, "shape") or item.attrs.get("encoding-type") in _SPARSE


def _variables(file: Any, chosen: str, shape: tuple[int, ...]) -> tuple[str, ...] | None:
    """Names of the variables, of a matrix whose columns they are."""
    if chosen.startswith("obsm/"):
        return None
    table = file["raw/var" if chosen == "raw/X" else "var"]
    names = table[table.attrs["_index"]].asstr()[:]
    return tuple(names) if len(shape) == 2 and len(names) == shape[1] else None


def _rows(
    library: Any, file: Path, key: str, shape: tuple[int, ...], name: str, *, sparse: bool
) -> ReadRange:
    def dense(start: int, stop: int) -> np.ndarray:
        with reading(name, "AnnData"), library.File(file, "r") as opened:
            rows: np.ndarray = opened[key][start:stop]
            return rows

    def by_rows(start: int, stop: int) -> np.ndarray:
        from scipy.sparse import csr_matrix

        with reading(name, "AnnData"), library.File(file, "r") as opened:
            found = opened[key]
            ends = found["indptr"][start : stop + 1]
            low, high = int(ends[0]), int(ends[-1])
            values, columns = found["data"][low:high], found["indices"][low:high]
            matrix = csr_matrix((values, columns, ends - low), shape=(len(ends) - 1, shape[1]))
            rows: np.ndarray = matrix.toarray()
            return rows

    return by_rows if sparse else dense
