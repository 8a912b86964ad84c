"""From a look at data to a configuration that says why it is as it is."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path

from vigmm.config.load import inline
from vigmm.config.looking import Look
from vigmm.data.sources import DataFile

__all__ = ["suggest"]

_WIDTH = 100
# Rows that pay for a component's mean and spreads, per column.
_ROWS_EACH, _MOST, _MOST_UNSEARCHED = 5, 30, 10
# Above, the D^2/2 numbers of a full covariance are more than most data can pay for.
_FULL_COLUMNS = 50
_FEW_ROWS, _FEW_VALUES = 200, 20
_MANY_REPEATS = 0.1
_LISTED = 12


def suggest(data: DataFile, seen: Look, *, name: str) -> str:
    """The text of a commented configuration, which `vigmm.config.read_job` reads.

    Args:
        data: what was looked at.
        seen: what was found.
        name: of the configuration file, for the command in its first lines.
    """
    about = "" if seen.exact else "about "
    looked = "all of them" if seen.seen == seen.rows else f"of which {seen.seen:,} were looked at"
    head = [
        *_comment(
            f"Written by vigmm init from a look at {seen.name}: {about}{seen.rows:,} rows, {looked}. Run it "
            f"with"
        ),
        "#",
        f"#   vigmm fit {shlex.quote(_printable(name))}",
        "#",
        *_comment(
            "Every key is optional but data; what is left out has a default, and the run folder will hold "
            "the configuration with all of them filled in."
        ),
    ]
    sections = [head, _data(data, seen), _model(seen), _family(seen), _train(seen), _output(data)]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def num_components(seen: Look) -> int:
    """The largest number of components to allow.

    Five rows for each column and component are little, but the search gives back what it cannot use.
    """
    most = _MOST_UNSEARCHED if seen.missing else _MOST
    return max(1, min(most, seen.rows // (_ROWS_EACH * (len(seen.kept) + 1))))


def _data(data: DataFile, seen: Look) -> list[str]:
    lines = ["data:", f"  path: {inline(data.path)}"]
    if data.kind is not None:
        lines.append(f"  kind: {inline(data.kind)}")
    if data.key is not None:
        lines.append(f"  key: {inline(data.key)}")
    left = [(column.name, column.left_out) for column in seen.columns if column.left_out is not None]
    if left:
        for why in (f"{one}: left out, {reason}." for one, reason in left[:_LISTED]):
            lines += _comment(why, indent=2)
        if len(left) > _LISTED:
            lines += _comment(f"... and {len(left) - _LISTED} more that were left out.", indent=2)
    if seen.text:
        lines += _comment(f"Not read, for they hold no numbers: {', '.join(seen.text[:_LISTED])}.", indent=2)
    if left or seen.text or data.columns is not None:
        names = inline([column.name for column in seen.kept], width=_WIDTH)
        lines += textwrap.indent(f"columns: {names}", "  ").splitlines()
    few = [c.name for c in seen.kept if c.whole and c.distinct <= _FEW_VALUES < seen.seen]
    if few:
        lines += _comment(
            f"Few different values, all whole: {', '.join(few[:_LISTED])}. If they are codes and no amounts, "
            "leave them out: a Gaussian takes 2 to be between 1 and 3.",
            indent=2,
        )
    if seen.repeats > _MANY_REPEATS:
        lines += _comment(
            f"About {seen.repeats:.0%} of the rows repeat another. Exact repeats look like very tight "
            "clusters: if they are copies by mistake, drop them.",
            indent=2,
        )
    return lines


def _model(seen: Look) -> list[str]:
    most, columns = num_components(seen), len(seen.kept)
    lines = ["model:"]
    if seen.missing:
        lines += _comment(
            "The most there may be. The search for the number of clusters needs rows without gaps, so all of "
            "them may come to be used: try several numbers and compare with vigmm compare.",
            indent=2,
        )
    else:
        lines += _comment(
            f"An upper bound: the search finds how many the data support, and {seen.rows:,} rows of "
            f"{columns} column{'s' * (columns > 1)} hardly pay for more than {most}."
            if most < _MOST
            else "An upper bound: the search finds how many the data support. Raise it if all are used.",
            indent=2,
        )
    lines += [f"  num_components: {most}", "  weights: dirichlet_process"]
    if columns > _FULL_COLUMNS:
        lines += _comment(
            f"A full covariance of {columns} columns has {columns * (columns + 1) // 2:,} numbers for each "
            "component, more than most data can pay for; columns are taken to vary on their own. Try "
            "low_rank with family: blocks if they move together.",
            indent=2,
        )
        lines.append("  covariance: diag")
    elif seen.missing:
        lines += _comment("Ellipsoids of any direction; diag is simpler, and quicker to pay for.", indent=2)
        lines.append("  covariance: full")
    else:
        lines += _comment(
            "Ellipsoids of any direction (full), or what is simpler where the data support that better; name "
            "one to have it.",
            indent=2,
        )
        lines.append("  covariance: auto")
    if seen.missing:
        gaps = [f"{c.name} ({c.missing:.1%})" for c in seen.kept if c.missing]
        shown = ", ".join(gaps[:_LISTED]) + (", ..." if len(gaps) > _LISTED else "")
        lines += _comment(f"Values are missing in {shown}: they are integrated out, not made up.", indent=2)
        lines.append("  missing: true")
    gross = [c.name for c in seen.kept if c.outliers]
    if gross:
        lines += _comment(
            f"Values far from all others are in {', '.join(gross[:_LISTED])}. If they are mistakes, mend "
            "them; if they belong, heavy tails (student_t, with family: blocks) keep them from being "
            "clusters of their own.",
            indent=2,
        )
        lines.append("  # likelihood: student_t")
    return lines


def _family(seen: Look) -> list[str]:
    if not seen.missing:
        return []
    return [
        *_comment(
            "With values missing there is no conjugate posterior: a Gaussian for each component, fitted by "
            "reparameterised gradients."
        ),
        "family: blocks",
        "estimator: {kind: pathwise, entropy: stl}",
    ]


def _train(seen: Look) -> list[str]:
    lines = ["train:"]
    if seen.rows < _FEW_ROWS:
        lines += _comment("So few rows are all needed for the fit; vigmm evaluate scores others.", indent=2)
        lines.append("  holdout: 0")
    else:
        lines += _comment("Rows that are never fitted: their density is the honest measure of it.", indent=2)
        lines.append("  holdout: 0.05")
    lines += _comment("The most passes over the data; a run that has settled ends earlier.", indent=2)
    lines.append("  passes: 20")
    return lines


def _output(data: DataFile) -> list[str]:
    query = data.path.startswith("duckdb:")
    stem = "query" if query else Path(data.path).name.partition(".")[0]
    word = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem).strip("-") or "vigmm"
    return ["seed: 0", "", "output:", f"  folder: {inline('runs/' + word)}"]


def _comment(text: str, *, indent: int = 0) -> list[str]:
    start = " " * indent + "# "
    return textwrap.wrap(
        " ".join(_printable(text).split()), _WIDTH, initial_indent=start, subsequent_indent=start,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _printable(text: str) -> str:
    """A name may hold anything: a line break would end the comment, a control character spoil the file."""
    return "".join(c if c.isprintable() else " " for c in text)
