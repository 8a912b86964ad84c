"""What it takes to understand and repeat a run, as one JSON-ready dictionary."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from typing import Any

import jax

from vigmm import __version__
from vigmm.core.outcome import Outcome
from vigmm.core.specdict import to_dict
from vigmm.data.sources import Source
from vigmm.estimators import ESTIMATORS
from vigmm.families import FAMILIES
from vigmm.optim import OPTIMIZERS
from vigmm.posterior import ElboReport
from vigmm.train import STARTS

__all__ = ["choices", "describe", "environment"]

_PACKAGES = ("jax", "jaxlib", "optax", "numpyro", "chex", "numpy")


def environment() -> dict[str, Any]:
    """Versions and the device that computes."""
    devices = jax.devices()
    return {
        "versions": {
            "vigmm": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "platform": platform.platform(),
        "device": {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)},
    }


def choices(recipe: Any) -> dict[str, Any]:
    """All that was chosen for a fit."""
    objective = recipe.objective
    return {
        "model": to_dict(objective.model),
        "family": to_dict(objective.family, FAMILIES),
        "estimator": to_dict(objective.estimator, ESTIMATORS),
        "optimizer": None if recipe.optimizer is None else to_dict(recipe.optimizer, OPTIMIZERS),
        "start": to_dict(recipe.start, STARTS),
        "train": to_dict(recipe.config),
        "moves": None if recipe.moves is None else to_dict(recipe.moves),
        "seed": recipe.seed,
        "dtype": recipe.dtype,
    }


def describe(
    *,
    source: Source,
    rows: int,
    skipped_rows: int,
    fingerprint: str,
    recipe: Any,
    notes: dict[str, Any],
    prior: dict[str, Any],
    outcome: Outcome,
    elbo: ElboReport,
    holdout: tuple[float, float] | None,
    train_rows: int,
    holdout_rows: int,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The manifest of a finished fit."""
    return {
        **environment(),
        "data": {
            "name": source.name,
            "rows": rows,
            "skipped_rows": skipped_rows,
            "columns": list(source.columns),
            "ignored": list(getattr(source, "ignored", ())),
            "fingerprint": fingerprint,
            "train_rows": train_rows,
            "holdout_rows": holdout_rows,
        },
        "prior": prior,
        **choices(recipe),
        "notes": notes,
        "outcome": {**dataclasses.asdict(outcome), "status": outcome.status.value},
        "elbo": dataclasses.asdict(elbo),
        "holdout": None if holdout is None else {"mean_log_density": holdout[0], "se": holdout[1]},
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
    }
