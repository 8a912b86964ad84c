"""Every block of docs/interop.md runs, in order, in one namespace."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest


@pytest.mark.slow
def test_blocks_run(root, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (root / "docs" / "interop.md").read_text(), re.DOTALL)
    assert len(blocks) == 8
    names: dict[str, object] = {}
    # NumPyro relies on JAX's default promotion.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in blocks:
            exec(compile(block, "docs/interop.md", "exec"), names)
    posterior, rows = names["fit"].posterior, names["rows"]
    assert posterior.columns == ("width", "height")
    assert names["labelled"].index.tolist() == names["frame"].index.tolist()
    assert names["summary"]["expected_rows"].sum() == pytest.approx(2 * 300)
    assert names["means"].dims == ("chain", "draw", "component")
    assert names["sites"]["loc"].shape == (100, posterior.num_components, 2)
    labels = posterior.predict(rows)
    assert np.mean(names["component"] == labels) > 0.99
    np.testing.assert_array_equal(
        names["mixture"].predict(names["frame"][["width", "height"]]), names["component"]
    )
    np.testing.assert_array_equal(names["found"]["component"], labels)
