"""MLflow: a run in a data base of its own, or on a server."""

from __future__ import annotations

import importlib
import json
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vigmm.core.errors import OutputError
from vigmm.core.flat import flat
from vigmm.core.redact import redacted
from vigmm.core.struct import require, spec
from vigmm.tracking.base import Ending, Run

__all__ = ["Mlflow"]

# A batch is a transaction, some ten milliseconds, whatever is in it; MLflow takes these many at most.
_MOST_METRICS, _MOST_PARAMS, _MOST_TEXT = 1000, 100, 6000
_EVERY_SECONDS = 5.0
_ENDINGS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
_SCHEMES = ("sqlite:///", "postgresql", "mysql", "mssql", "http://", "https://", "databricks")


@spec
class Mlflow:
    """A run in MLflow; look at it with ``mlflow ui --backend-store-uri URI``.

    Args:
        uri: a data base or a server. MLflow refuses folders of files for new runs.
        experiment: the experiment that the run belongs to; made if it is not there.
        name: what the run is called; by default the name of the run folder.
    """

    uri: str = "sqlite:///mlflow.db"
    experiment: str = "vigmm"
    name: str | None = None

    def __post_init__(self) -> None:
        rule = "a data base or a server, such as sqlite:///mlflow.db or http://example.org:5000"
        require(self.uri.startswith(_SCHEMES), "uri", rule, self.uri)
        require(self.experiment.strip() != "", "experiment", "a name", self.experiment)

    def open(self, run: Run) -> _StoredRun:
        """Begin a run; every choice is a parameter of it."""
        with _calm():
            try:
                tracking = importlib.import_module("mlflow")
                entities = importlib.import_module("mlflow.entities")
                if "://" in self.uri and not self.uri.startswith("http"):
                    importlib.import_module("sqlalchemy")
                    importlib.import_module("alembic")
            except ImportError as error:
                raise OutputError(
                    f"track: MLflow is not whole here ({error}); pip install 'vigmm[mlflow]', or leave "
                    "mlflow out of track"
                ) from error
            try:
                client = tracking.MlflowClient(tracking_uri=self.uri)
                known = client.get_experiment_by_name(self.experiment)
                number = known.experiment_id if known else client.create_experiment(self.experiment)
                name = self.name or run.folder.name
                tags = {"vigmm.run_folder": str(run.folder)}
                made = client.create_run(number, run_name=name, tags=tags).info.run_id
                params = [entities.Param(key, _text(value)) for key, value in flat(run.config)]
                for first in range(0, len(params), _MOST_PARAMS):
                    client.log_batch(made, params=params[first : first + _MOST_PARAMS])
            except Exception as error:  # MLflow, SQLAlchemy and the network have their own
                reason = str(error).strip().splitlines() or [type(error).__name__]
                told = redacted(f"{self.uri}: {reason[0]}")
                raise OutputError(
                    f"track: MLflow cannot begin a run at {told}; check the uri and that "
                    "the server runs, or leave mlflow out of track"
                ) from error
        return _StoredRun(client, made, entities.Metric)


class _StoredRun:
    """A run that has begun; metrics go in batches."""

    def __init__(self, client: Any, number: str, metric: Any) -> None:
        self._client, self._number, self._metric = client, number, metric
        self._waiting: list[Any] = []
        self._sent = time.monotonic()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Kept for the next batch, which goes when the last is some seconds ago."""
        now = int(time.time() * 1000)
        self._waiting += [self._metric(name, value, now, step) for name, value in values.items()]
        late = time.monotonic() - self._sent >= _EVERY_SECONDS
        if late or len(self._waiting) >= _MOST_METRICS:
            self._send()

    def end(self, ending: Ending, final: dict[str, float]) -> None:
        """The last batch, and how the run ended."""
        self.log(0, {f"final/{name}": value for name, value in final.items()})
        self._send()
        with _calm():
            self._client.set_terminated(self._number, _ENDINGS[ending])

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        with _calm():
            for first in range(0, len(waiting), _MOST_METRICS):
                self._client.log_batch(self._number, metrics=waiting[first : first + _MOST_METRICS])
        self._sent = time.monotonic()


def _text(value: Any) -> str:
    text = redacted(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 3] + "..."


@contextmanager
def _calm() -> Iterator[None]:
    """Without the warnings that MLflow's parts have for each other, its log, and its report of use."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
