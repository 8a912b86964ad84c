"""The comparison with scikit-learn's class: pairs, ratios within them, and sets that were run before."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from benchmarks import facade


@pytest.fixture
def no_fits(monkeypatch):
    """Fits that cost what they are told; ours are ten times faster cold and a hundred times warm."""
    theirs, ours = iter([20.0, 40.0, 30.0]), iter([2.0, 0.2, 4.0, 0.4, 3.0, 0.3])

    def made(seconds, level):
        def fit(train, test, components, seed):
            assert (train.shape, len(test), components) == ((500, 3), 100, 8)
            now = next(seconds)
            cost = {"seconds": now, "cpu_seconds": now, "load": 3.0, "iterations": 100, "converged": now < 10}
            density = level + 0.01 * np.arange(100)
            return cost | {"held_out": float(density.mean())}, density

        return fit

    monkeypatch.setattr(facade, "_theirs", made(theirs, -1.0))
    monkeypatch.setattr(facade, "_ours", made(ours, -0.75))
    # Other tests need what is compiled.
    monkeypatch.setattr(jax, "clear_caches", lambda: None)
    monkeypatch.setattr(facade, "HELD_OUT", 100)


def test_ratios_are_of_pairs_and_other_sets_stay(no_fits, tmp_path, monkeypatch):
    old = {"set": "mixture 20", "name": "mixture"}
    (tmp_path / "facade.json").write_text(json.dumps({"sets": [old]}))
    monkeypatch.setattr(facade, "table", lambda document: " ".join(one["set"] for one in document["sets"]))
    monkeypatch.setattr(facade.run, "__defaults__", (100,))
    assert facade.main(["--sets", "china", "--rows", "500", "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "facade.json").read_text())
    assert "load_average" in written["provenance"]
    assert [one["set"] for one in written["sets"]] == ["mixture 20", "china 500"]
    found = written["sets"][1]["summary"]
    assert found["cold_cpu_seconds_ratio"] == {"median": 10.0, "min": 10.0, "max": 10.0}
    assert found["warm_seconds_ratio"]["median"] == 100.0
    assert found["theirs"]["seconds"] == 30.0
    assert found["theirs"]["held_out"] == pytest.approx(-0.505)
    assert found["theirs"]["converged"] == 0
    assert found["cold"]["converged"] == 3
    assert found["gain"]["median"] == 0.25


def test_the_table_says_what_was_measured(no_fits):
    text = facade.table({"sets": [facade.run("china", 500, 3, 100)]})
    row = text.splitlines()[-1]
    assert row.startswith("| china | 500 | 3 | 8 | 3 | 30.0 | 3.0 | 0.3 |".replace(".0 ", " "))
    assert "| 10 | 100 | -0.5050 | -0.2550 | +0.250 | 0 / 3 | 3 to 3 |" in row
