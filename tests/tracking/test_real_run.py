"""A real fit, told to the screen and to event files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.tracking.test_tracking import records
from vigmm import api
from vigmm.cli.reading import Reading
from vigmm.config import read_job
from vigmm.tracking import watching

JOB = """\
data: {path: x.npy}
model: {num_components: 2, weights: dirichlet}
start: {kind: kmeans, passes: 0}
train: {batch_size: 200, passes: 3, holdout: 0.1}
track: tensorboard
"""


class Heard:
    def __init__(self):
        self.phases, self.steps = [], []

    def start(self, total_steps, phase):
        self.phases.append((phase, total_steps))

    def update(self, step, values):
        self.steps.append((self.phases[-1][0], step))

    def finish(self):
        self.phases[-1] = (*self.phases[-1], "finished")

    def close(self):
        self.phases.append("closed")


@pytest.mark.slow  # a fit
def test_a_fit_is_shown_from_the_first_row_and_its_event_files_hold_its_metrics(tmp_path):
    pytest.importorskip("tensorboardX")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(600, 2)) + np.where(np.arange(600)[:, None] % 3 == 0, 0.0, 6.0)
    job = read_job(JOB, name="f")
    show, said = Heard(), []
    reading = Reading(api.as_source(x), show)
    with watching(job, tmp_path / "run", reading, complain=said.append) as watchers:
        fit = api.fit(reading.source, model=job.model, start=job.start, train=job.train, progress=watchers)
        watchers.result(fit)
    assert said == []
    assert show.phases[:3] == [
        ("read", 1200, "finished"),
        ("start", 0),
        ("search", show.phases[2][1], "finished"),
    ]
    assert show.phases[3][0] == "fit"
    assert show.phases[-1] == "closed"
    assert [step for phase, step in show.steps if phase == "read"][-1] == 1200
    found = records(tmp_path / "run" / "tensorboard")
    scalars = {
        (value.tag, step): value.simple_value for step, value in found if value.HasField("simple_value")
    }
    at = fit.metrics["chunk_step"].astype(int)
    assert len(at) > 1
    for name, values in (
        ("elbo_per_row", fit.metrics["elbo_per_row"][at - 1]),
        ("holdout", fit.metrics["holdout"]),
        ("effective_components", fit.metrics["effective_components"]),
    ):
        told = [scalars[f"fit/{name}", step] for step in at.tolist()]
        np.testing.assert_allclose(told, values, rtol=1e-6)
    assert scalars["final/elbo", 0] == pytest.approx(fit.elbo.elbo, rel=1e-6)
    assert scalars["final/holdout", 0] == pytest.approx(fit.holdout[0], rel=1e-6)
    (config,) = [v.tensor.string_val[0].decode() for _, v in found if v.tag.startswith("config")]
    assert f"| model.num_components | {json.dumps(2)} |" in config
