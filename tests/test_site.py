"""The documentation site: builds without a warning, has every public name and key, and fetches nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

import vigmm
from vigmm.config.schema import schema

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    """The built site."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(target)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


class Fetched(HTMLParser):
    """What a browser fetches of itself: not the links that a reader may follow."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag != "a":
            self.found += [values[name] or "" for name in ("src", "href", "srcset", "data") if name in values]


def test_nothing_is_fetched_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        reader = Fetched()
        reader.feed(page.read_text())
        away = [value for value in reader.found if re.match(r"(https?:)?//", value)]
        assert not away, f"{page.relative_to(site)}: {away}"
        assert any(value.endswith(".css") for value in reader.found)
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet


def test_whatever_a_page_fetches_is_there(site):
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # its addresses begin at the root of the server
            continue
        reader = Fetched()
        reader.feed(page.read_text())
        for value in reader.found:
            path = re.split(r"[?#]", value)[0]
            if path and not path.startswith("data:"):
                assert (page.parent / path).exists(), f"{page.relative_to(site)}: {value}"


def test_the_reference_has_every_public_name(site):
    text = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    anchors = set(re.findall(r'id="vigmm\.([\w.]+)"', text))
    names = {anchor.rpartition(".")[2] for anchor in anchors}
    assert [name for name in vigmm.__all__ if name not in names | {"__version__"}] == []
    # Arguments of a Spec are told, though its constructor is made by a decorator.
    assert "forgetting" in (site / "reference" / "optim.html").read_text()


def test_the_configuration_has_every_key(site):
    text = (site / "configuration.html").read_text()
    found = schema()
    for node in (found, *found["$defs"].values()):
        for key in node["properties"]:
            assert f"<code>{key}</code>" in text, key


def test_results_notebooks_and_decisions_are_pages(site, root):
    assert "Held-out density against seconds" in (site / "benchmarks" / "RESULTS.html").read_text()
    for folder, suffix in (("notebooks", ".ipynb"), ("decisions", ".md")):
        for path in (root / "docs" / folder).glob(f"*{suffix}"):
            name = "index" if path.stem == "README" else path.stem
            assert (site / folder / f"{name}.html").exists(), path.name
    assert list((site / "notebooks").rglob("*.png"))
