"""What a fit has found before it trains, saved so that a run that goes on later need not find it again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from vigmm import __version__
from vigmm.core.errors import OutputError
from vigmm.core.specdict import from_dict, to_dict
from vigmm.data.intake import Survey
from vigmm.data.moments import Moments
from vigmm.families import ConjugateParams, untouched
from vigmm.models import COVARIANCES, Mixture, Prior
from vigmm.models.covariance import Covariance
from vigmm.train import Checkpoints, Saved, Snapshot

__all__ = ["Begun", "First"]

_PHASE = "found"
_MOMENTS = ("mean", "cov", "minimum", "maximum", "quartiles")


@dataclasses.dataclass(frozen=True)
class First:
    """Where training begins.

    Args:
        params: a conjugate posterior.
        num_components: how many components it has.
        rows_seen: rows that it was made from.
        notes: how it came about, JSON-ready.
        covariance: of the model from here on.
        spread: how much larger the prior has its components than before the search.
    """

    params: ConjugateParams
    num_components: int
    rows_seen: int
    notes: dict[str, Any]
    covariance: Covariance
    spread: float = 1.0


class Begun:
    """The beginning of a fit, as far as an earlier process got.

    Args:
        checkpoints: where it is saved; None saves nothing.
        fingerprint: of the rows and their weights; a run goes on with the same ones only.
        recipe: all choices of the fit, JSON-ready.

    Raises:
        OutputError: if the folder holds another run, or one on other rows.
    """

    def __init__(self, checkpoints: Checkpoints | None, fingerprint: str, recipe: dict[str, Any]) -> None:
        self._checkpoints = checkpoints
        self._about: dict[str, Any] = {}
        self._saved: Saved | None = None
        if checkpoints is None:
            return
        # Through JSON, as what it is compared with was.
        about = {"recipe": recipe, "data": fingerprint, "vigmm": __version__}
        self._about = json.loads(json.dumps(about))
        self._saved = saved = checkpoints.latest(_PHASE)
        told = {"recipe": "other choices", "data": "other rows or weights", "vigmm": "another vigmm"}
        for name, what in told.items():
            if saved is not None and saved.facts.get(name) != self._about[name]:
                raise OutputError(
                    f"{checkpoints.folder} holds checkpoints of a run with {what}: name another folder, or "
                    "remove this one to begin anew"
                )

    @property
    def survey(self) -> Survey | None:
        """The moments of the rows."""
        if self._saved is None:
            return None
        arrays = self._saved.arrays["moments"]
        patterns = arrays.get("patterns")
        found: dict[str, Any] = {name: arrays[name] for name in _MOMENTS}
        facts = self._saved.facts
        moments = Moments(count=facts["count"], rows=facts["rows"], one_unit=facts["one_unit"], **found)
        return Survey(moments, None if patterns is None else patterns.astype(np.bool_))

    def first(self, model: Mixture, prior_of: Callable[[Mixture, int], Prior]) -> First | None:
        """Where training begins.

        Args:
            model: as it was chosen.
            prior_of: hyperparameters of so many components.
        """
        if self._saved is None:
            return None
        facts = self._saved.facts
        covariance, count = from_dict(COVARIANCES, facts["covariance"]), facts["num_components"]
        surrogate = dataclasses.replace(model, covariance=covariance).surrogate
        like = untouched(dataclasses.replace(surrogate, num_components=count), prior_of(surrogate, count))
        return First(
            params=self._saved.fill(like),
            num_components=count,
            rows_seen=facts["rows_seen"],
            notes=facts["notes"],
            covariance=covariance,
            spread=facts["spread"],
        )

    def keep(self, first: First, seen: Survey) -> None:
        """Save it, if there is a place."""
        if self._checkpoints is None:
            return
        moments = {name: np.asarray(getattr(seen.moments, name), np.float64) for name in _MOMENTS}
        if seen.patterns is not None:
            moments["patterns"] = seen.patterns.astype(np.uint8)
        facts = {
            **self._about,
            "count": float(seen.moments.count),
            "rows": int(seen.moments.rows),
            "one_unit": bool(seen.moments.one_unit),
            "num_components": first.num_components,
            "rows_seen": first.rows_seen,
            "notes": first.notes,
            "covariance": to_dict(first.covariance, COVARIANCES),
            "spread": first.spread,
        }
        self._checkpoints.save(_PHASE, Snapshot(first.params, {"moments": moments}, facts))
