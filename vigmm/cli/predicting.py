"""``vigmm predict``: from files of rows to files of assignments, in memory that does not grow with them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import typer

from vigmm import __version__
from vigmm.cli.cache import compiled_programs
from vigmm.cli.fitting import Interrupted
from vigmm.cli.machines import tasks
from vigmm.cli.progress import Reporter, reporter
from vigmm.cli.scoring import accelerators, load_run, open_for, skipped, watched
from vigmm.core.errors import ConfigError, EmptyError, OutputError
from vigmm.data.files import place
from vigmm.data.folders import common_folder, mine
from vigmm.data.remote import address_of, is_remote, list_remote, public
from vigmm.data.sources import Source, resolve
from vigmm.posterior import Assignments, Posterior, digest
from vigmm.rundir.assignments import write_assignments
from vigmm.rundir.prediction import InputPart, PredictionFolder, list_parts

__all__ = ["predict", "share"]

_SUFFIXES = (".parquet", ".pq")


def predict(
    run: str,
    data: str,
    out: str,
    *,
    columns: list[str] | None,
    key: str | None,
    probabilities: bool,
    part: str | None,
    skip: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Write the assignments of rows as Parquet: one file, or a folder with a file for each input file.

    Args:
        run: folder of the model.
        data: the rows.
        out: a name that ends in ``.parquet``, or a folder.
        columns: see `vigmm.cli.scoring.open_for`.
        key: see `vigmm.cli.scoring.open_for`.
        probabilities: whether to write the probabilities of all components.
        part: which share of the input files, as ``I/N``.
        skip: whether to leave out rows with a NaN or an infinity.
        overwrite: whether what is there may be replaced.
        quiet: whether to say nothing.
    """
    target = Path(out).expanduser()
    files = None if target.suffix in _SUFFIXES else resolve(data)[1]
    if files is None and target.suffix not in _SUFFIXES:
        raise OutputError(f"{out}: assignments are written as Parquet; give a name that ends in .parquet")
    if not target.parent.is_dir():
        raise OutputError(f"{out} cannot be written: there is no folder {target.parent}; make it first")
    if files is None:
        if part is not None:
            raise ConfigError("--part is for rows in many files and an output folder")
        if target.exists() and not overwrite:
            raise OutputError(f"{out} already exists; choose another name, or add --overwrite to replace it")
        ask = _Ask(load_run(run), columns, key, probabilities, skip)
        told = _one(ask, data, target, overwrite=overwrite, show=reporter(quiet=quiet))
    else:
        index, count = share(part)
        if overwrite and count > 1:
            raise ConfigError(f"--overwrite with --part would remove the other shares; delete {out} first")
        base = PurePosixPath(list_remote(data)[1]) if is_remote(data) else common_folder(data)
        within = isinstance(base, Path) and target.resolve().is_relative_to(base.resolve())
        if within and (place(data).is_dir() or "**" in data):
            raise OutputError(f"{out} lies in the folder of the rows, {base}; choose another with --out")
        ask = _Ask(load_run(run), columns, key, probabilities, skip)
        folder = PredictionFolder.begin(
            target,
            list_parts(files, base),
            about={"model": digest(run), **ask.about()},
            note={"vigmm": __version__, "run": run, "data": public(data) if is_remote(data) else data},
            overwrite=overwrite,
        )
        chosen = mine(folder.parts, index, count)
        _many(ask, folder, chosen, show=reporter(quiet=quiet))
        total, of = folder.finish(), "" if count == 1 else f" (share {index} of {count})"
        whole = "" if total is None or count == 1 else f"; all {len(folder.parts)} parts are there"
        rows, left_out = folder.rows(chosen)
        told = f"{_rows(rows, left_out)} in {len(chosen)} parts{of}{whole}"
    if not quiet:
        typer.echo(f"{out}: {told}")


def share(part: str | None, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Number of this process and number of processes: by ``I/N``, by JAX, or by what started them.

    Args:
        part: what the user said.
        environment: where Slurm's srun and Open MPI say how many tasks they started.

    Raises:
        ConfigError: if `part` is not ``I/N`` with 0 <= I < N.

    Example:
        >>> share("1/4")
        (1, 4)
        >>> share(None, {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "3"})
        (3, 8)
    """
    import jax

    if part is None and jax.distributed.is_initialized():
        return jax.process_index(), jax.process_count()
    if part is None:
        part = next((f"{rank}/{count}" for rank, count in tasks(environment)), "0/1")
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    if found is None or not int(found[1]) < int(found[2]):
        raise ConfigError(f"--part must be I/N with I from 0 to N - 1, such as 0/4, got {part!r}")
    return int(found[1]), int(found[2])


@dataclass(frozen=True)
class _Ask:
    """What is asked of a model, whatever the rows.

    Args:
        posterior: the model.
        columns: which columns; see `vigmm.cli.scoring.open_for`.
        key: which array of a file.
        full: whether to write all responsibilities.
        skip: whether to leave out bad rows.
    """

    posterior: Posterior
    columns: list[str] | None
    key: str | None
    full: bool
    skip: bool

    @property
    def noise(self) -> bool:
        """Whether the last responsibility is that of the noise."""
        return self.posterior.model.noise is not None

    def about(self) -> dict[str, Any]:
        """What the predictions depend on, beside the model and the rows."""
        columns = None if not self.columns else ",".join(self.columns)
        return {"columns": columns, "key": self.key, "probabilities": self.full, "skip_bad_rows": self.skip}

    def open(self, path: str) -> Source:
        """The rows of a file."""
        return open_for(self.posterior, path, columns=self.columns, key=self.key, skip=self.skip)

    def nothing(self) -> Assignments:
        """The assignments of no rows."""
        none = np.zeros(0, self.posterior.dtype)
        width = self.posterior.num_components + self.noise
        resp = np.zeros((0, width), self.posterior.dtype) if self.full else None
        return Assignments(np.zeros(0, np.int32), none, none, resp)


@dataclass(frozen=True)
class _NoRows:
    """What stands for a source from which all rows, if there were any, were left out."""

    bad_rows: Sequence[int]


def _one(ask: _Ask, data: str, target: Path, *, overwrite: bool, show: Reporter | None) -> str:
    source = ask.open(data)
    parts = watched(ask.posterior, source, show, "predict", full=ask.full)
    try:
        with compiled_programs():
            count = write_assignments(target, parts, overwrite=overwrite, noise=ask.noise, source=source)
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted while writing {target}: nothing was kept") from error
    return _rows(count, skipped(source))


def _rows(count: int, left_out: int) -> str:
    return f"{count:,} rows" + (f" ({left_out:,} more were skipped)" if left_out else "")


def _many(ask: _Ask, folder: PredictionFolder, chosen: Sequence[InputPart], *, show: Reporter | None) -> None:
    """Predict those of the chosen parts that are not there yet, one after the other."""
    left = folder.left(chosen)
    if show is not None:
        if len(left) < len(chosen):
            typer.echo(f"{folder.path}: {len(chosen) - len(left)} of {len(chosen)} parts are there", err=True)
        show.start(sum(one.size for one in left), "predict")  # bytes, for the rows are not known yet
    done = 0
    try:
        with compiled_programs():
            for one in left:
                source: Source | _NoRows
                one.check()
                try:
                    source = ask.open(address_of(one.file))
                    blocks = _checked(ask, source, one, show, done)
                except EmptyError as error:
                    source, blocks = _NoRows(range(error.skipped)), iter([(0, ask.nothing())])
                write_assignments(folder.path / one.out, blocks, noise=ask.noise, source=source)
                done += one.size
        if show is not None:
            show.finish()
    except KeyboardInterrupt as error:
        whole = len(chosen) - len(folder.left(left))
        raise Interrupted(
            f"interrupted: {whole} of {len(chosen)} parts are in {folder.path}; the same command goes on"
        ) from error
    finally:
        if show is not None:
            show.close()


def _checked(
    ask: _Ask, source: Source, part: InputPart, show: Reporter | None, done: int
) -> Iterator[tuple[int, Assignments]]:
    """The assignments of one part, which must not change on the way."""
    for start, found in ask.posterior.assign_blocks(source, full=ask.full, devices=accelerators()):
        yield start, found
        if show is not None:
            show.update(done + part.size * (start + len(found.component)) // len(source), {})
    part.check()
