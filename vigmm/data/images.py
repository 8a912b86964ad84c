"""An image as a table: one row per pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.files import locate, reading
from vigmm.data.protocol import Index, Rows2D, content_fingerprint

__all__ = ["ImageSource"]

_GREY = ("1", "L", "LA", "La")
_DEEP = ("I", "F")  # one channel of 32 bits; 16-bit modes start with "I;16"


class ImageSource:
    """Pixels of an image, row by row from the top left, so row n is pixel (x, y) = (n % width, n // width).

    Colours are the stored values, 0 to 255 in ``r, g, b``, or one column ``grey`` (of up to 32 bits if the
    file is so deep). Transparency is dropped, palettes and other colour spaces become RGB, the camera's
    orientation is applied, and of several frames the first is read.

    Args:
        path: file, or ``pkg://package/file``; any format that Pillow reads.
        xy: whether to add the columns ``x`` and ``y``, in pixels.
        name: what messages call it; the path by default.

    Attributes:
        height: rows of pixels.
        width: pixels in a row.

    Raises:
        DataError: if there is no such file, it is no image or damaged, or Pillow is not installed.
    """

    prefixes: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
    options: ClassVar[tuple[str, ...]] = ("xy",)

    def __init__(self, path: str | Path, *, xy: bool = False, name: str | None = None) -> None:
        self.name = str(path) if name is None else name
        pixels = _pixels(locate(path), self.name)
        self.height, self.width = int(pixels.shape[0]), int(pixels.shape[1])
        self._colour = pixels.reshape(self.height * self.width, -1)
        self._xy = xy
        names = ("grey",) if self._colour.shape[1] == 1 else ("r", "g", "b")
        self.columns: tuple[str, ...] = (*names, "x", "y") if xy else names
        self.dim = len(self.columns)
        # float32 holds every coordinate and 8- or 16-bit colour exactly.
        self.dtype: np.dtype[Any] = np.result_type(pixels.dtype, np.float32) if xy else pixels.dtype

    def __len__(self) -> int:
        return self.height * self.width

    def __getitem__(self, index: Index) -> Rows2D:
        colour = self._colour[index]
        if not self._xy:
            return colour
        number = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index)
        number = number % len(self)  # rows may be counted from the end
        rows = np.empty((len(colour), self.dim), self.dtype)
        rows[:, :-2] = colour
        rows[:, -2], rows[:, -1] = number % self.width, number // self.width
        return rows

    def fingerprint(self) -> str:
        """Digest of the content; see `vigmm.data.protocol.content_fingerprint`."""
        return content_fingerprint(self)


def _pixels(file: Path, name: str) -> np.ndarray:
    """The image as an array (height, width) or (height, width, 3)."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise DataError(f"{name}: reading images needs Pillow; pip install 'vigmm[image]'") from error
    with reading(name, "an image"), Image.open(file) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _DEEP or upright.mode.startswith("I;16"):
            array = np.asarray(upright)
            return array.astype(array.dtype.newbyteorder("="), copy=False)
        if upright.mode == "P":  # straight to RGB would warn about transparent palettes
            upright = upright.convert("RGBA")
        return np.asarray(upright.convert("L" if upright.mode in _GREY else "RGB"))
