"""``vigmm evaluate``, and what it shares with ``vigmm predict``: a saved model and new rows."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import typer

from vigmm.cli.cache import compiled_programs
from vigmm.cli.options import names
from vigmm.cli.progress import Reporter, reporter
from vigmm.cli.tables import print_json
from vigmm.core.errors import ModelFileError
from vigmm.data.arrays import default_columns
from vigmm.data.images import patch_of
from vigmm.data.protocol import Index, Rows2D, place_of
from vigmm.data.sources import SOURCES, DataFile, Source, kind_of
from vigmm.posterior import Assignments, Posterior, load
from vigmm.rundir import MANIFEST, read_manifest

__all__ = ["accelerators", "evaluate", "load_run", "open_for", "skipped", "watched"]


def evaluate(
    run: str, data: str, *, columns: list[str] | None, key: str | None, skip: bool, as_json: bool
) -> None:
    """Print the mean log predictive density of a file's rows, with its standard error."""
    posterior = load_run(run)
    source = open_for(posterior, data, columns=columns, key=key, skip=skip)
    count, mean, scatter = 0, 0.0, 0.0
    with compiled_programs():
        for _, part in watched(posterior, source, reporter(quiet=as_json), "evaluate"):
            values = part.log_density.astype(np.float64)
            total, shift = count + len(values), float(values.mean()) - mean
            scatter += float(np.sum((values - values.mean()) ** 2)) + shift**2 * count * len(values) / total
            mean += shift * len(values) / total
            count = total
    error = math.sqrt(scatter / (count - 1) / count) if count > 1 else math.nan
    if as_json:
        answer = {"mean_log_density": mean, "se": error, "rows": count, "data": source.name, "run": run}
        answer |= {"skipped_rows": skipped(source)} if skip else {}
        print_json(answer)
        return
    spread = f" ± {error:.2g} (standard error)" if count > 1 else ""
    left = f" ({skipped(source):,} skipped)" if skip else ""
    typer.echo(
        f"mean log predictive density {mean:.6f}{spread} nats per row, {count:,} rows of {source.name}{left}"
    )


def skipped(source: Source) -> int:
    """Rows that were left out of a source for a NaN or an infinity."""
    return len(getattr(source, "bad_rows", ()))


def load_run(run: str) -> Posterior:
    """The model of a run folder, or of any folder that `Posterior.save` wrote."""
    folder = Path(run).expanduser()
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        if manifest.get("status") != "finished" and not (folder / "model.json").exists():
            raise ModelFileError(
                f"{run} has no model yet: the run that began {manifest.get('started')} has not finished; "
                f"wait for it, or go on with it: vigmm fit --resume {shlex.quote(run)}"
            )
    elif not folder.exists():
        raise ModelFileError(f"{run}: no such run folder; name the folder that vigmm fit wrote")
    return load(folder)


def open_for(
    posterior: Posterior, path: str, *, columns: list[str] | None, key: str | None, skip: bool = False
) -> Source:
    """Open a file as rows for a model: of a table, the model's columns are taken by name.

    Args:
        posterior: the model.
        path: the file.
        columns: names, each perhaps several with commas, that stand for the model's columns in order.
        key: which array of a file that holds several.
        skip: whether to leave out rows with a NaN or an infinity, instead of refusing them.
    """
    bad: Literal["refuse", "skip"] = "skip" if skip else "refuse"
    if columns:
        told = names(columns)
        source = DataFile(path, columns=told, key=key, on_bad_rows=bad).open()
        renamed = len(told) == posterior.dim and set(told) != set(posterior.columns)
        return _Renamed(source, posterior.columns) if renamed else source
    options = SOURCES[kind_of(path)].options
    named = posterior.columns != default_columns(posterior.dim)
    return DataFile(
        path,
        columns=posterior.columns if named and "columns" in options else None,
        key=key,
        xy="xy" in options and {"x", "y"} <= set(posterior.columns),
        patch=patch_of(posterior.columns) if "patch" in options else 1,
        on_bad_rows=bad,
    ).open()


class _Renamed:
    """A source under the model's column names, for somebody has said which column is which."""

    def __init__(self, source: Source, columns: tuple[str, ...]) -> None:
        self._source, self.columns = source, columns
        self.name, self.dim, self.dtype = source.name, source.dim, source.dtype
        for name in ("piece_ends", "bad_rows", "row_numbers"):
            if hasattr(source, name):
                setattr(self, name, getattr(source, name))

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Index) -> Rows2D:
        return self._source[index]

    def place(self, row: int) -> str:
        return place_of(self._source, row)

    def fingerprint(self) -> str:
        return self._source.fingerprint()


def accelerators() -> Sequence[jax.Device]:
    """All devices of this machine that are no CPU: of CPUs, JAX's default one uses all cores."""
    return jax.local_devices() if jax.default_backend() != "cpu" else ()


def watched(
    posterior: Posterior, source: Source, show: Reporter | None, phase: str, *, full: bool = False
) -> Iterator[tuple[int, Assignments]]:
    """The assignments of all rows, chunk by chunk, shown as they come."""
    parts = posterior.assign_blocks(source, full=full, devices=accelerators())
    if show is None:
        yield from parts
        return
    show.start(len(source), phase)
    try:
        for start, part in parts:
            yield start, part
            show.update(start + len(part.component), {})
        show.finish()
    finally:
        show.close()
