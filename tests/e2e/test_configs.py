"""Every configuration that the project ships runs, at a reduced size, and repeats from its own run folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vigmm.cli.app import app
from vigmm.config import load_job

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

# What makes each small: three components, few rows, few steps. All else stays as it is shipped.
COMMON = ["model.num_components=3", "train.passes=2", "train.batch_size=500", "start.rows=500"]
SMALL = {
    "china.yaml": [*COMMON, "data.path={image}"],
    "pixels_meanfield.yaml": [*COMMON, "data.path={image}"],
    "iris.yaml": ["train.passes=20"],
}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A picture of three colours and some noise, 40 by 30."""
    rng = np.random.default_rng(0)
    tones = np.array([[200, 60, 40], [40, 160, 60], [30, 50, 180]])
    pixels = tones[np.arange(1200) * 3 // 1200] + rng.normal(scale=12, size=(1200, 3))
    path = tmp_path_factory.mktemp("image") / "flag.png"
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8).reshape(30, 40, 3)).save(path)
    return path


def test_every_configuration_is_tested():
    assert {path.name for path in CONFIGS.glob("*.yaml")} == set(SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
def test_configuration(name, image, tmp_path):
    sets = [text.format(image=image) for text in SMALL[name]]
    arguments = [part for text in sets for part in ("--set", text)]
    done = CliRunner().invoke(app, ["fit", str(CONFIGS / name), "--out", str(tmp_path / "run"), *arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["outcome"]["status"] in ("budget", "converged")
    assert np.isfinite(manifest["elbo"]["elbo"])
    pictures = {path.stem for path in (tmp_path / "run" / "plots").iterdir()}
    assert pictures == {"trace", "weights", "clusters"} | (
        {"segmentation"} if "image" in SMALL[name][-1] else set()
    )
    weights = [
        one["weight"]["mean"]
        for one in json.loads((tmp_path / "run" / "summary.json").read_text())["summary"]["components"]
    ]
    # A third each: of the pixels by construction, of the flowers by species.
    assert weights == pytest.approx([1 / 3] * 3, abs=0.12)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_configuration_as_shipped_is_sound(name):
    """Without a run: the data of the demo are there, and every choice is written out."""
    job = load_job(CONFIGS / name)
    source = job.data.open()
    assert len(source) in (273_280, 150)
    assert job.output.folder == f"runs/{name.removesuffix('.yaml')}"
    assert job.optimizer is not None
