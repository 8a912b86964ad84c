"""``vigmm shuffle``: is the order of the rows random, and if not, rows whose order is."""

from __future__ import annotations

from pathlib import Path

import typer

from vigmm.cli.fitting import Interrupted
from vigmm.cli.options import names
from vigmm.cli.progress import reporter
from vigmm.core.errors import ConfigError, OutputError
from vigmm.data.arrays import default_columns
from vigmm.data.audit import shuffle_audit
from vigmm.data.files import place
from vigmm.data.remote import is_remote
from vigmm.data.sources import DataFile
from vigmm.rundir.shuffle import FORMATS, shuffle

__all__ = ["run"]


def run(
    data: str,
    out: str | None,
    *,
    seed: int,
    format: str | None,
    columns: list[str] | None,
    key: str | None,
    quiet: bool,
) -> None:
    """Say how ordered the rows are and, if there is a folder to write to, shuffle them.

    Args:
        data: the rows.
        out: the new folder, or None.
        seed: chooses the order.
        format: a row of `FORMATS`; by default ``npy`` for rows whose columns have no names.
        columns: names, each perhaps several with commas.
        key: which array of a file.
        quiet: whether to say nothing.
    """
    if format is not None and format not in FORMATS:
        raise ConfigError(f"--format must be one of {', '.join(sorted(FORMATS))}, got {format!r}")
    if not seed >= 0:
        raise ConfigError(f"--seed must be >= 0, got {seed}")
    source = DataFile(data, columns=names(columns) if columns else None, key=key).open()
    if not quiet:
        typer.echo(f"{source.name}: {shuffle_audit(source)}")
        ignored = getattr(source, "ignored", ())
        if ignored:
            typer.echo(f"left out, for they hold no numbers: {', '.join(ignored)}", err=True)
    if out is None:
        return
    target = Path(out).expanduser()
    if (
        not is_remote(data)
        and place(data).is_dir()
        and target.resolve().is_relative_to(place(data).resolve())
    ):
        raise OutputError(f"{out} lies in the folder of the rows, {data}; choose one outside it with --out")
    if format is None:
        format = "npy" if source.columns == default_columns(source.dim) else "parquet"
    show = reporter(quiet=quiet)
    if show is not None:
        show.start(2 * len(source), "shuffle")
    try:
        parts = shuffle(
            source,
            target,
            format=format,
            seed=seed,
            progress=None if show is None else lambda done: show.update(done, {}),
        )
        if show is not None:
            show.finish()
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted while shuffling: nothing was kept") from error
    finally:
        if show is not None:
            show.close()
    if not quiet:
        shuffled = shuffle_audit(DataFile(str(target), kind=format).open())
        typer.echo(f"{out}: {len(source):,} rows in {len(parts)} parts; now {shuffled}")
