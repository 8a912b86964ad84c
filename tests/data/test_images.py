"""Images as rows of pixels: colours, grey, depth, coordinates, orientation and damage."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from vigmm.core.errors import DataError
from vigmm.data.sources import ArraySource, DataFile, ImageSource

Image = pytest.importorskip("PIL.Image", reason="needs Pillow (the image extra)")

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)  # 4 high, 5 wide


def saved(tmp_path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    path = tmp_path / "i.png"
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path)
    return path


def test_pixels_are_rows(tmp_path: Path) -> None:
    source = DataFile(str(saved(tmp_path, PIXELS))).open()
    assert isinstance(source, ImageSource)
    assert (source.height, source.width, len(source), source.dim) == (4, 5, 20, 3)
    assert (source.columns, source.dtype) == (("r", "g", "b"), np.uint8)
    np.testing.assert_array_equal(source[0:20], PIXELS.reshape(-1, 3))
    np.testing.assert_array_equal(source[np.array([7, 2])], PIXELS.reshape(-1, 3)[[7, 2]])
    assert source.fingerprint() == ArraySource(PIXELS.reshape(-1, 3)).fingerprint()


def test_coordinates(tmp_path: Path) -> None:
    source = DataFile(str(saved(tmp_path, PIXELS)), xy=True).open()
    assert (source.columns, source.dtype) == (("r", "g", "b", "x", "y"), np.float32)
    rows = source[0:20]
    assert rows[:, 3].tolist() == list(range(5)) * 4
    assert rows[:, 4].tolist() == np.repeat(range(4), 5).tolist()
    np.testing.assert_array_equal(rows[:, :3], PIXELS.reshape(-1, 3))
    np.testing.assert_array_equal(source[np.array([19, 6])], rows[[19, 6]])
    np.testing.assert_array_equal(source[3:20:4], rows[3:20:4])
    np.testing.assert_array_equal(source[np.array([-1, -len(source)])], source[:][[-1, 0]])
    x_only = DataFile(str(saved(tmp_path, PIXELS)), xy=True, columns=("x", "r")).open()
    np.testing.assert_array_equal(x_only[0:20], rows[:, [3, 0]])


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey(tmp_path: Path, mode: str) -> None:
    source = ImageSource(saved(tmp_path, PIXELS, mode))
    assert (source.columns, source.dtype, source.dim) == (("grey",), np.uint8, 1)


def test_deep_grey(tmp_path: Path) -> None:
    deep = (np.arange(20, dtype=np.uint16) * 3000).reshape(4, 5)
    source = ImageSource(saved(tmp_path, deep))
    np.testing.assert_array_equal(source[0:20], deep.reshape(-1, 1))
    assert ImageSource(saved(tmp_path, deep), xy=True).columns == ("grey", "x", "y")


def test_transparency_is_dropped(tmp_path: Path) -> None:
    alpha = np.full((4, 5, 1), 7, np.uint8)
    source = ImageSource(saved(tmp_path, np.concatenate([PIXELS, alpha], axis=2)))
    np.testing.assert_array_equal(source[0:20], PIXELS.reshape(-1, 3))


@pytest.mark.parametrize("transparency", [None, 0, b"\x00\x80"])
def test_palette(tmp_path: Path, transparency: int | bytes | None) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "p.png", **({} if transparency is None else {"transparency": transparency}))
    assert ImageSource(tmp_path / "p.png")[0:2].tolist() == [[10, 20, 30], [40, 50, 60]]


def test_orientation_of_the_camera(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show
    Image.fromarray(PIXELS).save(tmp_path / "i.png", exif=exif)
    source = ImageSource(tmp_path / "i.png")
    assert (source.height, source.width) == (5, 4)
    np.testing.assert_array_equal(source[0:20].reshape(5, 4, 3), np.rot90(PIXELS, -1))


def test_damage(tmp_path: Path) -> None:
    path = saved(tmp_path, np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"i.png cannot be read as an image: .*cut short"):
        ImageSource(path)
    path.write_text("no image at all")
    with pytest.raises(DataError, match=r"i.png cannot be read as an image: cannot identify image file"):
        ImageSource(path)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, PIXELS)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"reading images needs Pillow; pip install 'vigmm\[image\]'"):
        ImageSource(path)


def test_china() -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn (the sklearn extra)")
    source = DataFile("pkg://sklearn.datasets.images/china.jpg").open()
    assert isinstance(source, ImageSource)
    assert (source.height, source.width, len(source), source.dim) == (427, 640, 273_280, 3)
