"""What all sections are made of: tables, figures, chips of clusters, numbers in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from vigmm.report.markup import Html, tag, true_minus

__all__ = ["Cell", "block", "chip", "figure", "icon", "number", "section", "share", "table", "verdict"]

_UNSORTED = ("hist", "words", "sign")
_LONG = 1e12
_WORDS = {"good": "good", "caution": "caution", "bad": "bad", "unknown": "not known"}
_ICONS = {
    "good": "M4.5 8.4l2.4 2.4 4.6-5.2",
    "caution": "M8 4.2v4.6M8 11.4v.3",
    "bad": "M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6",
    "unknown": "M5 8h6",
}


class Cell:
    """A cell of a table.

    Args:
        content: markup or text.
        sort: what it is sorted by, if not its text.
        attributes: of the element.
    """

    def __init__(self, *content: Any, sort: float | None = None, **attributes: Any) -> None:
        self.content, self.attributes = content, attributes
        if sort is not None and math.isfinite(sort):
            self.attributes["data_sort"] = f"{sort:.10g}"


def section(name: str, title: str, *children: Any, intro: str | None = None) -> Html:
    """A section with its heading; `name` is what the navigation links to."""
    head = tag("h2", title, id=f"{name}-title")
    lead = None if intro is None else tag("p", intro, class_="intro")
    return tag("section", head, lead, *children, id=name, aria_labelledby=f"{name}-title")


def block(title: str, *children: Any) -> Html:
    """A part of a section, under a heading of its own."""
    return tag("div", tag("h3", title), *children, class_="block")


def table(
    caption: str,
    head: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[Cell]],
    *,
    name: str | None = None,
    sortable: bool = False,
    row_attributes: Sequence[dict[str, Any]] | None = None,
    note: str | None = None,
    titled: bool = True,
) -> Html:
    """A table in a frame that scrolls where the screen is too narrow. The first cell of a row is its heading.

    Args:
        caption: what it shows.
        head: text and class of each column; ``n`` is for numbers.
        rows: cells.
        name: its id.
        sortable: whether the headings are buttons that sort.
        row_attributes: of each row.
        note: a line under the caption.
        titled: whether the caption is seen; a heading above may say the same.
    """
    titles = [
        tag(
            "th",
            tag("button", text, tag("span", aria_hidden="true"), type="button", class_="sort")
            if sortable and kind not in _UNSORTED
            else text,
            scope="col",
            class_=kind or None,
            aria_sort="none" if sortable and kind not in _UNSORTED else None,
        )
        for text, kind in head
    ]
    body = []
    for i, row in enumerate(rows):
        cells = [
            tag(
                "th" if j == 0 else "td",
                *cell.content,
                **{"class_": head[j][1] or None, **cell.attributes},
                **({"scope": "row"} if j == 0 else {}),
            )
            for j, cell in enumerate(row)
        ]
        body.append(tag("tr", cells, **(row_attributes[i] if row_attributes else {})))
    words = tag("caption", _caption(caption, note, titled=titled))
    made = tag("table", words, tag("thead", tag("tr", titles)), tag("tbody", body), id=name)
    return tag("div", made, class_="frame", tabindex="0", role="region", aria_label=caption)


def figure(
    plot: str, caption: str, *, note: str | None = None, titled: bool = True, **attributes: Any
) -> Html:
    """A place where the page's script draws; `plot` says what."""
    words = tag("figcaption", _caption(caption, note, titled=titled))
    return tag("figure", words, tag("div", class_="plot"), data_plot=plot, **attributes)


def _caption(caption: str, note: str | None, *, titled: bool) -> Html:
    return tag(
        "div",
        tag("span", caption, class_=None if titled else "hidden"),
        None if note is None else tag("span", note, class_="note"),
        class_="words",
    )


def chip(cluster: dict[str, Any]) -> Html:
    """The number of a cluster in its colour: a button that highlights it everywhere."""
    colour = "" if cluster["colour"] is None else f" c{cluster['colour']}"
    return tag(
        "button",
        tag("i", aria_hidden="true"),
        cluster["name"],
        type="button",
        class_=f"chip{colour}",
        data_cluster=cluster["id"],
        aria_pressed="false",
        aria_label=f"cluster {cluster['name']}",
    )


def icon(kind: str) -> Html:
    """A sign for a verdict, so that nothing is said by colour alone."""
    return tag(
        "svg",
        tag("circle", cx="8", cy="8", r="7"),
        tag("path", d=_ICONS[kind]),
        viewBox="0 0 16 16",
        class_=f"icon {kind}",
        aria_hidden="true",
    )


def verdict(kind: str) -> Html:
    """A verdict: sign and word."""
    return tag("span", icon(kind), _WORDS[kind], class_=f"verdict {kind}")


def number(value: float | None, digits: int = 4) -> str:
    """A number for people: so many significant digits, thousands apart, a true minus sign.

    Example:
        >>> number(-3208627.9), number(0.00012345), number(None), number(-4590.75, 6), number(1.23e15)
        ('−3,208,628', '0.0001234', '–', '−4,590.75', '1.23e+15')
    """
    if value is None or not math.isfinite(value):
        return "–"
    value += 0.0  # minus zero becomes zero
    whole = 10 ** (digits - 1) <= abs(value) < _LONG
    text = f"{value:,.0f}" if whole else f"{value:,.{digits}g}"
    return true_minus(text)


def share(value: float | None) -> str:
    """A part of one as a percentage.

    Example:
        >>> share(0.07123), share(0.00042), share(0.0), share(1.0)
        ('7.1%', '0.04%', '0%', '100%')
    """
    if value is None or not math.isfinite(value):
        return "–"
    percent = 100 * value
    if 0 < percent < 0.005:
        return "<0.01%"
    digits = 0 if percent in (0.0, 100.0) else 1 if percent >= 0.1 else 2
    return f"{percent:.{digits}f}%"
