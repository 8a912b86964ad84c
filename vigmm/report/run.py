"""A finished run, read back from its folder: text files, model, trace, and the data where they still are."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from vigmm.config import Job, load_job
from vigmm.core.errors import ConfigError, DataError, ModelFileError
from vigmm.data.sources import DataFile, Source
from vigmm.posterior import Posterior, load
from vigmm.posterior.inputs import conform
from vigmm.rundir import CONFIG, read_manifest, read_summary
from vigmm.rundir.words import Facts

__all__ = ["FinishedRun", "open_run"]

_METRICS = ("step", "elbo_per_row", "holdout")
_THESE = "say where the rows are that were fitted (--data)"


@dataclasses.dataclass(frozen=True, eq=False)
class FinishedRun:
    """What a run folder holds.

    Args:
        path: the folder.
        manifest: everything that was written down about the run.
        facts: the same in words.
        summary: sizes, means and spreads of the components, with intervals, largest first.
        config: text of the resolved configuration.
        job: the configuration, or None if this version cannot read it.
        posterior: the model.
        metrics: ``step``, ``elbo_per_row`` and ``holdout`` of each record; NaN where it has none.
        source: the rows, or None where they cannot be had.
        trouble: why they cannot be had.
    """

    path: Path
    manifest: dict[str, Any]
    facts: Facts
    summary: dict[str, Any]
    config: str
    job: Job | None
    posterior: Posterior
    metrics: dict[str, np.ndarray]
    source: Source | None
    trouble: str

    @property
    def title(self) -> str:
        """What the data are called: the last part of their path."""
        name = str(self.manifest["data"]["name"])
        return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or name

    @property
    def num_rows(self) -> int:
        """Rows of the data, held-out ones included."""
        return int(self.manifest["data"]["rows"])

    @property
    def steps_per_pass(self) -> int:
        """Steps in which every training row is read once."""
        rows = int(self.manifest["data"].get("train_rows", self.num_rows))
        return max(1, -(-rows // int(self.manifest["train"]["batch_size"])))


def open_run(path: str | Path, *, data: str | None = None) -> FinishedRun:
    """Read a run folder.

    Args:
        path: the folder that ``vigmm fit`` wrote.
        data: where the rows are now; by default where the configuration says.

    Raises:
        ModelFileError: if it is no run folder, has no results yet, or is damaged.
        DataError: if `data` is given and cannot be opened.
    """
    folder = Path(path).expanduser()
    manifest = read_manifest(folder)
    if manifest.get("status") != "finished":
        raise ModelFileError(
            f"{path} has no results to report: the run is {manifest.get('status')} since "
            f"{manifest.get('started')}; wait until it has finished, or fit again"
        )
    told = read_summary(folder)
    posterior = load(folder)
    try:
        config = (folder / CONFIG).read_text(encoding="utf-8")
    except OSError as error:
        raise ModelFileError(f"{folder / CONFIG} cannot be read: {error.strerror or error}") from error
    job: Job | None = None
    try:
        job = load_job(folder / CONFIG)
        trouble = ""
    except ConfigError as error:
        trouble = f"this version cannot read the run's configuration: {error}"
    source = None
    if data is not None:
        source, trouble = _checked(DataFile(data), job, posterior, manifest), ""
    elif job is not None:
        try:
            source = _checked(job.data, job, posterior, manifest)
        except DataError as error:
            trouble = str(error)
    return FinishedRun(
        path=folder,
        manifest=manifest,
        facts=Facts.of(manifest, told["summary"], doubtful=told.get("doubtful")),
        summary=told["summary"],
        config=config,
        job=job,
        posterior=posterior,
        metrics=_metrics(folder / "metrics.jsonl"),
        source=source,
        trouble=trouble,
    )


def _checked(chosen: DataFile, job: Job | None, posterior: Posterior, manifest: dict[str, Any]) -> Source:
    """The rows that the run was fitted to, and no others."""
    if job is not None and chosen is not job.data:
        chosen = dataclasses.replace(job.data, path=chosen.path, kind=None)
    source = conform(chosen, posterior.columns)
    data = manifest["data"]
    if len(source) != data["rows"]:
        raise DataError(
            f"{source.name} has {len(source):,} rows, and the run was fitted to {data['rows']:,}; {_THESE}"
        )
    if source.fingerprint() != data["fingerprint"]:
        raise DataError(f"{source.name} has changed since the run: its fingerprint is another; {_THESE}")
    return source


def _metrics(path: Path) -> dict[str, np.ndarray]:
    """Columns of the trace; empty where the folder has none."""
    found: dict[str, list[float]] = {name: [] for name in _METRICS}
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                for name, values in found.items():
                    value = record.get(name)
                    values.append(np.nan if value is None else float(value))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}. The run folder is damaged") from error
    return {name: np.array(values, np.float64) for name, values in found.items()}
