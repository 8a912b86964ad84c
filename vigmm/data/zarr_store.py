"""One array of a Zarr store, read as it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.files import choose_key, locate, place, reading
from vigmm.data.protocol import Index, Rows2D
from vigmm.data.slices import SlicedParts

__all__ = ["ZarrSource"]


class ZarrSource:
    """An array of one or two dimensions in a Zarr store (format 2 or 3), which is a folder of chunks.

    Args:
        path: the folder.
        key: path of the array inside the store; not needed if there is only one.
        name: what messages call it; the path by default.

    Raises:
        DataError: as for `vigmm.data.numpy_files.NpzSource`, and if zarr is not installed.
    """

    prefixes: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = (".zarr",)
    options: ClassVar[tuple[str, ...]] = ("key",)
    folder: ClassVar[bool] = True

    def __init__(self, path: str | Path, *, key: str | None = None, name: str | None = None) -> None:
        self.name = str(path) if name is None else name
        store = place(path)
        if not store.is_dir():
            locate(path)  # says what is wrong, if there is nothing
            raise DataError(f"{self.name} is a file, and a Zarr store is a folder; check the path")
        with reading(self.name, "zarr"):
            array = _array(store, key, self.name)
            rows = array.chunks[0] if array.ndim else 1

        def read(start: int, stop: int) -> np.ndarray:
            with reading(self.name, "zarr"):
                return np.asarray(array[start:stop])

        self._rows = SlicedParts(store, array.shape, read, name=self.name, chunk=rows)
        self.piece_ends = self._rows.piece_ends
        self.dim, self.dtype, self.columns = self._rows.dim, self._rows.dtype, self._rows.columns

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Index) -> Rows2D:
        return self._rows[index]

    def fingerprint(self) -> str:
        """Digest of the content; see `vigmm.data.parts.Parts.fingerprint`."""
        return self._rows.fingerprint()


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
