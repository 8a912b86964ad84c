"""A run in words: what came of it, how far to trust it, and what to look at next."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Facts", "covariance", "report"]

_FILES = {
    "summary.txt": "this page",
    "summary.json": "the same for programs, with all components and intervals",
    "assignments.parquet": "component, its probability and log density of every row",
    "model.safetensors": "the model's numbers; vigmm predict and vigmm.load read them",
    "model.json": "what the model's numbers mean",
    "metrics.jsonl": "what the run measured at each step",
    "manifest.json": "versions, device, data, prior, outcome, timings",
    "config.yaml": "the configuration with every default filled in; vigmm fit repeats the run from it",
    "plots/trace.png": "the bound and the held-out density during the run: both should level off",
    "plots/weights.png": "sizes of the components with credible intervals",
    "plots/clusters.png": "rows and components in the plane",
    "plots/segmentation.png": "the picture in the components' mean colours",
}


@dataclass
class Facts:
    """What there is to say about a run, as plain values.

    Args:
        status: how it ended, one word.
        message: how it ended, one sentence.
        steps: steps of the optimiser.
        passes: passes over the training rows.
        data: what the manifest says of the data.
        elbo: the bound of the training rows: total, per row, standard error.
        holdout: mean log predictive density of the held-out rows and its standard error, if any were.
        num_components: components of the model that is left.
        most: the most there might have been.
        found: how many the search found a use for; None where their number was not searched for.
        needed: components that hold 99% of the rows.
        effective: exp of the entropy of the weights.
        empty: components below a per mille of the rows.
        doubtful: share of the rows whose best component has a probability below 0.8, if they were assigned.
        covariance: which one, and what decided that where it was left to the data.
        order: what is wrong with the order of rows that were read again in every pass, if anything.
        how: family, estimator, dtype, seed and device.
        seconds: wall time by phase.
        skipped: what was asked for and not written, and why.
    """

    status: str
    message: str
    steps: int
    passes: float
    data: dict[str, Any]
    elbo: dict[str, Any]
    holdout: dict[str, Any] | None
    num_components: int
    most: int
    found: int | None
    needed: int
    effective: float
    empty: int
    doubtful: float | None
    covariance: str
    order: str | None
    how: dict[str, Any]
    seconds: dict[str, float]
    skipped: list[str] = field(default_factory=list)

    @staticmethod
    def of(manifest: dict[str, Any], summary: dict[str, Any], *, doubtful: float | None) -> Facts:
        """The facts of a fit's manifest and summary."""
        weights = np.array([one["weight"]["mean"] for one in summary["components"]], np.float64)
        positive = weights[weights > 0]
        outcome, data, bound = manifest["outcome"], manifest["data"], manifest["elbo"]
        per_pass = manifest.get("steps_per_pass")
        if per_pass is None:  # of an earlier version
            rows = data.get("train_rows", data["rows"])
            per_pass = max(1, -(-rows // manifest["train"]["batch_size"]))
        moves, most = manifest["notes"].get("moves", {}), manifest["model"]["num_components"]
        return Facts(
            status=outcome["status"],
            message=outcome["message"],
            steps=outcome["step"],
            passes=outcome["step"] / per_pass,
            data=data,
            elbo={"total": bound["elbo"], "per_row": bound["per_row"], "se": bound["se"]},
            holdout=manifest["holdout"],
            num_components=len(weights),
            most=most,
            # Where the number was the user's, the search only moved components about.
            found=None if moves.get("least") == most else moves.get("components"),
            needed=min(int(np.searchsorted(np.cumsum(np.sort(weights)[::-1]), 0.99)) + 1, len(weights)),
            effective=float(np.exp(-np.sum(positive * np.log(positive)))),
            empty=int(np.sum(weights < 1e-3)),
            doubtful=doubtful,
            covariance=covariance(manifest),
            order=manifest["notes"].get("order"),
            how={
                "family": manifest["family"]["kind"],
                "estimator": manifest["estimator"]["kind"],
                "dtype": manifest["dtype"],
                "seed": manifest["seed"],
                "device": manifest["device"],
            },
            seconds=manifest["seconds"],
        )

    def to_dict(self) -> dict[str, Any]:
        """All facts, JSON-ready."""
        return dict(vars(self))

    def lines(self) -> list[tuple[str, str]]:
        """Heading and text of each fact, for people."""
        data = self.data
        columns = ", ".join(data["columns"][:8]) + (", ..." if len(data["columns"]) > 8 else "")
        bound = f"{self.elbo['total']:,.1f} nats, {self.elbo['per_row']:.4f} nats per row"
        if self.elbo["se"]:
            bound += f" (standard error {self.elbo['se']:,.2g} in total)"
        rows = f"{data['rows']:,} rows of {len(data['columns'])} ({columns})"
        if data.get("skipped_rows"):
            rows += f"; {data['skipped_rows']:,} more with a NaN or an infinity were skipped"
        lines = [
            ("Outcome", f"{self.status}: {self.message}"),
            ("Data", f"{data['name']}: {rows}"),
            ("ELBO", bound),
        ]
        if self.holdout is not None:
            value, error = self.holdout["mean_log_density"], self.holdout["se"]
            rows = data.get("holdout_rows", 0)
            lines.append(
                ("Held out", f"{value:.4f} ± {error:.2g} nats per row, on {rows:,} rows not trained on")
            )
        found = "" if self.found is None else f"{self.found} found, of at most {self.most}; "
        lines.append(
            (
                "Components",
                f"{found}{self.needed} of {self.num_components} hold 99% of the rows, "
                f"effective number {self.effective:.1f}",
            )
        )
        lines.append(("Covariance", self.covariance))
        total = sum(self.seconds.values())
        lines.append(("Time", f"{total:.1f} s, {self.passes:.3g} passes in {self.steps:,} steps"))
        return lines

    def advice(self, *, trace: str = "plots/trace.png") -> list[str]:
        """What a careful reader would notice; `trace` is where the reader sees the bound."""
        found = []
        if self.status in ("nonfinite", "diverged"):
            found.append(
                "Do not use this model as it is: the run went wrong, and says above at which step and how."
            )
        if self.status == "interrupted":
            found.append("The run was stopped by hand: the model is whole, but a longer run may be better.")
        if self.status == "budget":
            found.append(f"The run used all its passes: if {trace} still rises, raise train.passes.")
        if self.found == self.most > 1:
            found.append(
                f"All {self.most} components are in use, so the data may support more: raise "
                "model.num_components."
            )
        if self.found is None and self.empty == 0 and self.num_components > 1:
            found.append(
                "No component is empty: compare the ELBO with that of a larger model.num_components."
            )
        if self.order is not None:
            found.append(f"{self.order[:1].upper()}{self.order[1:]}.")
        if self.doubtful is not None and self.doubtful > 0.2:
            found.append(
                f"{self.doubtful:.0%} of the rows belong to no component with a probability of 80%: "
                "components overlap, so use the probabilities and not only the labels."
            )
        found.extend(f"Not written: {what}." for what in self.skipped)
        return found


def covariance(manifest: dict[str, Any]) -> str:
    """Which covariance the model has, and by how much its bound was the higher where the data decided.

    Example:
        >>> bounds = {"full": -95.0, "diag": -80.0}
        >>> moves = {"covariance": {"found": "diag", "bounds": bounds, "promised": {"diag": 20.0}}}
        >>> covariance({"model": {"covariance": {"kind": "auto"}}, "notes": {"moves": moves}})
        'diag, which the search chose: its bound is 15.0 nats above that of full'
    """
    asked = str(manifest["model"]["covariance"]["kind"])
    if asked != "auto":
        return asked
    told = manifest["notes"].get("moves", {}).get("covariance")
    if told is None:
        return "full, for no other was looked for"
    found, bounds = told["found"], told["bounds"]
    if not told["promised"]:
        return f"{found}, for it costs little here: no other was asked for"
    words = f"{found}, which the search chose"
    for name in bounds.keys() - {found}:
        gain = bounds[found] - (math.nan if bounds[name] is None else bounds[name])
        words += (
            f": its bound is {gain:,.1f} nats above that of {name}" if gain > 0 else f": {name} was tried"
        )
    return words


def report(facts: Facts, table: str, *, files: list[str], pictures: list[str]) -> str:
    """The page that a person reads first."""
    width = max(len(head) for head, _ in facts.lines()) + 2
    facts_block = [f"{head:<{width}}{text}" for head, text in facts.lines()]
    advice = [f"- {line}" for line in facts.advice()] or ["- Nothing unusual."]
    names = [name for name in _FILES if name in {*files, *pictures}]
    longest = max(len(name) for name in names) + 2
    listing = [f"{name:<{longest}}{_FILES[name]}" for name in names]
    parts = [
        ("A Bayesian Gaussian mixture, fitted by vigmm", facts_block),
        ("Worth a look", advice),
        ("Components, largest first", [table]),
        ("Files", listing),
    ]
    return "\n\n".join(f"{title}\n{'-' * len(title)}\n" + "\n".join(lines) for title, lines in parts) + "\n"
