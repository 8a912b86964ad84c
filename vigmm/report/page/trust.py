"""The first part of the page: how the run ended, and how far to trust it."""

from __future__ import annotations

import math
from typing import Any

from vigmm.posterior import Finding
from vigmm.posterior.checks import Check
from vigmm.posterior.findings import stands_out
from vigmm.report.markup import Html, tag, true_minus
from vigmm.report.page.parts import Cell, figure, icon, number, section, share, table, verdict
from vigmm.report.run import FinishedRun
from vigmm.report.trust import Trust

__all__ = ["lead", "trust_section"]

_NAMED, _MOST_CHECKS = 6, 120


def lead(run: FinishedRun, trust: Trust, num_shown: int) -> Html:
    """Title, one sentence of what was found, the verdict, and the figures that everybody asks for."""
    data, facts = run.manifest["data"], run.facts
    columns = data["columns"]
    names = ", ".join(columns[:_NAMED])
    names += f" and {len(columns) - _NAMED} more columns" if len(columns) > _NAMED else ""
    kind, words = trust.sentence()
    bound, held = facts.elbo, facts.holdout
    khat = next((found.value for found in trust.findings if found.name == "k-hat"), None)
    figures = [
        ("Clusters", f"{num_shown}", f"{facts.needed} hold 99% of the rows"),
        ("Rows", f"{data['rows']:,}", f"of {len(columns)} column{'s' if len(columns) > 1 else ''}"),
        ("ELBO per row", number(bound["per_row"], 5), f"{number(bound['total'], 7)} nats in all"),
        (
            "Held out, per row",
            number(held["mean_log_density"] if held else None, 5),
            f"± {number(held['se'], 2)}, log density" if held else "no rows were held out",
        ),
        ("k-hat", number(khat, 3), "below 0.7 is usable" if khat is not None else "not computed"),
    ]
    return tag(
        "header",
        tag("p", "Bayesian Gaussian mixture", class_="over"),
        tag("h1", run.title),
        tag("p", f"{num_shown} clusters in {data['rows']:,} rows of {names}.", class_="standfirst"),
        tag("p", icon(kind), tag("span", words), class_=f"judgement {kind}"),
        tag(
            "dl",
            [tag("div", tag("dt", name), tag("dd", tag("b", value), tag("small", more)))
             for name, value, more in figures],
            class_="figures",
        ),
        class_="lead", id="top",
    )  # fmt: skip


def trust_section(run: FinishedRun, trust: Trust, curves: list[dict[str, Any]]) -> Html:
    """Findings, traces, advice, blocks and predictive checks."""
    listed = [
        tag(
            "li",
            tag("div", tag("b", _title(found.name)), verdict(found.verdict), class_="what"),
            tag("div", _value(found), class_="value"),
            tag("p", _sentence(found.meaning)),
        )
        for found in trust.findings
    ]
    advice = run.facts.advice(trace="the bound")
    if trust.left_out:
        advice.append(f"k-hat, evidence and predictive checks were not computed: {trust.left_out}.")
    if run.source is None:
        advice.append(
            f"The rows could not be read ({run.trouble}), so whatever shows rows is left out. "
            "Say where they are with --data."
        )
    return section(
        "trust",
        "How far to trust it",
        tag(
            "div",
            tag("div", tag("h3", "What was checked"), tag("ul", listed, class_="findings")),
            tag("div", tag("h3", "The run"), [_trace(i, curve) for i, curve in enumerate(curves)],
                None if curves else tag("p", "The run folder has no trace.", class_="none"),
                _advice(advice), _blocks(trust), _checks(trust), class_="side"),
            class_="two",
        ),
    )  # fmt: skip


def _trace(number_of: int, curve: dict[str, Any]) -> Html:
    last = number(float(curve["mean"][-1]), 6)
    thinned = curve["steps"] > len(curve["x"])
    band = f"; line and band are mean and range of {curve['steps']:,} records" if thinned else ""
    return figure(
        "trace",
        curve["title"],
        note=f"{curve['unit']}, {last} at the end{band}",
        data_trace=number_of,
    )


def _advice(advice: list[str]) -> Html:
    words = advice or ["Nothing unusual."]
    return tag(
        "div", tag("h3", "Worth a look"), tag("ul", [tag("li", one) for one in words], class_="advice")
    )


def _blocks(trust: Trust) -> Html | None:
    if trust.diagnosis is None or not trust.diagnosis.blocks:
        return None
    blocks = trust.diagnosis.blocks
    rows = [[Cell(name), Cell(number(value, 3), sort=value)] for name, value in blocks.items()]
    return tag(
        "div",
        figure(
            "strip",
            "k-hat of each block",
            note="every other block held at its mean; below 0.5 is good, up to 0.7 usable",
        ),
        tag(
            "details",
            tag("summary", "The same as a table"),
            table("k-hat of each block", [("Block", ""), ("k-hat", "n")], rows, sortable=True),
        ),
    )


def _checks(trust: Trust) -> Html | None:
    if trust.diagnosis is None:
        return None
    found = [
        ("Posterior predictive checks", "data sets that the fitted model makes", trust.diagnosis.predictive),
        ("Prior predictive checks", "data sets that the prior makes", trust.diagnosis.prior or ()),
    ]
    return tag("div", [_check_table(*one) for one in found if one[2]], class_="checks")


def _check_table(title: str, what: str, checks: tuple[Check, ...]) -> Html:
    surprised = [check for check in checks if stands_out(check, len(checks))]
    told = (
        f"{len(surprised)} of {len(checks)} stand out" if surprised else f"none of {len(checks)} stands out"
    )
    left = f"; the {_MOST_CHECKS} most surprising of {len(checks)}" if len(checks) > _MOST_CHECKS else ""
    rows = [
        [
            Cell(f"{check.name} of {check.column}"),
            Cell(number(check.observed, 5), sort=check.observed),
            Cell(f"{number(check.low, 5)} to {number(check.high, 5)}"),
            Cell(share(check.probability), sort=check.probability),
            Cell(verdict("caution" if stands_out(check, len(checks)) else "good")),
        ]
        for check in sorted(checks, key=lambda check: check.probability)[:_MOST_CHECKS]
    ]
    head = [
        ("Statistic", ""),
        ("In the data", "n"),
        ("In 90% of replicates", "n"),
        ("Tail", "n"),
        ("Verdict", "sign"),
    ]
    return tag(
        "details",
        tag("summary", f"{title}: {told}"),
        table(title, head, rows, sortable=True, note=f"the rows against {what}{left}"),
    )


def _value(found: Finding) -> str:
    if found.name == "outcome":
        return f"{found.value:,.0f} steps"
    error = f" ± {number(found.se, 2)}" if math.isfinite(found.se) and found.se > 0 else ""
    return number(found.value, 3 if abs(found.value) < 10 else 5) + error


def _title(name: str) -> str:
    """With a capital, unless the name begins with a letter that stands for a quantity."""
    return name if name[1:2] in ("-", " ", "") else name[:1].upper() + name[1:]


def _sentence(text: str) -> str:
    return true_minus(_title(text)) + ("" if text.endswith((".", "!", "?")) else ".")
