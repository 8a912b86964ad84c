"""Every Python block of the README runs, in order, in one namespace; every configuration it names exists."""

from __future__ import annotations

import re

import numpy as np
import pytest


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_python_blocks_run(root, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    blocks = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 6
    lines = [line for line in blocks[0].splitlines() if line.strip()]
    assert len(lines) == 3, "the three-line example has three lines"
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    rows = draw.uniform(0, 255, size=(2000, 3))
    names: dict[str, object] = {"rows": rows}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["labels"].shape == (2000,)
    assert names["shares"].shape == (2000, 8)
    assert np.isfinite(names["density"]).all()
    np.testing.assert_array_equal(
        names["posterior"].log_predictive(rows), names["fit"].posterior.log_predictive(rows)
    )


def test_named_files_exist(root):
    text = (root / "README.md").read_text()
    for path in re.findall(r"configs/\w+\.yaml", text) + re.findall(r"\]\(([\w/.]+)\)", text):
        assert (root / path).exists(), path
