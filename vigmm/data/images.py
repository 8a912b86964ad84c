"""Images as a table: one row per pixel, or per square patch of pixels; one image, or many."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.files import locate, reading
from vigmm.data.parts import Parts
from vigmm.data.protocol import Index, Rows2D, content_fingerprint
from vigmm.data.remote import AnyFile

__all__ = ["ImageSource", "open_image_parts", "patch_of"]

_GREY = ("1", "L", "LA", "La")
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)
_DEEP = ("I", "F")  # one channel of 32 bits; 16-bit modes start with "I;16"


class ImageSource:
    """Pixels of an image, row by row from the top left, so row n is pixel (x, y) = (n % width, n // width).

    Colours are the stored values, 0 to 255 in ``r, g, b``, or one column ``grey`` (of up to 32 bits if the
    file is so deep). Transparency is dropped, palettes and other colour spaces become RGB, the camera's
    orientation is applied, and of several frames the first is read.

    With `patch` above 1 a row is a square of so many pixels a side, with columns ``r_0_0, g_0_0, ...`` by row
    and place in the row; squares do not overlap, and what remains at the right and below is left out.

    Args:
        path: file, or ``pkg://package/file``; any format that Pillow reads.
        xy: whether to add the columns ``x`` and ``y``, in pixels, of a patch's first pixel.
        patch: pixels along a side of a patch.

    Attributes:
        height: rows of pixels; not there if rows are patches.
        width: pixels in a row; likewise.

    Raises:
        DataError: if there is no such file, it is no image, damaged or smaller than a patch, or Pillow is not
            installed.
    """

    def __init__(self, path: str | Path, *, xy: bool = False, patch: int = 1) -> None:
        self.name = str(path)
        pixels = _pixels(locate(path), self.name)
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        high, wide = (int(side) // patch for side in pixels.shape[:2])
        if patch == 1:
            self.height, self.width = high, wide
        if high == 0 or wide == 0:
            sides = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise DataError(f"{self.name} is {sides} pixels, too small for a patch of {patch} x {patch}")
        squares = pixels[: high * patch, : wide * patch].reshape(high, patch, wide, patch, -1)
        self._colour = squares.transpose(0, 2, 1, 3, 4).reshape(high * wide, -1)
        self._xy, self._wide, self._patch = xy, wide, patch
        self.columns = _columns(pixels.shape[2] == 1, xy=xy, patch=patch)
        self.dim = len(self.columns)
        self.dtype = _dtype(pixels.dtype, xy=xy)

    def __len__(self) -> int:
        return len(self._colour)

    def __getitem__(self, index: Index) -> Rows2D:
        colour = self._colour[index]
        if not self._xy:
            return colour
        number = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index)
        number = number % len(self)  # rows may be counted from the end
        rows = np.empty((len(colour), self.dim), self.dtype)
        rows[:, :-2] = colour
        rows[:, -2] = number % self._wide * self._patch
        rows[:, -1] = number // self._wide * self._patch
        return rows

    def fingerprint(self) -> str:
        """Digest of the content; see `vigmm.data.protocol.content_fingerprint`."""
        return content_fingerprint(self)


def open_image_parts(files: Sequence[AnyFile], *, xy: bool = False, patch: int = 1, name: str) -> Parts:
    """The rows of many images, in the order of the files; an image is decoded when a row of it is asked for.

    Args:
        files: the images: all in colour, or all grey.
        xy: as for `ImageSource`.
        patch: as for `ImageSource`.
        name: what messages call the whole.

    Raises:
        DataError: naming the file that cannot be read, is too small or has other columns than the first.
    """
    pieces, dtypes, columns = [], [], None
    for file in files:
        high, wide, grey, dtype = _header(locate(str(file)), str(file))
        if high < patch or wide < patch:
            raise DataError(f"{file} is {wide} x {high} pixels, too small for a patch of {patch} x {patch}")
        names = _columns(grey, xy=xy, patch=patch)
        if columns is not None and names != columns:
            kinds = ("grey", "in colour") if grey else ("in colour", "grey")
            raise DataError(f"{file} is {kinds[0]}, but {files[0]} is {kinds[1]}: all must be alike")
        columns = names
        rows = (high // patch) * (wide // patch)
        pieces.append(_ImagePiece(Path(str(file)), rows, xy, patch, names))
        dtypes.append(_dtype(dtype, xy=xy))
    return Parts(pieces, columns=columns or (), dtype=np.result_type(*dtypes), name=name)


@dataclass(frozen=True)
class _ImagePiece:
    file: Path
    rows: int
    xy: bool
    patch: int
    columns: tuple[str, ...]
    first: int = 0

    def open(self) -> ImageSource:
        image = ImageSource(self.file, xy=self.xy, patch=self.patch)
        if len(image) != self.rows or image.columns != self.columns:
            raise DataError(f"{self.file} has changed since the run began; start again")
        return image


def patch_of(columns: Sequence[str]) -> int:
    """Pixels along a side of the patches whose columns these are.

    Example:
        >>> patch_of(("r", "g", "b")), patch_of(("grey_0_0", "grey_0_1", "grey_1_0", "grey_1_1", "x", "y"))
        (1, 2)
    """
    found = [re.fullmatch(r"(?:r|g|b|grey)_(\d+)_(\d+)", name) for name in columns]
    return 1 + max((int(one[1]) for one in found if one is not None), default=0)


def _columns(grey: bool, *, xy: bool, patch: int) -> tuple[str, ...]:
    names: tuple[str, ...] = ("grey",) if grey else ("r", "g", "b")
    if patch > 1:
        places = [(i, j) for i in range(patch) for j in range(patch)]
        names = tuple(f"{name}_{i}_{j}" for i, j in places for name in names)
    return (*names, "x", "y") if xy else names


def _dtype(stored: np.dtype[Any], *, xy: bool) -> np.dtype[Any]:
    """float32 holds every coordinate and 8- or 16-bit colour exactly."""
    return np.result_type(stored, np.float32) if xy else stored.newbyteorder("=")


def _library(name: str) -> Any:
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise DataError(f"{name}: reading images needs Pillow; pip install 'vigmm[image]'") from error
    return PIL


def _header(file: Path, name: str) -> tuple[int, int, bool, np.dtype[Any]]:
    """Height, width, whether it is grey, and the type of its numbers, without decoding it."""
    library = _library(name)
    with reading(name, "an image"), library.Image.open(file) as image:
        wide, high = image.size
        mode = image.mode
        if image.getexif().get(_ORIENTATION, 1) in _TURNED:
            wide, high = high, wide
    deep = {"I": np.int32, "F": np.float32}.get(mode, np.uint16 if mode.startswith("I;16") else np.uint8)
    return high, wide, mode in _GREY or deep is not np.uint8, np.dtype(deep)


def _pixels(file: Path, name: str) -> np.ndarray:
    """The image as an array (height, width) or (height, width, 3)."""
    library = _library(name)
    with reading(name, "an image"), library.Image.open(file) as image:
        upright = library.ImageOps.exif_transpose(image)
        if upright.mode in _DEEP or upright.mode.startswith("I;16"):
            array = np.asarray(upright)
            return array.astype(array.dtype.newbyteorder("="), copy=False)
        if upright.mode == "P":  # straight to RGB would warn about transparent palettes
            upright = upright.convert("RGBA")
        return np.asarray(upright.convert("L" if upright.mode in _GREY else "RGB"))
