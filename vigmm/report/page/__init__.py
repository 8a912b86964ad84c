"""The page: sections made here in Python, styles and scripts from ``assets``, all in one file.

No template engine: what is filled in is six pieces of text, and everything below the body is made by `tag`,
which escapes by default.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from string import Template

from vigmm import __version__
from vigmm.report.markup import Html, as_json, tag
from vigmm.report.page.clusters import clusters_section
from vigmm.report.page.record import moments_of, record_sections
from vigmm.report.page.trust import lead, trust_section
from vigmm.report.palette import palette_css

__all__ = ["assemble", "clusters_section", "lead", "moments_of", "record_sections", "trust_section"]

_SCRIPTS = (
    "numbers",
    "base",
    "choice",
    "tables",
    "trace",
    "counts",
    "focus",
    "pairs",
    "overview",
    "tree",
    "main",
)
_SECTIONS = {
    "trust": "Trust",
    "clusters": "Clusters",
    "data": "Data",
    "prior": "Prior",
    "config": "Config",
    "timings": "Timings",
}


def assemble(title: str, sections: list[Html], payload: object) -> str:
    """The whole file.

    A content security policy allows this very script and style, by their digests, and nothing else: no other
    script could run, and nothing can be fetched.

    Args:
        title: of the page.
        sections: what is in it.
        payload: what the script draws from, JSON-ready.
    """
    style = f"\n{_asset('style.css')}{palette_css()}"
    scripts = "".join(_asset(f"{name}.js") for name in _SCRIPTS)
    script = f'\n(() => {{\n"use strict";\n{scripts}}})();\n'
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(_asset("page.html")).substitute(
        policy=tag("meta", http_equiv="Content-Security-Policy", content=policy),
        title=tag("title", title),
        version=__version__,
        style=style,
        body=_body(sections),
        payload=as_json(payload),
        script=script,
    )


def _body(sections: list[Html]) -> Html:
    links = [tag("li", tag("a", text, href=f"#{name}")) for name, text in _SECTIONS.items()]
    bar = tag(
        "header",
        tag("div",
            tag("a", "vigmm", href="#top", class_="brand"),
            tag("nav", tag("ul", links), aria_label="Sections"),
            tag("div",
                tag("label", tag("span", "Cluster"), tag("select", id="choice")),
                tag("button", type="button", id="theme", aria_label="Colours: as the system"),
                class_="tools"),
            class_="inner"),
        class_="bar",
    )  # fmt: skip
    foot = tag(
        "footer", tag("p", f"Made by vigmm {__version__}. This file needs no network and sends nothing.")
    )
    quiet = tag("noscript", tag("p", "Plots need JavaScript; all tables are here without it.", class_="none"))
    skip = tag("a", "Skip to the report", href="#main", class_="skip")
    said = tag("p", id="said", class_="hidden", aria_live="polite")
    main = tag("main", quiet, sections, id="main", tabindex="-1")
    return Html("\n".join([skip, bar, main, foot, said]))


@cache
def _asset(name: str) -> str:
    return (resources.files("vigmm.report") / "assets" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
