"""A notebook as a page: nbconvert makes Markdown of it, and its pictures become files."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

__all__ = ["page", "title"]


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """The Markdown of a notebook, and the pictures that it names, by name."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, made = MarkdownExporter().from_notebook_node(notebook, resources)
    return text, dict(made["outputs"])


def title(path: Path) -> str:
    """The first heading."""
    notebook = nbformat.read(path, as_version=4)
    first: str = notebook.cells[0].source.splitlines()[0]
    return first.removeprefix("# ")
