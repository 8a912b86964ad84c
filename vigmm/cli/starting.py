"""``vigmm init``: from data to a configuration to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from vigmm.config import look, read_job, suggest
from vigmm.core.errors import OutputError
from vigmm.data.sources import DataFile
from vigmm.rundir import appearing

__all__ = ["init"]

_LISTED = 8


def init(data: str, out: str, *, key: str | None, overwrite: bool, quiet: bool) -> None:
    """Look at data and write a configuration.

    Args:
        data: a file, a folder of files or a query.
        out: the configuration file.
        key: which array of an ``.npz`` or HDF5 file.
        overwrite: whether it may be replaced.
        quiet: whether to say nothing.
    """
    target = Path(out).expanduser()
    if target.is_dir():
        raise OutputError(f"{out} is a folder; name a file, such as {out.rstrip('/')}/config.yaml")
    if not target.parent.is_dir():
        raise OutputError(
            f"{out} cannot be written: there is no folder {target.parent}; make it, or use --out"
        )
    if target.exists() and not overwrite:
        raise OutputError(f"{out} already exists; choose another name with --out, or add --overwrite")
    chosen = DataFile(data, key=key)
    seen = look(chosen)
    text = suggest(chosen, seen, name=out)
    read_job(text, name=out)  # whatever a column is called
    with appearing(target, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    if quiet:
        return
    about, count = "" if seen.exact else "about ", len(seen.kept)
    typer.echo(f"{seen.name}: {about}{seen.rows:,} rows, {count} column{'s' * (count > 1)} to cluster by")
    left = [f"{column.name} ({column.left_out})" for column in seen.columns if column.left_out is not None]
    left += [f"{name} (no numbers)" for name in seen.text]
    for line in left[:_LISTED]:
        typer.echo(f"left out: {line}")
    if len(left) > _LISTED:
        typer.echo(f"left out: {len(left) - _LISTED} more; {out} names them")
    typer.echo(f"{out} is written; read it, and then: vigmm fit {shlex.quote(out)}")
