"""Iterables of chunks: read once, kept on the disk, and gone when nobody needs them."""

from __future__ import annotations

import gc
import io
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vigmm.core.errors import DataError
from vigmm.data import protocol
from vigmm.data.arrays import ArraySource
from vigmm.data.chunks import open_chunks

RNG = np.random.default_rng(0)


class Frame:
    """What a data frame looks like from outside."""

    ndim = 2

    def __init__(self, array: np.ndarray, columns: list[str]) -> None:
        self._array, self.columns = array, columns

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return self._array


def test_types_meet() -> None:
    chunks = [np.array([[1, 2]], np.int8), np.array([[3, 4]], np.int8), np.array([[0.5, np.nan]], np.float32)]
    source = open_chunks(iter([*chunks, np.zeros((0, 2)), np.array([[5, 6]], ">i4")]))
    assert source.dtype == np.float64
    np.testing.assert_array_equal(source[:], [[1, 2], [3, 4], [0.5, np.nan], [5, 6]])
    assert open_chunks(iter(chunks[:2])).dtype == np.int8


def test_names() -> None:
    frames = [Frame(np.ones((2, 2)), ["a", "b"]), Frame(np.zeros((1, 2)), ["a", "b"])]
    assert open_chunks(frames).columns == ("a", "b")
    table = pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    assert open_chunks(iter([table, table]))[:].tolist() == [[1, 3], [2, 4]] * 2
    assert open_chunks([np.ones((2, 2))] * 2, columns=("c", "d")).columns == ("c", "d")
    with pytest.raises(DataError, match=r"x: chunk 1 has the columns b, a, but those before it have a, b"):
        open_chunks([frames[0], Frame(np.ones((1, 2)), ["b", "a"])])


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([], "x gave no rows; a generator can be read once only"),
        ([np.zeros((0, 2))], "x gave no rows"),
        ([np.ones((2, 2)), np.ones((2, 3))], "x: chunk 1 has the columns x0, x1, x2, but .* have x0, x1"),
        ([np.ones(3)], r"x: chunk 0 has one dimension; .*row\[None, :\]"),
        ([np.ones((2, 2)), [["a", "b"]]], "x: chunk 1 is not numeric|x: chunk 1 holds"),
    ],
)
def test_what_is_refused(chunks: list[object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_chunks(iter(chunks))


def test_nothing_is_left_and_little_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tracemalloc.start()
    source = open_chunks(np.full((20_000, 8), float(i)) for i in range(40))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 20_000 * 8 * 8, "more than some chunks were in memory at a time"
    assert len(source) == 800_000
    assert source[np.array([799_999, 0, 20_000])][:, 0].tolist() == [39, 0, 1]
    assert list(tmp_path.iterdir()) == [], "the file has a name that a killed process would leave"
    del source
    gc.collect()


def test_digest_of_many_rows_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_HASH_WHOLE", 1 << 14)
    rows = RNG.normal(size=(5_000, 3))
    digest = open_chunks([rows[:900], rows[900:]]).fingerprint()
    assert digest.startswith("sha256-sampled:")
    assert digest == ArraySource(rows).fingerprint()


def test_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, content: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(DataError, match=r"chunk 0 cannot be kept in .*: No space left on device. Make room"):
        open_chunks([np.ones((1, 1))])
