"""Checkpoints of a run: everything that it needs to go on, in a folder, written while it goes on.

A checkpoint is a pair of files (`vigmm.core.arrayfile`) whose description is written last, so that a process
that is killed at any moment leaves the one before it whole. The training thread only copies the state to the
host; another thread writes. What a phase saved last is read back by `latest`; a damaged one is passed over
for the one before it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vigmm.core import arrayfile
from vigmm.core.errors import ModelFileError, OutputError
from vigmm.core.files import sweep
from vigmm.core.processes import ALONE, Group
from vigmm.core.struct import require, spec

__all__ = ["Checkpointing", "Checkpoints", "Saved", "Snapshot"]

_SCHEMA = 2


@spec
class Checkpointing:
    """How often a run is saved.

    Args:
        seconds: between checkpoints; 0 saves after every chunk of steps, null never.
        keep: how many of the last are kept; the one with the best held-out density is kept besides.
    """

    seconds: float | None = 60.0
    keep: int = 2

    def __post_init__(self) -> None:
        require(self.seconds is None or self.seconds >= 0, "seconds", ">= 0", self.seconds)
        require(self.keep >= 1, "keep", ">= 1", self.keep)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a run is at one moment.

    Args:
        state: a pytree of arrays, perhaps still being computed.
        arrays: groups of further arrays.
        facts: all else, JSON-ready.
    """

    state: Any
    arrays: dict[str, dict[str, np.ndarray]]
    facts: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Saved:
    """A snapshot that was read back.

    Args:
        state: arrays of the state by dotted path; see `fill`.
        arrays: as in `Snapshot`.
        facts: as in `Snapshot`.
        where: what messages call it.
    """

    state: dict[str, np.ndarray]
    arrays: dict[str, dict[str, np.ndarray]]
    facts: dict[str, Any]
    where: str

    def fill(self, like: Any) -> Any:
        """The state, in the shape of the tree `like`."""
        return arrayfile.fill(like, self.state, self.where)


class Checkpoints:
    """A folder of checkpoints; use it as a context, at the end of which all of them are on the disk.

    Args:
        folder: made if need be.
        how: how often, and how many are kept.
        group: processes that do one run, of which the first writes and all read.

    Raises:
        OutputError: if the folder cannot be made.
    """

    def __init__(self, folder: str | Path, how: Checkpointing | None = None, group: Group = ALONE) -> None:
        self.folder, self._how, self._group = Path(folder), how or Checkpointing(), group
        self._writer = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="vigmm-checkpoint")
        self._writing: concurrent.futures.Future[None] | None = None
        self._last = time.monotonic()
        self._densities: dict[Path, float] = {}
        if group.first:
            self._prepare()

    def _prepare(self) -> None:
        """Make the folder, and remove what is no checkpoint."""
        folder = self.folder
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder)
        except OSError as error:
            raise OutputError(
                f"{folder}: checkpoints cannot be written here: {error.strerror or error}; "
                "choose another folder, or do without checkpoints"
            ) from error
        for path in self.folder.glob("*.safetensors"):
            # The description is written last: arrays without one are no checkpoint.
            if not path.with_suffix(".json").exists():
                path.unlink(missing_ok=True)

    @property
    def due(self) -> bool:
        """Whether it is time for another; not while the one before it is still being written."""
        busy = self._writing is not None and not self._writing.done()
        if self._how.seconds is None or busy or not self._group.first:
            return False
        return time.monotonic() - self._last >= self._how.seconds

    def save(self, phase: str, snapshot: Snapshot) -> None:
        """Copy a snapshot to the host and have it written, by the first process.

        Raises:
            OutputError: if the one before it could not be written.
        """
        self.finish()
        if not self._group.first:
            return
        arrays = {f"state/{name}": leaf for name, leaf in arrayfile.leaves(snapshot.state).items()}
        for group, members in snapshot.arrays.items():
            arrays |= {f"{group}/{name}": np.array(value) for name, value in members.items()}
        facts = {**snapshot.facts, "schema": _SCHEMA, "phase": phase, "groups": sorted(snapshot.arrays)}
        self._writing = self._writer.submit(self._write, phase, arrays, facts)
        self._last = time.monotonic()

    def latest(self, phase: str) -> Saved | None:
        """The last whole checkpoint of a phase, if there is one; the same for all processes."""
        # The first process looks, and says which: what it passes over may look whole to another.
        whole = (path.name for path in reversed(self._of(phase)) if _whole(path))
        name = self._group.gather_facts(next(whole, None) if self._group.first else None)[0]
        if name is None:
            return None
        described, arrays = _contents(self.folder / name)
        groups: dict[str, dict[str, np.ndarray]] = {name: {} for name in ("state", *described["groups"])}
        for key, array in arrays.items():
            group, _, rest = key.partition("/")
            groups[group][rest] = array
        return Saved(state=groups.pop("state"), arrays=groups, facts=described, where=str(self.folder / name))

    def finish(self) -> None:
        """Wait for what is being written.

        Raises:
            OutputError: if it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.result()
        except OSError as error:
            raise OutputError(
                f"{self.folder}: the checkpoint cannot be written: {error.strerror or error}. The one before "
                "it is whole: make room, and run the same command again to go on from it"
            ) from error

    def clear(self) -> None:
        """Remove all checkpoints, after a run that needs none any more."""
        self.finish()
        for path in [*self.folder.glob("*.json"), *self.folder.glob("*.safetensors")]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody else's file is in it
            self.folder.rmdir()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.shutdown(wait=True)
        if kind is None:
            self.finish()

    def _of(self, phase: str) -> list[Path]:
        """Descriptions of a phase's checkpoints, the last one last."""
        return sorted(self.folder.glob(f"{phase}-[0-9]*.json"))

    def _write(self, phase: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        number = facts.get("done", 0)
        arrayfile.write(self.folder / f"{phase}-{number:010d}", arrays, facts)
        older = self._of(phase)[: -self._how.keep]
        densities = [self._density(path) for path in self._of(phase)]
        best = max((value for value in densities if not math.isnan(value)), default=math.nan)
        for path, density in zip(older, densities, strict=False):
            if density == best:
                continue
            path.unlink(missing_ok=True)
            path.with_suffix(".safetensors").unlink(missing_ok=True)

    def _density(self, path: Path) -> float:
        """Held-out density at a checkpoint, NaN where it has none."""
        if path not in self._densities:
            try:
                self._densities[path] = float(arrayfile.read_description(path).get("holdout", math.nan))
            except ModelFileError:
                return math.nan
        return self._densities[path]


def _contents(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    described = arrayfile.read_description(path)
    return described, arrayfile.read_arrays(path.with_suffix(".safetensors"), path, described)


def _whole(path: Path) -> bool:
    """Whether a checkpoint can be read; a damaged one is passed over for the one before it."""
    try:
        return bool(_contents(path)[0].get("schema") == _SCHEMA)
    except ModelFileError:
        return False
