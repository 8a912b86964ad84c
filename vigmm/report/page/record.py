"""The last part of the page: data, prior, configuration, timings, versions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vigmm.core.redact import redacted
from vigmm.data.missing import observed_moments
from vigmm.data.moments import Moments, compute_moments
from vigmm.report.clusters import Clusters
from vigmm.report.markup import Html, tag
from vigmm.report.page.parts import Cell, number, section, share, table
from vigmm.report.run import FinishedRun
from vigmm.rundir.words import covariance

__all__ = ["moments_of", "record_sections"]

_NAMES = {
    "num_components": "Clusters at most",
    "missing": "Missing values allowed",
    "dof": "Degrees of freedom",
}
_PHASES = {
    "read": "reading and scaling the rows",
    "start": "finding where to start",
    "search": "searching for the number of clusters",
    "settle": "settling in after the search",
    "train": "fitting",
    "evaluate": "final bound and held-out density",
    "write": "writing the run folder",
}


def moments_of(run: FinishedRun) -> Moments | None:
    """Mean, spread and range of every column, if the rows can be had."""
    if run.source is None:
        return None
    missing = run.posterior.model.missing
    return observed_moments(run.source)[0] if missing else compute_moments(run.source)


def record_sections(run: FinishedRun, clusters: Clusters, moments: Moments | None) -> list[Html]:
    """Data, prior, configuration, timings."""
    return [_data(run, clusters, moments), _prior(run, clusters), _config(run), _timings(run)]


def _data(run: FinishedRun, clusters: Clusters, moments: Moments | None) -> Html:
    data = run.manifest["data"]
    facts = [
        ("Source", data["name"]),
        ("Rows", f"{data['rows']:,}: {data['train_rows']:,} fitted, {data['holdout_rows']:,} held out"),
        ("Columns", f"{len(data['columns']):,}"),
        ("Fingerprint", data["fingerprint"]),
    ]
    if data.get("skipped_rows"):
        skipped = f"{data['skipped_rows']:,}, which have a value that is missing or infinite"
        facts.append(("Rows left out", skipped))
    body: Html
    if moments is None:
        body = tag("p", f"The rows could not be read: {run.trouble}.", class_="none")
    else:
        sd = np.sqrt(np.diag(moments.cov))
        head = [
            ("Column", ""),
            ("Rows", "hist"),
            ("Smallest", "n"),
            ("Mean", "n"),
            ("Sd", "n"),
            ("Largest", "n"),
        ]
        rows = [
            [
                Cell(run.posterior.columns[d]),
                Cell(tag("div", class_="plot", data_histogram=d)),
                *(
                    Cell(number(float(value), 5), sort=float(value))
                    for value in (moments.minimum[d], moments.mean[d], sd[d], moments.maximum[d])
                ),
            ]
            for d in clusters.features
        ]
        body = table("Columns", head, rows, sortable=True, note="all rows, in the units of the data")
    return section("data", "The data", _facts(facts), body)


def _prior(run: FinishedRun, clusters: Clusters) -> Html:
    prior, model = run.manifest["prior"], run.manifest["model"]
    facts = [("Prior", str(prior.get("kind", "")))]
    facts += [(_words(name), number(value)) for name, value in prior.items() if _is_number(value)]
    facts += [(_words(name), _choice(value)) for name, value in model.items() if name != "prior"]
    if model["covariance"]["kind"] == "auto":
        facts = [(head, covariance(run.manifest) if head == "Covariance" else text) for head, text in facts]
    mean, cov = prior.get("mean"), prior.get("expected_covariance")
    body: Html | None = None
    if mean is not None and cov is not None:
        rows = [
            [Cell(run.posterior.columns[d]), Cell(number(mean[d], 5), sort=mean[d]),
             Cell(number(math.sqrt(cov[d][d])), sort=cov[d][d])]
            for d in clusters.features
        ]  # fmt: skip
        head = [("Column", ""), ("Prior mean", "n"), ("Expected sd of a cluster", "n")]
        body = table("The prior of each column", head, rows, sortable=True, note="in the units of the data")
    return section(
        "prior",
        "The prior and the model",
        _facts(facts),
        body,
        intro="What was assumed before any row was seen. It follows the data where it was not set.",
    )


def _config(run: FinishedRun) -> Html:
    copy = tag("button", "Copy", type="button", id="copy")
    return section(
        "config",
        "The configuration",
        tag("div", tag("span", "config.yaml"), copy, class_="headline"),
        tag(
            "pre",
            tag("code", redacted(run.config), id="config-text"),
            tabindex="0",
            role="region",
            aria_label="config.yaml",
        ),
        intro="Every choice of the run with its defaults filled in: vigmm fit config.yaml repeats it.",
    )


def _timings(run: FinishedRun) -> Html:
    seconds = {name: value for name, value in run.facts.seconds.items() if value is not None}
    total = sum(seconds.values())
    rows = [
        [
            Cell(name),
            Cell(_PHASES.get(name, "")),
            Cell(_timebar(value / total if total > 0 else 0.0)),
            Cell(f"{value:,.2f}", sort=value),
            Cell(share(value / total if total > 0 else None)),
        ]
        for name, value in seconds.items()
    ]
    manifest = run.manifest
    device, versions = manifest["device"], manifest["versions"]
    facts = [
        ("Started", str(manifest.get("started", "–"))),
        ("Finished", str(manifest.get("finished", "–"))),
        ("Steps", f"{run.facts.steps:,}, {run.facts.passes:.3g} passes over the training rows"),
        ("Method", ", ".join(str(manifest[name]["kind"]) for name in ("family", "estimator", "optimizer"))),
        ("Precision", f"{manifest['dtype']}, seed {manifest['seed']}"),
        ("Device", f"{device['count']} × {device['kind']} ({device['platform']})"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    head = [("Phase", ""), ("What it does", "words"), ("Part", "bars"), ("Seconds", "n"), ("Share", "n")]
    return section("timings", "Timings", table(f"{total:,.1f} seconds in all", head, rows), _facts(facts))


def _timebar(part: float) -> Html:
    bar = tag("rect", x="0", y="4", width=f"{max(120 * part, 1):.2f}", height="10")
    return tag(
        "svg", bar, viewBox="0 0 122 18", width="122", height="18", class_="timebar", aria_hidden="true"
    )


def _facts(facts: list[tuple[str, str]]) -> Html:
    return tag("dl", [tag("div", tag("dt", name), tag("dd", text)) for name, text in facts], class_="facts")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(name: str) -> str:
    """The name of a setting, as words."""
    text = _NAMES.get(name, name.replace("_", " "))
    return text[:1].upper() + text[1:]


def _choice(value: Any) -> str:
    """A setting of the model in few words.

    Example:
        >>> _choice({"kind": "dirichlet", "concentration": 1.0, "hyper": None})
        'dirichlet, concentration 1'
    """
    if isinstance(value, dict):
        more = [f"{name.replace('_', ' ')} {_choice(item)}" for name, item in value.items()
                if name != "kind" and item is not None]  # fmt: skip
        return ", ".join([*([str(value["kind"])] if "kind" in value else []), *more])
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return f"{value:g}" if _is_number(value) else str(value)
