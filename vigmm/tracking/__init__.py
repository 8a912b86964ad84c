"""Runs told to other programs while they go on. What a run measured is in ``metrics.jsonl`` in any case.

A new program is one file with a Spec that has `open`, and one row in `TRACKERS`.
"""

from vigmm.tracking.base import Run, Tracker, Tracking
from vigmm.tracking.mlflow_store import Mlflow
from vigmm.tracking.tensorboard_files import TensorBoard
from vigmm.tracking.watchers import Watchers, watching

__all__ = ["TRACKERS", "Mlflow", "Run", "TensorBoard", "Tracker", "Tracking", "Watchers", "watching"]

TRACKERS: dict[str, type[Tracking]] = {"tensorboard": TensorBoard, "mlflow": Mlflow}
