"""``vigmm fit``: from a configuration to a run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from pathlib import Path

import typer

from vigmm import api
from vigmm.cli.cache import compiled_programs
from vigmm.cli.complaints import complain
from vigmm.cli.machines import Machines, joined
from vigmm.cli.progress import WRITE, reporter
from vigmm.cli.reading import Reading
from vigmm.config import Job, Output, load_job, path_of, to_yaml
from vigmm.core.errors import ConfigError, SpecError, VigmmError
from vigmm.core.outcome import Outcome, Status
from vigmm.core.processes import Group
from vigmm.data.sources import Source
from vigmm.rundir import (
    CHECKPOINTS,
    CONFIG,
    MANIFEST,
    RunFolder,
    locked,
    read_manifest,
    write_json,
    write_text,
)
from vigmm.rundir.results import utc, write_results
from vigmm.rundir.words import Facts
from vigmm.tracking import Watchers, watching
from vigmm.train import Checkpoints

__all__ = ["EXIT_FAILED", "EXIT_INTERRUPTED", "Interrupted", "exit_code", "run"]

EXIT_FAILED, EXIT_INTERRUPTED = 6, 130


class Interrupted(VigmmError):
    """A hand stopped the run while it was writing."""

    exit_code = EXIT_INTERRUPTED


def run(
    config: str | None,
    overrides: list[str],
    *,
    resume: str | None = None,
    out: str | None,
    overwrite: bool,
    quiet: bool,
    machines: Machines | None = None,
) -> int:
    """Do the run that a configuration file describes; returns the exit code.

    A run folder that holds a broken-off run of the same configuration is gone on with.

    Args:
        config: path of the file.
        overrides: assignments such as ``train.passes=4``.
        resume: a run folder instead: its own configuration, from where it was broken off.
        out: run folder, instead of the one in the configuration.
        overwrite: whether it may be replaced; so it may if the configuration says so.
        quiet: whether to say nothing.
        machines: what was told of other processes that do this run together with this one.
    """
    if (config is None) == (resume is None):
        raise typer.BadParameter("name a configuration, or a run folder with --resume: one of them")
    if resume is not None and (overrides or out or overwrite):
        raise ConfigError(
            "--resume goes on with a run as it was begun: leave out --set, --out and --overwrite"
        )
    job = load_job(config or str(_unfinished(resume).path / CONFIG), overrides)
    output = dataclasses.replace(
        job.output,
        folder=resume or out or job.output.folder,
        overwrite=resume is None and (overwrite or job.output.overwrite),
    )
    job = dataclasses.replace(job, output=output)
    with compiled_programs(wanted=job.cache), joined(machines or Machines()) as group:
        if group.count > 1:
            # Each process has a share of the rows only; predict writes them all.
            job = dataclasses.replace(job, output=dataclasses.replace(output, assignments=False))
        if not group.first:
            return _assist(job, group)
        return _run(job, group, resumed=resume is not None, quiet=quiet)


def _unfinished(where: str | None) -> RunFolder:
    assert where is not None
    status = read_manifest(where).get("status")
    found = RunFolder.unfinished(where)
    if found is None:
        raise ConfigError(
            f"--resume {where}: this run is {status}, so there is nothing to go on with. To fit anew, use "
            f"its {CONFIG} with another --out"
        )
    return found


def _assist(job: Job, group: Group) -> int:
    """Do this process's share of a run that the first process writes."""
    group.gather_facts("here")  # when all have answered, the run folder is there
    source = job.data.open(group)
    job = job.resolved(rows=sum(group.counts(len(source))), dim=source.dim)
    fit = _fit(job, source, None, _saved(job, Path(job.output.folder), group), group)
    group.gather_facts("done")
    return exit_code(fit.outcome)


def _saved(job: Job, folder: Path, group: Group) -> Checkpoints | None:
    if job.checkpoints.seconds is None:
        return None
    return Checkpoints(folder / CHECKPOINTS, job.checkpoints, group)


def _run(job: Job, group: Group, *, resumed: bool, quiet: bool) -> int:
    started, output, about = utc(), job.output, _digest(job)
    manifest = {"schema": 1, "status": "running", "started": started, "job": about}
    # A run that was broken off is gone on with even if it might be replaced: it ends with the same bits.
    folder = RunFolder.unfinished(output.folder, about=None if resumed else about)
    if folder is None:
        # The folder comes first: who would learn after an hour that it cannot be written?
        folder = RunFolder.create(
            output.folder, config=to_yaml(job), manifest=manifest, overwrite=output.overwrite
        )
    # The lock goes first: a second process must not touch what the first is making.
    with locked(folder.path), folder:
        earlier = read_manifest(folder.path)
        started, resumed = earlier["started"], folder.resumable
        write_json(folder.path / MANIFEST, {**earlier, "status": "running"})
        if resumed and not quiet:
            typer.echo(f"going on with the run in {output.folder}, begun {started}", err=True)
        group.gather_facts("here")
        source = job.data.open(group)
        num_rows = sum(group.counts(len(source)))
        job = job.resolved(rows=num_rows, dim=source.dim)
        write_text(folder.path / CONFIG, to_yaml(job))
        if not quiet:
            _announce(job, source, num_rows, group)
        steps = job.steps_per_pass(rows=num_rows, dim=source.dim)
        saved = _saved(job, folder.path, group)
        show = reporter(quiet=quiet, steps_per_pass=steps)
        reading = None if show is None else Reading(source, show, passes=3 if job.model.missing else 2)
        rows = source if reading is None else reading.source
        try:
            with watching(job, folder.path, reading, complain=complain) as watchers:
                fit = _fit(job, rows, watchers, saved, group)
                watchers.result(fit)
        except KeyboardInterrupt as error:
            if not folder.resumable:
                raise
            raise Interrupted(
                f"interrupted: {output.folder} can be gone on with by the same command"
            ) from error
        if not quiet:
            typer.echo(f"writing {output.folder}", err=True)
        show = reporter(quiet=quiet)
        if show is not None:
            writing = Reading(source, show, phase=WRITE, passes=1, then=None)
            fit = dataclasses.replace(fit, data=writing.source)
        try:
            facts = write_results(folder, fit, job, started=started)
        except KeyboardInterrupt as error:
            what = "the model is there and the rest is incomplete" if folder.kept else "nothing was kept"
            raise Interrupted(f"interrupted while writing {output.folder}: {what}") from error
        finally:
            if show is not None:
                show.close()
        if saved is not None:
            saved.clear()
        group.gather_facts("done")
    if not quiet:
        _tell(facts, output.folder)
    elif not fit.outcome.ok:
        typer.echo(f"vigmm: {fit.outcome.status}: {fit.outcome.message}", err=True)
    return exit_code(fit.outcome)


def _digest(job: Job) -> str:
    """What makes two runs the same: everything but where they are written."""
    same = dataclasses.replace(job, output=Output(), cache=True, track=())
    return hashlib.sha256(to_yaml(same).encode()).hexdigest()


def exit_code(outcome: Outcome) -> int:
    """0 for a model that the run meant to make, 130 if a hand stopped it, 6 if it went wrong."""
    if outcome.status is Status.INTERRUPTED:
        return EXIT_INTERRUPTED
    return 0 if outcome.ok else EXIT_FAILED


def _fit(job: Job, source: Source, show: Watchers | None, saved: Checkpoints | None, group: Group) -> api.Fit:
    try:
        return api.fit(
            source,
            model=job.model,
            family=job.family,
            estimator=job.estimator,
            optimizer=job.optimizer,
            start=job.start,
            train=job.train,
            moves=job.moves,
            seed=job.seed,
            dtype=job.dtype,
            progress=show,
            checkpoints=saved,
            group=group,
        )
    except SpecError as error:  # what can only be judged with the data at hand
        raise SpecError(path_of(job, error.field, error.got), error.must, error.got) from error


def _announce(job: Job, source: Source, rows: int, group: Group) -> None:
    columns = ", ".join(source.columns[:8]) + (", ..." if source.dim > 8 else "")
    typer.echo(f"{source.name}: {rows:,} rows of {source.dim} ({columns})", err=True)
    bad = len(getattr(source, "bad_rows", ()))
    if bad:
        typer.echo(f"{bad:,} rows with a NaN or an infinity are left out (data.on_bad_rows)", err=True)
    if group.count > 1:
        typer.echo(
            f"{group.count} processes, each with its share of the rows; vigmm predict assigns them", err=True
        )
    if job.train.stream:
        portion = job.train.portion(source.dim, job.dtype)
        typer.echo(f"the rows are read again in every pass, {portion:,} at a time (train.stream)", err=True)
    ignored = getattr(source, "ignored", ())
    if ignored:
        typer.echo(f"left out, for they hold no numbers: {', '.join(ignored)}", err=True)


def _tell(facts: Facts, folder: str) -> None:
    lines = facts.lines()
    width = max(len(head) for head, _ in lines) + 2
    for head, text in lines:
        typer.echo(f"{head:<{width}}{text}")
    for line in facts.advice():
        typer.echo(f"{'Note':<{width}}{line}")
    typer.echo(f"{'Run folder':<{width}}{folder} (read summary.txt first)")
    typer.echo(f"{'Next':<{width}}vigmm report {shlex.quote(folder)} writes a page to look at")
