"""What a finished fit leaves in its run folder.

The model comes first: from then on the folder is worth keeping. The manifest comes last, and says that all
is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from vigmm.core.specdict import to_dict
from vigmm.posterior import Assignments, Summary
from vigmm.rundir.assignments import write_assignments
from vigmm.rundir.files import appearing, plain, write_json, write_text
from vigmm.rundir.folder import MANIFEST, RunFolder
from vigmm.rundir.words import Facts, report

if TYPE_CHECKING:
    from vigmm.api import Fit
    from vigmm.config import Job

__all__ = ["utc", "write_metrics", "write_results"]

ASSIGNMENTS = "assignments.parquet"


def utc() -> str:
    """The time now, as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_results(folder: RunFolder, fit: Fit, job: Job, *, started: str) -> Facts:
    """Write everything that the job asks for.

    Args:
        folder: the run's folder.
        fit: what was found.
        job: what was asked for.
        started: when the run began, in UTC.

    Returns:
        What the summary says, for whoever wants to say it on a screen.
    """
    began = time.perf_counter()
    path = folder.path
    fit.save(path)
    folder.keep()
    write_metrics(path / "metrics.jsonl", fit.metrics)
    doubtful, labels = _assign(path, fit, job)
    # The job knows the name of each choice, as a configuration file would give it.
    chosen = {name: value for name, value in to_dict(job).items() if name in fit.manifest and name != "data"}
    manifest = {**fit.manifest, **chosen}
    data = manifest["data"]
    manifest["steps_per_pass"] = job.steps_per_pass(rows=data["rows"], dim=len(data["columns"]))
    summary = fit.posterior.summary(rows=manifest["data"]["rows"])
    facts = Facts.of(manifest, summary.to_dict(), doubtful=doubtful)
    pictures, facts.skipped = _draw(path / "plots", fit, job, summary, labels)
    facts.seconds = {**facts.seconds, "write": round(time.perf_counter() - began, 4)}
    write_json(path / "summary.json", {**facts.to_dict(), "summary": summary.to_dict()})
    files = sorted(file.name for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    write_text(
        path / "summary.txt", report(facts, str(summary), files=[*files, "summary.txt"], pictures=pictures)
    )
    write_json(
        path / MANIFEST,
        {
            "schema": 1,
            "status": "finished",
            "started": started,
            "finished": utc(),
            **manifest,
            "seconds": facts.seconds,
            "skipped": facts.skipped,
        },
    )
    return facts


def write_metrics(path: Path, metrics: dict[str, np.ndarray]) -> None:
    """One JSON record a line and a step; what is measured once per chunk is in the chunk's last record."""
    with appearing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in _records(metrics):
            file.write(json.dumps(plain(record), allow_nan=False) + "\n")


def _records(metrics: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    steps = metrics["step"]
    each = {
        name: values for name, values in metrics.items() if len(values) == len(steps) and name != "chunk_step"
    }
    chunk = {name: values for name, values in metrics.items() if name not in each and name != "chunk_step"}
    at = {int(done) - 1: i for i, done in enumerate(metrics.get("chunk_step", ()))}
    for i, step in enumerate(steps.tolist()):
        record = {name: values[i].item() for name, values in each.items()}
        if record.get("bad", 0) == -1:  # nothing was wrong
            del record["bad"]
        if step in at:
            record |= {name: values[at[step]].item() for name, values in chunk.items()}
        yield record


def _assign(path: Path, fit: Fit, job: Job) -> tuple[float | None, Int[np.ndarray, " N"] | None]:
    """Write the assignments; returns the share of doubtful rows and, of an image, all labels."""
    if not job.output.assignments:
        return None, None
    keep_labels = _is_image(fit)
    labels: list[np.ndarray] = []
    doubtful = 0

    def watched() -> Iterator[tuple[int, Assignments]]:
        nonlocal doubtful
        for start, part in fit.posterior.assign_blocks(fit.data):
            doubtful += int(np.sum(part.probability < 0.8))
            if keep_labels:
                labels.append(part.component)
            yield start, part

    count = write_assignments(path / ASSIGNMENTS, watched(), source=fit.data)
    return doubtful / count, np.concatenate(labels) if keep_labels else None


def _is_image(fit: Fit) -> bool:
    return hasattr(fit.data, "height") and hasattr(fit.data, "width")


def _draw(
    path: Path, fit: Fit, job: Job, summary: Summary, labels: Int[np.ndarray, " N"] | None
) -> tuple[list[str], list[str]]:
    """Draw the pictures; returns their names and what was skipped and why."""
    from vigmm import plot

    if not job.output.plots:
        return [], []
    if not plot.available():
        return [], ["pictures: they need matplotlib; pip install 'vigmm[plot]'"]
    path.mkdir(exist_ok=True)
    posterior, source = fit.posterior, fit.data
    pictures: dict[str, Any] = {"trace": plot.trace(fit)}
    pictures["weights"] = plot.weights(summary)
    index = np.sort(np.random.default_rng(posterior.seed).permutation(len(source))[: plot.MAX_POINTS])
    sample = source[index]
    pictures["clusters"] = plot.clusters(
        sample,
        posterior.predict(sample),
        means=posterior.means,
        covariances=posterior.covariances,
        weights=posterior.weights,
        columns=source.columns,
        total=len(source),
    )
    if _is_image(fit):
        image: Any = source
        if labels is None:
            labels = posterior.predict(source)
        colour = [i for i, name in enumerate(source.columns) if name not in ("x", "y")]
        shape = (image.height, image.width)
        pixels = source[:][:, colour]
        pixels = pixels.reshape(*shape, -1) if len(colour) == 3 else pixels.reshape(shape)
        means = posterior.means[:, colour]
        pictures["segmentation"] = plot.segmentation(
            pixels, labels.reshape(shape), means if len(colour) == 3 else means[:, 0]
        )
    for name, axes in pictures.items():
        with appearing(path / f"{name}.png") as temporary:
            plot.save(axes, temporary)
    return [f"plots/{name}.png" for name in pictures], []
