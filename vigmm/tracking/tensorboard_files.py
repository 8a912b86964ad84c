"""TensorBoard's event files, by tensorboardX, which needs no TensorFlow."""

from __future__ import annotations

import importlib
import json
from typing import Any

from vigmm.core.errors import OutputError
from vigmm.core.flat import flat
from vigmm.core.redact import redacted
from vigmm.core.struct import require, spec
from vigmm.tracking.base import Ending, Run

__all__ = ["TensorBoard"]

_FLUSH_SECONDS = 10


@spec
class TensorBoard:
    """Event files for ``tensorboard --logdir FOLDER``.

    Args:
        folder: where they go; by default ``tensorboard`` in the run folder.
    """

    folder: str | None = None

    def __post_init__(self) -> None:
        require(
            self.folder is None or self.folder.strip() != "", "folder", "the path of a folder", self.folder
        )

    def open(self, run: Run) -> _EventFiles:
        """Begin an event file; the configuration is its first entry, under *text*."""
        try:
            files = importlib.import_module("tensorboardX")
        except ImportError as error:
            raise OutputError(
                "track: event files need tensorboardX; pip install 'vigmm[tensorboard]', or leave "
                "tensorboard out of track"
            ) from error
        where = str(run.folder / "tensorboard") if self.folder is None else self.folder
        try:
            writer = files.SummaryWriter(where, flush_secs=_FLUSH_SECONDS)
        except OSError as error:
            raise OutputError(
                f"track: event files cannot be written to {where}: {error.strerror or error}; "
                "choose another folder"
            ) from error
        rows = [f"| {name} | {_cell(value)} |" for name, value in flat(run.config)]
        writer.add_text("config", "\n".join(["| choice | value |", "|---|---|", *rows]))
        return _EventFiles(writer)


def _cell(value: Any) -> str:
    """A value in a table of Markdown, where a bar would end the cell."""
    return redacted(json.dumps(value)).replace("|", "\\|")


class _EventFiles:
    """An open event file."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def log(self, step: int, values: dict[str, float]) -> None:
        """A scalar each."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def end(self, ending: Ending, final: dict[str, float]) -> None:
        """What the run came to, at step 0, and how it ended, as text."""
        self.log(0, {f"final/{name}": value for name, value in final.items()})
        self._writer.add_text("ending", ending)
        self._writer.close()
