"""A folder of predictions, one output part per input part, which any number of interruptions cannot spoil.

The folder first gets a record of what is being predicted: the model's digest, and of each input part its size
and the time of its last change. An output part appears under its name when all of it is on the disk. So the
parts that are there are whole, and belong to the record; whoever goes on does the rest. When the last one is
there, the record says so, with the numbers of rows.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vigmm.core.errors import DataError, OutputError
from vigmm.core.files import sweep
from vigmm.data.remote import AnyFile, state_of
from vigmm.rundir.assignments import SKIPPED
from vigmm.rundir.files import write_json

__all__ = ["RECORD", "InputPart", "PredictionFolder", "list_parts"]

RECORD = "_prediction.json"  # so that whoever reads the folder as one table passes it over
_SCHEMA = 1
_PART = {"file", "size", "changed", "out"}
_ANEW = "add --overwrite to begin anew, or choose another folder with --out"


@dataclass(frozen=True)
class InputPart:
    """A file of rows, and where its predictions go.

    Args:
        file: the rows.
        name: the file below the folder that all parts are in, as the record calls it.
        out: the output part below the output folder.
        size: bytes.
        changed: time of the last change, in ns.
    """

    file: AnyFile
    name: str
    out: str
    size: int
    changed: int

    def check(self) -> None:
        """Refuse the part if it is no longer the one that was listed.

        Raises:
            DataError: saying so.
        """
        if (self.size, self.changed) != _state(self.file):
            raise DataError(f"{self.file} has changed since the prediction began; {_ANEW}")


def list_parts(files: Sequence[AnyFile], base: Path | PurePosixPath) -> tuple[InputPart, ...]:
    """The input parts, each with the name of its output part: its own with the suffix ``.parquet``.

    Where two parts would share an output part, all keep their whole names before that suffix.

    Args:
        files: the rows.
        base: the folder that all are in or below.
    """
    paths = [file if isinstance(file, Path) else PurePosixPath(file.path) for file in files]
    names = [PurePosixPath(path.relative_to(base).as_posix()) for path in paths]
    outs = [name.with_name(f"{_stem(name.name)}.parquet").as_posix() for name in names]
    if len(set(outs)) < len(outs):
        outs = [f"{name.as_posix()}.parquet" for name in names]
    return tuple(
        InputPart(file, name.as_posix(), out, *_state(file))
        for file, name, out in zip(files, names, outs, strict=True)
    )


class PredictionFolder:
    """The output folder of a prediction that has begun.

    Args:
        path: the folder.
        record: what is predicted.
        parts: the input parts.
    """

    def __init__(self, path: Path, record: dict[str, Any], parts: Sequence[InputPart]) -> None:
        self.path, self._record, self.parts = path, record, tuple(parts)

    @classmethod
    def begin(
        cls,
        path: Path,
        parts: Sequence[InputPart],
        *,
        about: dict[str, Any],
        note: dict[str, Any],
        overwrite: bool = False,
    ) -> PredictionFolder:
        """Make the folder, or go on in one that holds the same prediction.

        Args:
            path: where.
            parts: the input parts.
            about: what the predictions depend on beside them.
            note: what else is worth recording.
            overwrite: whether another prediction that is there may be removed.

        Raises:
            OutputError: if there is something else, saying what.
        """
        inputs = [
            {"file": one.name, "size": one.size, "changed": one.changed, "out": one.out} for one in parts
        ]
        record = {"schema": _SCHEMA, "status": "unfinished", **about, **note, "parts": inputs}
        old = _read(path)
        if old is not None:
            other = _difference(old, record, about)
            if other is None and not overwrite:
                return cls(path, record, parts)
            if not overwrite:
                raise OutputError(f"{path} holds {_status(old)} prediction, but {other}; {_ANEW}")
            _remove(path, old)
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {path}: {error.strerror or error}") from error
        write_json(path / RECORD, record)
        return cls(path, record, parts)

    def left(self, parts: Sequence[InputPart]) -> list[InputPart]:
        """Those of some parts that have no output part yet; what killed processes left of them is removed.

        Raises:
            OutputError: if a folder below cannot be made.
        """
        for one in parts:
            out = self.path / one.out
            try:
                out.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"cannot make {out.parent}: {error.strerror or error}") from error
            sweep(out.parent, out.name)
        return [one for one in parts if not (self.path / one.out).exists()]

    def rows(self, parts: Sequence[InputPart]) -> tuple[int, int]:
        """Rows in the output parts of some parts, by their footers, and rows that were skipped."""
        counts = [_count(self.path / one.out) for one in parts]
        return sum(rows for rows, _ in counts), sum(skipped for _, skipped in counts)

    def finish(self) -> int | None:
        """Record that all is there, with the numbers of rows; their sum, or None if something is missing.

        Several processes may come to this at the same time: all of them write the same.
        """
        if not all((self.path / one.out).exists() for one in self.parts):
            return None
        counts = [_count(self.path / one.out) for one in self.parts]
        told = zip(self._record["parts"], counts, strict=True)
        record = {
            **self._record,
            "status": "finished",
            "rows": sum(rows for rows, _ in counts),
            "skipped_rows": sum(skipped for _, skipped in counts),
            "parts": [{**one, "rows": rows, "skipped_rows": skipped} for one, (rows, skipped) in told],
        }
        if _read(self.path) != record:
            try:
                write_json(self.path / RECORD, record)
            except OutputError:
                if _read(self.path) != record:
                    raise
        sweep(self.path, RECORD)
        return int(record["rows"])


def _state(file: AnyFile) -> tuple[int, int]:
    try:
        return state_of(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def _stem(name: str) -> str:
    return name.removesuffix(".gz").rpartition(".")[0] or name


def _count(path: Path) -> tuple[int, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
        return int(footer.num_rows), int((footer.metadata or {}).get(SKIPPED.encode(), 0))
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{path} is damaged ({error}); delete it and predict again") from error


def _read(path: Path) -> dict[str, Any] | None:
    """The record of a prediction; None if there is nothing yet."""
    if not path.exists():
        return None
    if not path.is_dir():
        raise OutputError(f"{path} is a file; predictions of many files go to a folder")
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if all(entry.name.startswith(f".{RECORD}.") for entry in path.iterdir()):
            return None
        raise OutputError(
            f"{path} exists and holds no prediction (it has no {RECORD}), so it is left alone; "
            f"choose another folder with --out"
        ) from error
    except (OSError, ValueError) as error:
        raise OutputError(f"{path / RECORD} cannot be read: {error}. Delete the folder") from error
    if not isinstance(record, dict) or record.get("schema") != _SCHEMA:
        raise OutputError(f"{path / RECORD} is of another version of vigmm; choose another folder with --out")
    parts = record.get("parts")
    if not isinstance(parts, list) or not all(isinstance(one, dict) and set(one) >= _PART for one in parts):
        raise OutputError(f"{path / RECORD} is damaged: it does not list its parts. Delete the folder")
    return record


def _status(record: dict[str, Any]) -> str:
    return "an unfinished" if record.get("status") == "unfinished" else "a finished"


def _difference(old: dict[str, Any], new: dict[str, Any], about: dict[str, Any]) -> str | None:
    """In what the prediction that is there differs from the one that is wanted."""
    for key in about:
        if old.get(key) != new[key]:
            if key == "model":
                return "it was made by another model"
            return f"{key.replace('_', ' ')} was {old.get(key)} and is {new[key]} now"
    before, now = ({one["file"]: one for one in record["parts"]} for record in (old, new))
    for name in {**before, **now}:
        if name not in before:
            return f"the input part {name} is new"
        if name not in now:
            return f"the input part {name} is no longer there"
        if any(before[name][key] != now[name][key] for key in ("size", "changed", "out")):
            return f"the input part {name} has changed"
    return None


def _remove(path: Path, record: dict[str, Any]) -> None:
    """Remove the output parts that a record names, and nothing else."""
    # The record is a file: it may say anything, and nothing outside of the folder is touched for it.
    named = [path / one["out"] for one in record["parts"]]
    outs = [out for out in named if out.is_relative_to(path) and ".." not in out.parts]
    below = {folder for out in outs for folder in out.parents if path in folder.parents}
    for out in outs:
        out.unlink(missing_ok=True)
        sweep(out.parent, out.name)
    for folder in sorted(below, reverse=True):
        with contextlib.suppress(OSError):  # something else is in it
            folder.rmdir()
    (path / RECORD).unlink()
