"""Many pieces of rows, each opened when it is first needed, as one source."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from vigmm.core.errors import EmptyError
from vigmm.data.protocol import Index, Rows2D, content_fingerprint
from vigmm.data.remote import AnyFile, state_of

__all__ = ["OpenPiece", "Parts", "Piece"]

_OPEN_PIECES = 64
_OPEN_BYTES = 1 << 26


class OpenPiece(Protocol):
    """Rows of a piece that has been opened: an array, or what reads like one."""

    def __getitem__(self, index: Index, /) -> Rows2D: ...


class Piece(Protocol):
    """Rows of one file that follow each other; nothing is read before `open`.

    Attributes:
        file: the file, by which messages call it; None where the rows are in no file that has a name.
        first: number of the piece's first row within its file.
        rows: how many rows, known from the file's description of itself.
    """

    @property
    def file(self) -> AnyFile | None: ...  # noqa: D102

    @property
    def first(self) -> int: ...  # noqa: D102

    @property
    def rows(self) -> int: ...  # noqa: D102

    def open(self) -> OpenPiece:
        """The rows, in the columns of the whole source, of any type that its type can hold.

        Raises:
            DataError: naming the file, if it cannot be read.
        """
        ...


class Parts:
    """The rows of all pieces one after the other; indexing opens only those pieces that hold the rows.

    A few opened pieces are kept, the latest first: at most 64, and of those that are read whole at most 64
    MiB of rows, or one if it alone is larger. So a pass in order opens each piece once.

    Args:
        pieces: in the order of the rows.
        columns: names of the columns of every piece.
        dtype: a type that can hold those of all pieces.
        name: what messages call the whole.
        ignored: columns left out because they hold no numbers.
        one_file: whether the whole is one file, so that the number of a row says where it is.
        read_whole: whether a piece is read whole if a row of it is needed.

    Attributes:
        piece_ends: where each piece ends, if they are read whole; see `vigmm.data.stream`.
        kept_bytes: the most bytes of rows that opened pieces hold together; 0 if they are mapped.

    Raises:
        EmptyError: if there is no row at all.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        *,
        columns: tuple[str, ...],
        dtype: np.dtype[Any],
        name: str,
        ignored: tuple[str, ...] = (),
        one_file: bool = False,
        read_whole: bool = True,
    ) -> None:
        self.name, self.columns, self.dim, self.ignored = name, columns, len(columns), ignored
        self.dtype: np.dtype[Any] = dtype.newbyteorder("=")
        self._pieces = [piece for piece in pieces if piece.rows > 0]
        self._ends: Int[np.ndarray, " pieces"] = np.cumsum([piece.rows for piece in self._pieces], dtype=int)
        self.piece_ends = self._ends if read_whole else None
        width = self.dim * self.dtype.itemsize
        sizes = [piece.rows * width if read_whole else 0 for piece in self._pieces]
        self._sizes, self._most = sizes, max([_OPEN_BYTES, *sizes])
        self.kept_bytes = min(sum(sizes), self._most)
        self._one_file = one_file
        self._kept: OrderedDict[int, OpenPiece] = OrderedDict()
        self._lock = threading.Lock()
        if not self._pieces:
            raise EmptyError(f"{name} has no rows (columns: {', '.join(columns)})")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: Index) -> Rows2D:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return self._range(start, stop) if step == 1 else self._take(np.arange(start, stop, step))
        number = np.asarray(index)
        outside = (number < -len(self)) | (number >= len(self))
        if number.dtype.kind not in "iu" or outside.any():
            what = "row numbers must be integers" if not outside.any() else f"no row {number[outside][0]}"
            raise IndexError(f"{self.name}: {what} (there are {len(self)} rows)")
        return self._take(number.astype(np.int64) % len(self))

    def place(self, row: int) -> str:
        """Where a row stands: its number within its file, and the file unless there is but one."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        piece = self._pieces[number]
        if self._one_file or piece.file is None:
            return f"row {row}"
        return f"row {piece.first + row - self._start(number)} of {piece.file} (row {row} of all)"

    def fingerprint(self) -> str:
        """Digest of the content, and for large data also of the sizes and times of change of the files.

        Where `content_fingerprint` reads every byte, this is its digest, equal to that of the same rows in
        one array. Where it samples, an edit between two samples would go unnoticed without the files' times.
        """
        content = content_fingerprint(self)
        kind, _, _ = content.partition(":")
        files = dict.fromkeys(piece.file for piece in self._pieces if piece.file is not None)
        if kind == "sha256" or not files:
            return content
        digest = hashlib.sha256(content.encode())
        for file in files:
            size, changed = state_of(file)
            digest.update(f"{size}:{changed};".encode())
        return f"{kind}:{digest.hexdigest()}"

    def _start(self, number: int) -> int:
        return int(self._ends[number]) - self._pieces[number].rows

    def _range(self, start: int, stop: int) -> Rows2D:
        rows = np.empty((max(stop - start, 0), self.dim), self.dtype)
        number = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            first, end = self._start(number), min(stop, int(self._ends[number]))
            part = self._open(number)[start - first : end - first]
            if len(part) == len(rows):  # a memory map stays one
                return part.astype(self.dtype, copy=False)
            rows[len(rows) - (stop - start) :][: len(part)] = part
            start, number = end, number + 1
        return rows

    def _take(self, index: Int[np.ndarray, " n"]) -> Rows2D:
        rows = np.empty((len(index), self.dim), self.dtype)
        if len(index) == 0:
            return rows
        owner = np.searchsorted(self._ends, index, side="right")
        order = np.argsort(owner, kind="stable")
        numbers, starts = np.unique(owner[order], return_index=True)
        for number, mine in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            rows[mine] = self._open(number)[index[mine] - self._start(number)]
        return rows

    def _open(self, number: int) -> OpenPiece:
        with self._lock:  # a thread may read ahead
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
            # Room is made before it is opened, or there would be one piece too many for a moment.
            while self._kept and (
                len(self._kept) >= _OPEN_PIECES
                or sum(self._sizes[kept] for kept in (*self._kept, number)) > self._most
            ):
                self._kept.popitem(last=False)
            opened = self._kept[number] = self._pieces[number].open()
            return opened
