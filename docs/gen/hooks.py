"""What MkDocs is told beyond mkdocs.yml: pages that are made, or that lie outside docs/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import configuration
import notebooks
import reference
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# Folders beside docs/ that pages link to.
BESIDE = ("benchmarks/RESULTS.md", "benchmarks/results/*.md", "benchmarks/results/*.svg", "configs/**/*.*")


def on_config(config: Any) -> Any:
    """Fill the sections of the navigation that have no pages of their own in mkdocs.yml."""
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"), key=lambda path: path.name != "README.md")
    _fill(config.nav, "Decisions", [f"decisions/{path.name}" for path in decisions])
    _fill(config.nav, "Notebooks", [{notebooks.title(path): _page_of(path)} for path in _notebooks()])
    _fill(config.nav, "Python", [{title: name} for name, (title, _) in reference.pages().items()])
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add what is made and what lies beside docs/."""
    from vigmm.config.schema import schema

    made = {"changelog.md": (ROOT / "CHANGELOG.md").read_text()}
    made |= {name: text for name, (_, text) in reference.pages().items()}
    made["configuration.md"] = (ROOT / "docs" / "configuration.md").read_text() + "\n"
    made["configuration.md"] += configuration.tables(schema())
    for path in _notebooks():
        text, pictures = notebooks.page(path)
        made[_page_of(path)] = text
        made |= {f"notebooks/{name}": content for name, content in pictures.items()}
    for name, content in made.items():
        if name in files.src_uris:
            files.remove(files.src_uris[name])
        files.append(File.generated(config, name, content=content))
    for pattern in BESIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to what lies beside docs/, and to notebooks, lead to their pages in the site."""
    markdown = re.sub(r"\]\(([\w/-]+)\.ipynb\)", r"](\1.md)", markdown)
    return re.sub(r"\]\(\.\./(benchmarks|configs)/", r"](\1/", markdown)


def _notebooks() -> list[Path]:
    return sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def _page_of(path: Path) -> str:
    return f"notebooks/{path.stem}.md"


def _fill(nav: list[Any], title: str, pages: list[Any]) -> None:
    for entry in nav:
        for name, below in entry.items() if isinstance(entry, dict) else ():
            if name == title:
                entry[name] = pages
            elif isinstance(below, list):
                _fill(below, title, pages)
