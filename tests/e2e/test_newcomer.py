"""From an empty folder with a table to a summary, by the five commands that docs/cli.md begins with."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
NAMES = ("length", "width", "weight")
CENTRES = np.array([[2.0, 1.0, 40.0], [5.0, 1.2, 90.0], [5.5, 3.0, 55.0]])
SPREADS = np.array([0.3, 0.15, 6.0])


def plants(path: Path, *, rows: int, seed: int, extra: bool) -> np.ndarray:
    """Three species of different sizes, and what tables have beside measurements; returns the species."""
    rng = np.random.default_rng(seed)
    species = rng.choice(3, size=rows, p=[0.5, 0.3, 0.2])
    x = CENTRES[species] + SPREADS * rng.normal(size=(rows, 3))
    with path.open("w") as file:
        file.write(("id,garden,name," if extra else "") + ",".join(NAMES) + "\n")
        for i, row in enumerate(x):
            beside = f"{i + 1},7,{'rose' if i % 2 else 'thyme'}," if extra else ""
            file.write(beside + ",".join(f"{value:.4f}" for value in row) + "\n")
    return species


def commands() -> list[list[str]]:
    """The commands of the page's first block."""
    block = re.search(r"```sh\n(.+?)```", PAGE.read_text(), re.S)
    assert block is not None
    return [shlex.split(line, comments=True) for line in block[1].splitlines()]


@pytest.mark.slow  # a process for each command
def test_from_a_table_to_its_clusters(tmp_path):
    species = plants(tmp_path / "plants.csv", rows=900, seed=0, extra=True)
    plants(tmp_path / "other_plants.csv", rows=200, seed=1, extra=False)
    asked = commands()
    assert [command[:2] for command in asked] == [
        ["vigmm", name] for name in ("init", "fit", "inspect", "predict", "evaluate")
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    environment["VIGMM_CACHE"] = str(tmp_path / "programs")
    told = []
    for command in asked:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=110,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
        assert "\x1b" not in done.stdout + done.stderr  # no colours in a pipe
        told.append(done.stdout)
    init, fit, inspect, _, evaluate = told
    assert "left out: id (counts the rows)" in init
    assert "left out: garden (constant)" in init
    assert "left out: name (no numbers)" in init
    assert "3 found, of at most" in fit
    assert "length" in inspect
    run = tmp_path / "runs" / "plants"
    assert "Worth a look" in (run / "summary.txt").read_text()
    clusters = pq.read_table(tmp_path / "clusters.parquet")["component"].to_numpy()
    # Each species is a cluster, but for the few plants that are between two.
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (species, clusters), 1)
    assert counts.max(axis=1).sum() > 0.98 * len(species)
    assert sorted(counts.argmax(axis=1).tolist()) == [0, 1, 2]
    # New plants are as likely as those that were held out.
    density, error = map(float, re.search(r"density (-?[\d.]+) ± ([\d.]+)", evaluate).groups())
    held_out = json.loads((run / "manifest.json").read_text())["holdout"]
    assert density == pytest.approx(held_out["mean_log_density"], abs=5 * np.hypot(held_out["se"], error))
