"""Every block of docs/sklearn.md runs, in order, in one namespace."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("sklearn")


@pytest.mark.slow
def test_blocks_run(root):
    blocks = re.findall(r"```python\n(.*?)```", (root / "docs" / "sklearn.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/sklearn.md", "exec"), names)
    assert names["model"].converged_
    assert names["labels"].shape == (300,)
    assert names["shares"].shape == (300, 4)
    assert (names["fewer"].weights_ > 0.01).sum() == 2
    assert names["search"].best_params_ == {"bayesiangaussianmixture__n_components": 2}
    assert names["stream"].n_samples_seen_ == 300
