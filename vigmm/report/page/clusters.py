"""The second part of the page: the clusters, one by one, together, and the rows between them."""

from __future__ import annotations

import math
from typing import Any

from vigmm.report.clusters import Clusters, listed_rows, row_columns
from vigmm.report.markup import Html, tag, true_minus
from vigmm.report.page.parts import Cell, block, chip, figure, number, section, share, table
from vigmm.report.rows import LEVELS, SURE, RowFacts
from vigmm.report.run import FinishedRun

__all__ = ["clusters_section", "heat"]

_BAR = 120
_SIZES = (
    "share: posterior mean of the weight; stands out by: differences from all other clusters, in standard "
    "deviations"
)
_SIZES_SEEN = f"{_SIZES}; certainty: mean probability of the rows assigned to it"
_STEPS = (0.25, 0.75, 1.25, 2.0, 3.0)


def clusters_section(
    run: FinishedRun,
    clusters: Clusters,
    records: list[dict[str, Any]],
    rows: RowFacts | None,
    second: dict[int, tuple[int, float]],
    num_leaves: int,
) -> Html:
    """Sizes, each cluster, all by column, pairwise views, merge tree, uncertain and unusual rows."""
    several = len(records) > 1
    return section(
        "clusters",
        "The clusters",
        _sizes(run, records),
        _focus(run),
        _profile(run, clusters, records),
        _views(run, clusters, rows),
        _tree(len(clusters.weights), num_leaves) if several and num_leaves > 1 else None,
        _uncertain(run, clusters, records, rows, second) if several else None,
        _unusual(run, clusters, records, rows),
        intro="A cluster is a component of the mixture; its number is the one in assignments.parquet. "
        "Choose one here or in the bar above, and it is highlighted everywhere.",
    )


def _sizes(run: FinishedRun, records: list[dict[str, Any]]) -> Html:
    level = run.summary["level"]
    seen = "count" in records[0]
    left = len(run.summary["components"]) - sum("share" in one for one in records)
    widest = max(one["share"][2] for one in records if "share" in one)
    head = [("Cluster", ""), ("Of all rows", "bars"), ("Share", "n"), (f"{level:.0%} interval", "n")]
    head += [("Rows assigned", "n"), ("Certainty", "n")] if seen else [("Rows expected", "n")]
    head += [("Stands out by", "words")]
    rows = []
    for one in records:
        mean, low, high = one.get("share", (None, None, None))
        cells = [Cell(chip(one), sort=one["id"]), Cell(_bar(one, widest), sort=mean)]
        cells += [Cell(share(mean), sort=mean)]
        cells += [Cell("–" if low is None else f"{share(low)[:-1]} to {share(high)}", sort=low)]
        if seen:
            cells += [Cell(f"{one['count']:,}", sort=one["count"])]
            cells += [Cell(share(one["certainty"]), sort=one["certainty"])]
        else:
            cells += [Cell(number(one.get("expected")), sort=one.get("expected"))]
        rows.append([*cells, Cell(one["words"])])
    return table(
        "Sizes",
        head,
        rows,
        name="sizes",
        sortable=True,
        row_attributes=[{"data_cluster": one["id"]} for one in records],
        note=(_SIZES_SEEN if seen else _SIZES)
        + (f"; {left} smaller ones are in summary.json" if left else ""),
    )


def _bar(one: dict[str, Any], widest: float) -> Html | str:
    """The share as a bar, with its interval as a line."""
    if "share" not in one:
        return ""
    mean, low, high = (_BAR * value / widest for value in one["share"])
    return tag(
        "svg",
        tag("rect", x="0", y="4", width=f"{max(mean, 1):.2f}", height="10"),
        tag("path", d=f"M{low:.2f} 9H{high:.2f}M{low:.2f} 6v6M{high:.2f} 6v6"),
        viewBox=f"0 0 {_BAR + 2} 18",
        width=_BAR + 2,
        height="18",
        class_=f"sharebar c{one['colour']}",
        aria_hidden="true",
    )


def _focus(run: FinishedRun) -> Html:
    """One cluster; the script fills it in."""
    return tag(
        "section",
        tag("div",
            tag("h3", "One cluster at a time", id="focus-title"),
            tag("div",
                tag("button", "Previous", type="button", id="focus-previous"),
                tag("button", "Next", type="button", id="focus-next"), class_="buttons"),
            class_="headline"),
        tag("div", id="focus"),
        class_="panel", aria_labelledby="focus-title",
    )  # fmt: skip


def heat(difference: float | None) -> str | None:
    """The class of a cell's colour: ``h1`` to ``h5`` for high, ``l1`` to ``l5`` for low values."""
    if difference is None or not math.isfinite(difference):
        return None
    level = sum(abs(difference) >= step for step in _STEPS)
    return None if level == 0 else f"{'h' if difference > 0 else 'l'}{level}"


def _profile(run: FinishedRun, clusters: Clusters, records: list[dict[str, Any]]) -> Html:
    """Every cluster by every feature: one table, of which the script can show other numbers."""
    columns = [run.posterior.columns[d] for d in clusters.features]
    shaped = [one for one in records if "features" in one]
    rows = []
    for one in shaped:
        cells = [
            Cell(f"{feature['mean']} ± {feature['sd']}", sort=feature["at"],
                 class_=f"n {heat(feature['difference']) or ''}".strip())
            for feature in one["features"]
        ]  # fmt: skip
        rows.append([Cell(chip(one), sort=one["id"]), *cells])
    choices = [
        ("mean", "Mean ± spread"),
        ("meanInterval", "Interval of the mean"),
        ("sdInterval", "Interval of the spread"),
        ("difference", "Difference"),
        ("overlap", "Overlap"),
    ]
    radios = [
        tag(
            "label",
            tag("input", type="radio", name="profile", value=value, checked=i == 0),
            tag("span", text),
        )
        for i, (value, text) in enumerate(choices)
    ]
    more = len(run.posterior.columns) - len(columns)
    note = "colour: difference from all other clusters, in standard deviations"
    note += f"; {more} more columns, which tell the clusters apart less, are in summary.json" if more else ""
    head = [("Cluster", ""), *((name, "n") for name in columns)]
    switch = tag("fieldset", tag("legend", "Show", class_="hidden"), radios, class_="switch")
    return tag(
        "div",
        tag("div", tag("h3", "All clusters by column"), switch, class_="headline"),
        table("Clusters by column", head, rows, name="profile", sortable=True, note=note, titled=False,
              row_attributes=[{"data_cluster": one["id"]} for one in shaped]),
        tag("p", tag("span", "lower", class_="l4"), tag("span", class_="l2"), tag("span", "like the rest"),
            tag("span", class_="h2"), tag("span", "higher", class_="h4"), class_="scale", aria_hidden="true"),
        class_="block",
    )  # fmt: skip


def _views(run: FinishedRun, clusters: Clusters, rows: RowFacts | None) -> Html:
    columns = run.posterior.columns
    if len(clusters.paired) < 2:
        return figure("column", f"Rows along {columns[0]}", note="in bins; the chosen cluster in its colour")
    options = [tag("option", columns[d], value=i) for i, d in enumerate(clusters.paired)]
    more = len(columns) - len(clusters.paired)
    controls = tag(
        "div",
        tag("label", "Across ", tag("select", options, id="pair-x")),
        tag("label", "Up ", tag("select", options, id="pair-y")),
        tag("button", "Swap", type="button", id="pair-swap"),
        tag(
            "label",
            tag("input", type="checkbox", id="pair-ellipses", checked=True),
            " Ellipses",
            class_="check",
        ),
        class_="controls",
    )
    note = "each ellipse holds 90% of its cluster"
    if rows is not None:
        note += "; each bin has the colour of its commonest cluster, the stronger the more rows it holds"
    note += f"; {more} columns, which tell the clusters apart less, are left out" if more else ""
    drawn = figure("pairs", "Rows and clusters in two columns", note=note, titled=False, class_="pairs")
    small: Html | None = None
    if rows is not None and len(clusters.paired) > 2:
        small = figure("overview", "All pairs", note="choose one to see it above", class_="overview")
    return block("Two columns at a time", controls, drawn, small)


def _tree(num_clusters: int, num_leaves: int) -> Html:
    left = num_clusters - num_leaves
    note = "the further right two clusters meet, the more it would cost, in nats per row, to make them one"
    note += f"; the {left} smallest are left out" if left else ""
    first = max(2, min(6, num_leaves // 3))
    groups = tag(
        "label",
        "Groups ",
        tag("input", type="range", id="groups", min="1", max=num_leaves, value=first),
        tag("output", id="groups-out"),
        class_="range",
    )
    return block(
        "Which clusters are nearly one",
        tag("div", groups, class_="controls"),
        figure("tree", "Merge tree", note=note, titled=False),
        tag("p", id="groups-words", class_="note", aria_live="polite"),
    )


def _uncertain(
    run: FinishedRun,
    clusters: Clusters,
    records: list[dict[str, Any]],
    rows: RowFacts | None,
    second: dict[int, tuple[int, float]],
) -> Html | None:
    if rows is None:
        return None
    total, doubtful = int(rows.count.sum()), int(rows.doubtful.sum())
    by_id = {one["id"]: one for one in records}
    names = [run.posterior.columns[d] for d in row_columns(clusters)]
    made = []
    for one in listed_rows(rows.doubted, clusters):
        other, likely = second.get(one["row"], (None, math.nan))
        made.append(
            [
                Cell(f"{one['row']:,}", sort=one["row"]),
                Cell(_named(by_id, one["component"], len(clusters.weights))),
                Cell(share(one["probability"])),
                Cell("–" if other is None else _named(by_id, other, len(clusters.weights))),
                Cell(share(likely)),
                *(Cell(value) for value in one["values"]),
            ]
        )
    head = [("Row", "n"), ("Cluster", ""), ("Probability", "n"), ("Next", ""), ("Probability", "n")]
    part = share(doubtful / max(total, 1))
    return block(
        "Rows between clusters",
        tag(
            "p",
            f"{doubtful:,} of {total:,} rows ({part}) belong to no cluster with a probability of {SURE:.0%} "
            "or more: use their probabilities and not only their labels.",
        ),
        figure(
            "certainty",
            "How sure the assignments are",
            note=f"rows by the probability of their cluster, in {LEVELS} bins",
            class_="narrow",
        ),
        table(
            "The least certain rows",
            [*head, *((name, "n") for name in names)],
            made,
            note="counted from 0; rows with equal values are listed once",
        ),
    )


def _unusual(
    run: FinishedRun, clusters: Clusters, records: list[dict[str, Any]], rows: RowFacts | None
) -> Html | None:
    if rows is None:
        return None
    by_id = {one["id"]: one for one in records}
    names = [run.posterior.columns[d] for d in row_columns(clusters)]
    made = [
        [
            Cell(f"{one['row']:,}", sort=one["row"]),
            Cell(_named(by_id, one["component"], len(clusters.weights))),
            Cell(true_minus(f"{-score:.2f}"), sort=-score),
            *(Cell(value) for value in one["values"]),
        ]
        for one, score in zip(listed_rows(rows.unusual, clusters), rows.unusual.score, strict=True)
    ]
    head = [("Row", "n"), ("Cluster", ""), ("Log density", "n"), *((name, "n") for name in names)]
    note = "the lowest densities of all: errors in the data, or what the model does not know"
    rare = table("The rows of the lowest density", head, made, titled=False, note=note)
    return block("Rows that fit no cluster well", rare)


def _named(by_id: dict[int, dict[str, Any]], component: int, num: int) -> Html:
    found = by_id.get(-1 if component == num else component)
    return Html(str(component)) if found is None else chip(found)  # a small one is not described
