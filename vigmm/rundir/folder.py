"""The folder of a run: made whole before anything is computed, gone without trace if nothing came of it.

The folder appears under its name with its configuration and its manifest already inside, so that another
process never sees half of one. A run folder that is replaced is set aside, and comes back if the new run
fails before it has a model or a checkpoint. A run that was broken off after that is continued by the same
command.
"""

from __future__ import annotations

import contextlib
import errno
import json
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from vigmm.core.errors import ModelFileError, OutputError
from vigmm.rundir.files import write_json, write_text
from vigmm.rundir.lock import locked

__all__ = ["CHECKPOINTS", "CONFIG", "MANIFEST", "RunFolder", "read_manifest", "read_summary"]

CONFIG, MANIFEST = "config.yaml", "manifest.json"
CHECKPOINTS = "checkpoints"


# "running" is what a process that was killed leaves.
_UNFINISHED = ("running", "stopped", "incomplete")


@dataclass
class RunFolder:
    """A new run folder; use it as a context, which removes the folder again on an error before `keep`.

    Args:
        path: where it is.
    """

    path: Path
    _aside: Path | None = None
    _made: list[Path] = field(default_factory=list)
    _kept: bool = False

    @classmethod
    def create(
        cls, where: str | Path, *, config: str, manifest: dict[str, Any], overwrite: bool = False
    ) -> RunFolder:
        """Make the folder, and those above it, or refuse.

        Args:
            where: its path.
            config: text of the configuration file.
            manifest: what is known before the run.
            overwrite: whether a run folder that is there may be replaced; nothing else ever is.

        Raises:
            OutputError: saying why not and what to do.
        """
        path = _checked(Path(where).expanduser(), overwrite=overwrite)
        made: list[Path] = []
        stage = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        aside = _aside(path) if path.exists() else None
        try:
            made = _make_parents(path.parent)
            stage.mkdir()
            write_text(stage / CONFIG, config)
            write_json(stage / MANIFEST, manifest)
            if aside is not None:
                _set_aside(path, aside)
            stage.rename(path)
        except OSError as error:
            shutil.rmtree(stage, ignore_errors=True)
            if aside is not None and aside.exists() and not path.exists():
                aside.rename(path)
            _remove_empty(made)
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"cannot make the run folder {where}: {_reason(error)}; choose another place with --out"
            ) from error
        return cls(path=path, _aside=aside, _made=made)

    @classmethod
    def unfinished(cls, where: str | Path, *, about: str | None = None) -> RunFolder | None:
        """The folder of a run that was broken off, if there is one.

        Args:
            where: its path.
            about: what the run's manifest must say under ``job``; None for anything.
        """
        path = Path(where).expanduser().resolve()
        if not (path / MANIFEST).is_file():
            return None
        manifest = read_manifest(path)
        if manifest.get("status") not in _UNFINISHED or (about is not None and manifest.get("job") != about):
            return None
        aside = _aside(path)
        return cls(path, _aside=aside if aside.exists() else None, _kept=(path / "model.json").exists())

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return _resumable(self.path)

    @property
    def kept(self) -> bool:
        """Whether there is something worth keeping in it."""
        return self._kept

    def keep(self) -> None:
        """From now on the folder is worth keeping, whatever happens; what it replaced is deleted."""
        self._kept = True
        if self._aside is not None:
            shutil.rmtree(self._aside, ignore_errors=True)
            self._aside = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.keep()
        elif self._kept or self.resumable:
            # A model without the rest, or a checkpoint: worth more than nothing, if it says so.
            status = "incomplete" if self._kept else "stopped"
            self.keep()
            manifest = {**read_manifest(self.path), "status": status, "error": str(value) or kind.__name__}
            with contextlib.suppress(OutputError):
                write_json(self.path / MANIFEST, manifest)
        else:
            shutil.rmtree(self.path, ignore_errors=True)
            if self._aside is not None:
                self._aside.rename(self.path)
            _remove_empty(self._made)


def _resumable(path: Path) -> bool:
    return any((path / CHECKPOINTS).glob("*.json"))


def _aside(path: Path) -> Path:
    """Where a run folder is while another one replaces it, also after the process was killed."""
    return path.with_name(f".{path.name}.old")


def _set_aside(path: Path, aside: Path) -> None:
    """Make way for a new run folder."""
    if (path / MANIFEST).is_file():
        with locked(path):
            pass  # nobody is at work on it
    if aside.exists():
        # A process was killed while its run replaced another one. The worse of both goes.
        worth = (path / "model.json").exists() or _resumable(path)
        shutil.rmtree(aside if worth else path)
    if path.exists():
        path.rename(aside)


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a run folder.

    Raises:
        ModelFileError: if there is no such folder, it is no run folder, or its manifest is damaged.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ModelFileError(f"{path}: no such run folder; name the folder that vigmm fit wrote")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFileError(
            f"{path} is no run folder: it has no {MANIFEST}; name the folder that vigmm fit wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"{folder / MANIFEST} cannot be read: {error}. The run folder is damaged: fit again"
        ) from error
    if not isinstance(manifest, dict):
        raise ModelFileError(f"{folder / MANIFEST} holds no manifest. The run folder is damaged: fit again")
    return manifest


def read_summary(path: str | Path) -> dict[str, Any]:
    """The facts of a finished run and, under ``summary``, its components.

    Raises:
        ModelFileError: if there is none, or it is damaged.
    """
    file = Path(path).expanduser() / "summary.json"
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        value["summary"]["components"]
    except FileNotFoundError as error:
        raise ModelFileError(
            f"{path} has no summary.json; the run folder is incomplete: fit again"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"{file} cannot be read: {error}. The run folder is damaged: fit again"
        ) from error
    assert isinstance(value, dict)
    return value


def _checked(path: Path, *, overwrite: bool) -> Path:
    """The real path, if a run folder may be made there."""
    real = path.resolve()
    if not real.exists() and _aside(real).is_dir():  # killed between two renames
        _aside(real).rename(real)
    if not real.exists():
        nearest = next(folder for folder in real.parents if folder.exists())
        if not nearest.is_dir():
            raise OutputError(f"cannot make {path}: {nearest} is a file; choose another place with --out")
        return real
    if not real.is_dir():
        raise OutputError(f"{path} is a file; choose another run folder with --out")
    if (real / MANIFEST).is_file():
        if not overwrite:
            raise OutputError(
                f"the run folder {path} already exists; choose another (--out) or replace it (--overwrite)"
            )
    elif any(real.iterdir()):
        raise OutputError(
            f"{path} exists and is no run folder (it has no {MANIFEST}), so it is left alone; "
            f"choose another folder with --out"
        )
    return real


def _make_parents(parent: Path) -> list[Path]:
    """Make the folders down to `parent`; returns those that were not there, the lowest first."""
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _reason(error: OSError) -> str:
    if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
        return "another run has just made it"
    return error.strerror or str(error)
