"""One array of a Zarr store, read as it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.files import choose_key, locate, place, reading
from vigmm.data.parts import Parts
from vigmm.data.slices import open_slices

__all__ = ["open_zarr"]


def open_zarr(path: str | Path, *, key: str | None = None) -> Parts:
    """An array of one or two dimensions in a Zarr store (format 2 or 3), which is a folder of chunks.

    Args:
        path: the folder.
        key: path of the array inside the store; not needed if there is only one.

    Raises:
        DataError: as for `vigmm.data.numpy_files.open_npz`, and if zarr is not installed.
    """
    name, store = str(path), place(path)
    if not store.is_dir():
        locate(path)  # says what is wrong, if there is nothing
        raise DataError(f"{name} is a file, and a Zarr store is a folder; check the path")
    with reading(name, "zarr"):
        array = _array(store, key, name)
        rows = array.chunks[0] if array.ndim else 1

    def read(start: int, stop: int) -> np.ndarray:
        with reading(name, "zarr"):
            return np.asarray(array[start:stop])

    return open_slices(store, array.shape, read, name=name, chunk=rows)


def _array(store: Path, key: str | None, name: str) -> Any:
    """The array that is meant, of a store that is one or holds some."""
    try:
        import zarr
    except ImportError as error:
        raise DataError(f"{name}: reading Zarr needs zarr; pip install 'vigmm[zarr]'") from error
    root = zarr.open(store, mode="r")
    if isinstance(root, zarr.Array):
        if key is not None:
            raise DataError(f"{name} is one array, so that there is nothing to choose with key; leave it out")
        return root
    arrays = {path: node for path, node in root.members(max_depth=None) if isinstance(node, zarr.Array)}
    keys = tuple(sorted(arrays))
    return arrays[choose_key(None if key is None else key.strip("/"), keys, "array", name)]
