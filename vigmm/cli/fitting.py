"""``vigmm fit``: from a configuration to a run folder."""

from __future__ import annotations

import dataclasses
import hashlib

import typer

from vigmm import api
from vigmm.cli.cache import compiled_programs
from vigmm.cli.progress import Reporter, reporter
from vigmm.config import Job, Output, load_job, path_of, to_yaml
from vigmm.core.errors import ConfigError, OutputError, SpecError, VigmmError
from vigmm.core.outcome import Outcome, Status
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
    """
    if (config is None) == (resume is None):
        raise ConfigError("name a configuration, or a run folder with --resume: one of them")
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
    with compiled_programs(wanted=job.cache):
        return _run(job, resumed=resume is not None, quiet=quiet)


def _unfinished(where: str | None) -> RunFolder:
    assert where is not None
    status = read_manifest(where).get("status")
    found = RunFolder.unfinished(where)
    if found is None:
        raise OutputError(f"{where} is {status}: there is nothing to go on with")
    return found


def _run(job: Job, *, resumed: bool, quiet: bool) -> int:
    started, output, about = utc(), job.output, _digest(job)
    manifest = {"schema": 1, "status": "running", "started": started, "job": about}
    folder = (
        None if output.overwrite else RunFolder.unfinished(output.folder, about=None if resumed else about)
    )
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
        source = job.data.open()
        job = job.resolved(rows=len(source), dim=source.dim)
        write_text(folder.path / CONFIG, to_yaml(job))
        if not quiet:
            _announce(job, source)
        steps = job.steps_per_pass(rows=len(source), dim=source.dim)
        saved = None
        if job.checkpoints.seconds is not None:
            saved = Checkpoints(folder.path / CHECKPOINTS, job.checkpoints)
        fit = _fit(job, source, reporter(quiet=quiet, steps_per_pass=steps), saved)
        if not quiet:
            typer.echo(f"writing {output.folder}", err=True)
        try:
            facts = write_results(folder, fit, job, started=started)
        except KeyboardInterrupt as error:
            what = "the model is there and the rest is incomplete" if folder.kept else "nothing was kept"
            raise Interrupted(f"interrupted while writing {output.folder}: {what}") from error
        if saved is not None:
            saved.clear()
    if not quiet:
        _tell(facts, output.folder)
    elif not fit.outcome.ok:
        typer.echo(f"vigmm: {fit.outcome.status}: {fit.outcome.message}", err=True)
    return exit_code(fit.outcome)


def _digest(job: Job) -> str:
    """What makes two runs the same: everything but where they are written."""
    same = dataclasses.replace(job, output=Output(), cache=True)
    return hashlib.sha256(to_yaml(same).encode()).hexdigest()


def exit_code(outcome: Outcome) -> int:
    """0 for a model that the run meant to make, 130 if a hand stopped it, 6 if it went wrong."""
    if outcome.status is Status.INTERRUPTED:
        return EXIT_INTERRUPTED
    return 0 if outcome.ok else EXIT_FAILED


def _fit(job: Job, source: Source, show: Reporter | None, saved: Checkpoints | None) -> api.Fit:
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
        )
    except SpecError as error:  # what can only be judged with the data at hand
        raise SpecError(path_of(job, error.field, error.got), error.must, error.got) from error
    finally:
        if show is not None:
            show.close()


def _announce(job: Job, source: Source) -> None:
    columns = ", ".join(source.columns[:8]) + (", ..." if source.dim > 8 else "")
    typer.echo(f"{source.name}: {len(source):,} rows of {source.dim} ({columns})", err=True)
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
