"""Runs side by side: which of their figures may be compared, which is best, and by how much.

The bound of a run speaks of the rows that it was fitted to, so two bounds compare models only where these
are the same. Held-out densities of the same rows are compared row by row, which takes away what all models
find hard; those of other rows of the same data only as two means.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vigmm.core.errors import ModelFileError
from vigmm.core.flat import flat
from vigmm.rundir.folder import read_manifest, read_summary

__all__ = ["Difference", "Standing", "compare"]

_CHOICES = ("model", "family", "estimator", "optimizer", "start", "train", "moves", "seed", "dtype")
_OTHER_ROWS = 0.01  # in standard errors: means of other rows would differ by about one


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far a run is behind the best of those that it may be compared with: never above 0 for the best.

    Args:
        value: figure of the run less that of the best.
        se: its standard error.
        paired: whether it was taken row by row.
    """

    value: float
    se: float
    paired: bool = False


@dataclasses.dataclass
class Standing:
    """A run in the comparison.

    Args:
        run: its folder, as it was named.
        data: a letter for the content of the data: equal for equal data.
        rows: a number for the rows that were fitted: equal where bounds may be compared.
        status: how it ended.
        elbo: its bound: total, per row, standard error.
        holdout: mean log density of the held-out rows and its standard error, if any were.
        components: components found, or of the model where they were not searched for.
        seconds: wall time.
        choices: every choice by dotted name.
        best_elbo: whether no run fitted to the same rows has a higher bound; None where it is the only one.
        best_holdout: whether no run on the same data has a higher held-out density; None as above.
        behind_elbo: behind the best bound, in nats.
        behind_holdout: behind the best held-out density, in nats per row.
    """

    run: str
    data: str
    rows: int
    status: str
    elbo: dict[str, float]
    holdout: dict[str, float] | None
    components: int
    seconds: float
    choices: dict[str, Any]
    best_elbo: bool | None = None
    best_holdout: bool | None = None
    behind_elbo: Difference | None = None
    behind_holdout: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return dataclasses.asdict(self)


def compare(runs: Sequence[str]) -> tuple[list[Standing], dict[str, list[Any]]]:
    """Standings of finished runs, in the order given, and the choices in which they differ.

    Raises:
        ModelFileError: for a folder that is no run, is damaged, or has not finished.
    """
    manifests = [_finished(run) for run in runs]
    contents: dict[Any, str] = {}
    fitted: dict[Any, int] = {}
    standings = [_standing(run, one, contents, fitted) for run, one in zip(runs, manifests, strict=True)]
    for letter in contents.values():
        _judge_holdout([i for i, one in enumerate(standings) if one.data == letter], standings, manifests)
    for number in fitted.values():
        _judge_elbo([one for one in standings if one.rows == number])
    names = dict.fromkeys(name for one in standings for name in one.choices)
    choices = {name: [one.choices.get(name) for one in standings] for name in names}
    return standings, {name: found for name, found in choices.items() if any(x != found[0] for x in found)}


def _finished(run: str) -> dict[str, Any]:
    manifest = read_manifest(run)
    if manifest.get("status") != "finished":
        raise ModelFileError(
            f"{run} has no results to compare: it is {manifest.get('status')} since "
            f"{manifest.get('started')}; leave it out until it has finished"
        )
    return manifest


def _standing(
    run: str, manifest: dict[str, Any], contents: dict[Any, str], fitted: dict[Any, int]
) -> Standing:
    summary = read_summary(run)
    try:
        data = manifest["data"]
        content = (data["fingerprint"], tuple(data["columns"]))
        split = (content, *_split(manifest))
        chosen = {name: manifest[name] for name in _CHOICES if name in manifest}
        found = summary.get("found")
        bound = manifest["elbo"]
        return Standing(
            run=run,
            data=contents.setdefault(content, _letter(len(contents))),
            rows=fitted.setdefault(split, len(fitted)),
            status=manifest["outcome"]["status"],
            elbo={"total": bound["elbo"], "per_row": bound["per_row"], "se": bound["se"] or 0.0},
            holdout=manifest["holdout"],
            components=summary["num_components"] if found is None else found,
            seconds=float(sum(manifest["seconds"].values())),
            choices=dict(flat({"columns": data["columns"], **chosen})),
        )
    except (KeyError, TypeError) as error:
        raise ModelFileError(
            f"{run}: manifest.json or summary.json lacks {error}; the run folder is damaged, or of another "
            "version of vigmm: fit again"
        ) from error


def _split(manifest: dict[str, Any]) -> tuple[Any, ...]:
    """What decides which rows are held out."""
    held_out = manifest["data"]["holdout_rows"]
    return (held_out, manifest["seed"]) if held_out else (0,)


def _judge_elbo(group: list[Standing]) -> None:
    usable = [one for one in group if one.elbo["total"] is not None]
    if len(usable) < 2:
        return
    best = max(usable, key=lambda one: one.elbo["total"])
    for one in usable:
        one.best_elbo = one.elbo["total"] == best.elbo["total"]
        se = 0.0 if one is best else math.hypot(one.elbo["se"], best.elbo["se"])
        one.behind_elbo = Difference(value=one.elbo["total"] - best.elbo["total"], se=se)


def _judge_holdout(members: list[int], standings: list[Standing], manifests: list[dict[str, Any]]) -> None:
    found = {i: held_out["mean_log_density"] for i in members if (held_out := standings[i].holdout)}
    density = {i: value for i, value in found.items() if value is not None}
    if len(density) < 2:
        return
    best = max(density, key=lambda i: density[i])
    reference = _densities(standings[best], manifests[best])
    for i in density:
        one = standings[i]
        one.best_holdout = density[i] == density[best]
        same_rows = _split(manifests[i]) == _split(manifests[best])
        own = _densities(one, manifests[i]) if same_rows and reference is not None else None
        one.behind_holdout = _behind(one, standings[best], own, reference)


def _behind(
    one: Standing,
    best: Standing,
    own: Float[np.ndarray, " n"] | None,
    reference: Float[np.ndarray, " n"] | None,
) -> Difference:
    assert one.holdout is not None
    assert best.holdout is not None
    if one is best:
        return Difference(value=0.0, se=0.0)
    value = one.holdout["mean_log_density"] - best.holdout["mean_log_density"]
    if own is not None and reference is not None and len(own) > 1:
        each = own - reference
        return Difference(value=value, se=float(each.std(ddof=1) / math.sqrt(len(each))), paired=True)
    return Difference(value=value, se=math.hypot(one.holdout["se"], best.holdout["se"]))


def _densities(standing: Standing, manifest: dict[str, Any]) -> Float[np.ndarray, " n"] | None:
    """Log densities of the held-out rows, where the run wrote those of all rows; else None.

    Which rows they are follows from the seed. Should another version have drawn others, their mean is not
    that of the manifest, and nothing is returned.
    """
    from vigmm.core import rng
    from vigmm.data.device import holdout_index

    path = Path(standing.run).expanduser() / "assignments.parquet"
    if not path.is_file() or standing.holdout is None:
        return None
    train, rows = manifest["train"], manifest["data"]["rows"]
    key = rng.stream(rng.root_key(manifest["seed"]), "split")
    kept = holdout_index(rows, train["holdout"], train["holdout_rows"], key)
    values = _column(path, "log_density")
    if len(values) != rows or len(kept) != manifest["data"]["holdout_rows"]:
        return None
    found = values[kept]
    off = abs(float(found.mean()) - standing.holdout["mean_log_density"])
    return found if off <= _OTHER_ROWS * standing.holdout["se"] + 1e-6 * abs(float(found.mean())) else None


def _column(path: Path, name: str) -> Float[np.ndarray, " N"]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        values: np.ndarray = pq.read_table(path, columns=[name])[name].to_numpy()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ModelFileError(
            f"{path} cannot be read: {error}. The run folder is damaged: fit again"
        ) from error
    return values.astype(np.float64)


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else f"a{number}"
