"""Every block of docs/plots.md runs, in order, in one namespace; its table has every function."""

from __future__ import annotations

import re

import pytest

from vigmm import plot


def page(root):
    return (root / "docs" / "plots.md").read_text()


@pytest.mark.slow
def test_blocks_run(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", page(root), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/plots.md", "exec"), names)
    assert len(names["grid"]) == 4
    assert len(names["checks"]) == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["both.png", "pairs.png"]


def test_the_page_names_every_picture(root):
    pictures = (
        set(plot.__all__)
        - {name for name in plot.__all__ if name.isupper()}
        - {"available", "colours", "save"}
    )
    missing = [
        name for name in pictures if f"`{name}(" not in page(root) and f"plot.{name}" not in page(root)
    ]
    assert missing == []
