"""Images as rows of pixels: colours, grey, depth, coordinates, orientation and damage."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from vigmm.core.errors import DataError, SpecError
from vigmm.data.images import ImageSource
from vigmm.data.sources import ArraySource, DataFile

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


class TestPatches:
    def test_squares_from_the_top_left(self, tmp_path: Path) -> None:
        source = DataFile(str(saved(tmp_path, PIXELS)), patch=2, xy=True).open()
        assert (len(source), source.dim, source.dtype) == (4, 14, np.float32)
        assert source.columns[:5] == ("r_0_0", "g_0_0", "b_0_0", "r_0_1", "g_0_1")
        assert source.columns[-3:] == ("b_1_1", "x", "y")
        rows = source[:]
        assert rows[:, -2:].tolist() == [[0, 0], [2, 0], [0, 2], [2, 2]]
        np.testing.assert_array_equal(rows[3, :12], PIXELS[2:4, 2:4].reshape(-1))
        assert not hasattr(source, "height"), "its labels are no picture of this size"

    def test_grey_and_too_small(self, tmp_path: Path) -> None:
        path = saved(tmp_path, PIXELS[..., 0])
        assert DataFile(str(path), patch=4).open().columns[:2] == ("grey_0_0", "grey_0_1")
        with pytest.raises(DataError, match=r"i.png is 5 x 4 pixels, too small for a patch of 5 x 5"):
            DataFile(str(path), patch=5).open()
        with pytest.raises(SpecError, match="patch must be >= 1"):
            DataFile(str(path), patch=0)
        with pytest.raises(DataError, match="patch is for image files"):
            DataFile("x.npy", patch=2).open()


class TestFolder:
    def test_only_headers_are_read(self, tmp_path: Path) -> None:
        for i in range(3):
            saved(tmp_path, PIXELS[: 2 + i]).rename(tmp_path / f"{i}.png")
        source = DataFile(str(tmp_path), patch=2).open()
        assert source.piece_ends.tolist() == [2, 4, 8]
        (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
        np.testing.assert_array_equal(source[4:5], PIXELS[:2, :2].reshape(1, -1))
        with pytest.raises(DataError, match=r"1.png cannot be read as an image"):
            source[2:4]

    def test_turned_and_deep(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=exif)
        single = ImageSource(tmp_path / "a.jpg", patch=4)
        assert len(single) == len(DataFile(str(tmp_path), patch=4).open()) == 1
        (tmp_path / "a.jpg").unlink()
        saved(tmp_path, (np.arange(20, dtype=np.uint16) * 3000).reshape(4, 5))
        source = DataFile(str(tmp_path)).open()
        assert (source.dtype, source[19:].tolist()) == (np.uint16, [[57000]])

    def test_what_is_refused(self, tmp_path: Path) -> None:
        saved(tmp_path, PIXELS).rename(tmp_path / "a.png")
        saved(tmp_path, PIXELS[..., 0]).rename(tmp_path / "b.png")
        with pytest.raises(DataError, match=r"b.png is grey, but .*a.png is in colour: all must be alike"):
            DataFile(str(tmp_path)).open()
        saved(tmp_path, PIXELS[:1]).rename(tmp_path / "b.png")
        with pytest.raises(DataError, match=r"b.png is 5 x 1 pixels, too small for a patch of 2 x 2"):
            DataFile(str(tmp_path), patch=2).open()
        source = DataFile(str(tmp_path)).open()
        saved(tmp_path, PIXELS[:2]).rename(tmp_path / "b.png")
        with pytest.raises(DataError, match=r"b.png has changed since the run began"):
            source[:]
