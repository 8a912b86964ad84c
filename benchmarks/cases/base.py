"""What a case is: training rows, held-out rows, and what is known about their density."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.protocol import Array

__all__ = ["Case", "CaseData", "Skipped"]


class Skipped(Exception):
    """The data of a case are not here; the message says why."""


@dataclass(frozen=True)
class CaseData:
    """The rows of a case, and its reference densities.

    Args:
        x: training rows, float32.
        heldout: held-out rows from the same source, float32.
        references: log density of the held-out rows under what is known: ``true`` (the generator) and
            ``oracle`` (the best that estimation from these training rows allows); whichever exist.
        facts: what a reader should know about the case, as plain JSON; `k_max` and `batch_size` are in it,
            and where they are not the defaults of a `Problem`, `covariance` and `iterations`.
        labels: of the held-out rows, where they are known.
    """

    x: Array
    heldout: Array
    references: dict[str, Array]
    facts: dict[str, Any]
    labels: Array | None = None

    def save(self, folder: Path) -> None:
        """Write it for the workers, each array in a file of its own."""
        np.save(folder / "x.npy", self.x)
        np.save(folder / "heldout.npy", self.heldout)
        if self.labels is not None:
            np.save(folder / "labels.npy", self.labels)
        for name, values in self.references.items():
            np.save(folder / f"reference-{name}.npy", values)
        (folder / "facts.json").write_text(json.dumps(self.facts))

    @classmethod
    def load(cls, folder: Path) -> CaseData:
        """Read what `save` wrote."""
        references = {
            path.stem[len("reference-") :]: np.load(path) for path in sorted(folder.glob("reference-*.npy"))
        }
        facts = json.loads((folder / "facts.json").read_text())
        known = folder / "labels.npy"
        labels = np.load(known) if known.exists() else None
        return cls(np.load(folder / "x.npy"), np.load(folder / "heldout.npy"), references, facts, labels)


class Case(Protocol):
    """Makes the data of a case."""

    def build(self, *, rows: int | None = None) -> CaseData:
        """The data; `rows` asks for another number of training rows than the case is about.

        Raises:
            Skipped: if they cannot be made here.
        """
        ...
