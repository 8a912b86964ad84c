"""``vigmm fit``: from a configuration to a run folder."""

from __future__ import annotations

import dataclasses

import typer

from vigmm import api
from vigmm.cli.cache import compiled_programs
from vigmm.cli.progress import Reporter, reporter
from vigmm.config import Job, load_job, path_of, to_yaml
from vigmm.core.errors import SpecError, VigmmError
from vigmm.core.outcome import Outcome, Status
from vigmm.data.sources import Source
from vigmm.rundir import CONFIG, RunFolder, write_text
from vigmm.rundir.results import utc, write_results
from vigmm.rundir.words import Facts

__all__ = ["EXIT_FAILED", "EXIT_INTERRUPTED", "Interrupted", "exit_code", "run"]

EXIT_FAILED, EXIT_INTERRUPTED = 6, 130


class Interrupted(VigmmError):
    """A hand stopped the run while it was writing."""

    exit_code = EXIT_INTERRUPTED


def run(config: str, overrides: list[str], *, out: str | None, overwrite: bool, quiet: bool) -> int:
    """Do the run that a configuration file describes; returns the exit code.

    Args:
        config: path of the file.
        overrides: assignments such as ``train.passes=4``.
        out: run folder, instead of the one in the configuration.
        overwrite: whether it may be replaced; so it may if the configuration says so.
        quiet: whether to say nothing.
    """
    job = load_job(config, overrides)
    output = dataclasses.replace(
        job.output, folder=out or job.output.folder, overwrite=overwrite or job.output.overwrite
    )
    job = dataclasses.replace(job, output=output)
    with compiled_programs(wanted=job.cache):
        return _run(job, quiet=quiet)


def _run(job: Job, *, quiet: bool) -> int:
    started, output = utc(), job.output
    # The folder comes first: who would learn after an hour that it cannot be written?
    with RunFolder.create(
        output.folder,
        config=to_yaml(job),
        manifest={"schema": 1, "status": "running", "started": started},
        overwrite=output.overwrite,
    ) as folder:
        source = job.data.open()
        job = job.resolved(rows=len(source))
        write_text(folder.path / CONFIG, to_yaml(job))
        if not quiet:
            _announce(job, source)
        show = reporter(quiet=quiet, steps_per_pass=job.steps_per_pass(rows=len(source)))
        fit = _fit(job, source, show)
        if not quiet:
            typer.echo(f"writing {output.folder}", err=True)
        try:
            facts = write_results(folder, fit, job, started=started)
        except KeyboardInterrupt as error:
            what = "the model is there and the rest is incomplete" if folder.kept else "nothing was kept"
            raise Interrupted(f"interrupted while writing {output.folder}: {what}") from error
    if not quiet:
        _tell(facts, output.folder)
    elif not fit.outcome.ok:
        typer.echo(f"vigmm: {fit.outcome.status}: {fit.outcome.message}", err=True)
    return exit_code(fit.outcome)


def exit_code(outcome: Outcome) -> int:
    """0 for a model that the run meant to make, 130 if a hand stopped it, 6 if it went wrong."""
    if outcome.status is Status.INTERRUPTED:
        return EXIT_INTERRUPTED
    return 0 if outcome.ok else EXIT_FAILED


def _fit(job: Job, source: Source, show: Reporter | None) -> api.Fit:
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
        )
    except SpecError as error:  # what can only be judged with the data at hand
        raise SpecError(path_of(job, error.field, error.got), error.must, error.got) from error
    finally:
        if show is not None:
            show.close()


def _announce(job: Job, source: Source) -> None:
    columns = ", ".join(source.columns[:8]) + (", ..." if source.dim > 8 else "")
    typer.echo(f"{source.name}: {len(source):,} rows of {source.dim} ({columns})", err=True)
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
