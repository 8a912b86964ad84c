"""What devices exchange in a step by the plan, against the program that is compiled for four of them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from vigmm.core import rng
from vigmm.data.sampler import Rows
from vigmm.estimators import Objective, Pathwise
from vigmm.families import MeanField, untouched
from vigmm.models import DataScale
from vigmm.planning import Table, make_plan, parse_devices
from vigmm.train import first_params
from vigmm.train import step as steps
from vigmm.train.placement import over_devices

N, DIM = 401, 5


def numbers(text, name):
    """Numbers that each instruction of a kind gives out, the largest first."""
    found = []
    for line in text.splitlines():
        if re.search(rf"= .* {name}(-start)?\(", line):
            shapes = re.findall(r"\w\d+\[([\d,]*)\]", line.split(f" {name}")[0].split("=", 1)[1])
            found.append(sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes))
    return sorted(found, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("choices", [{}, {"family": MeanField(), "estimator": Pathwise()}], ids=["cav", "vi"])
def test_bytes_that_are_added_up_and_handed_on(job, choices):
    made = make_plan(
        job(4, train={"batch_size": 100, "stream": False, "devices": 4, "holdout": 0.0}, **choices),
        Table("x", N, DIM), parse_devices("cpu:4"),
    )  # fmt: skip
    model, optimizer = made.job.model, made.job.optimizer
    objective = Objective(model=model, family=made.job.family, estimator=made.job.estimator)
    zero, one = np.zeros(DIM), np.ones(DIM)
    scale = DataScale(mean=zero, cov=np.eye(DIM), center=zero, scale=one, low=-one, high=one)
    prior = model.build_prior(scale, dtype=np.dtype("float32"))
    params = first_params(model, made.job.family, prior, untouched(model, prior), prior)
    state = steps.init(objective, optimizer, params, prior, rng.root_key(0))
    layout = over_devices(4)
    assert layout is not None
    x, weight = np.zeros((N, DIM), np.float32), np.ones(N, np.float32)
    placed = layout.place(x, weight)
    held = Rows(x=placed.rows.x[:4], weight=placed.rows.weight[:4])
    with placed.feed(made.job.train.sampler, rng.root_key(0)) as feed:
        text = steps.run.lower(
            state, prior, placed.rows, held, np.int32(4), objective=objective, optimizer=optimizer,
            sampler=feed.sampler, length=2, num_draws=1, mesh=feed.mesh,
        ).compile().as_text()  # fmt: skip
    # Statistics or slopes: as many numbers as parameters, but for what is symmetric or shared.
    assert made.step.reduced_bytes / 4 == pytest.approx(numbers(text, "all-reduce")[0], rel=0.5)
    assert made.step.rows_per_device == pytest.approx(feed.sampler.room, rel=0.1)
    # Should one have too many, each gives out its quarter of 81 rows, which fill four shares of 21.
    handed = numbers(text, "reduce-scatter")
    assert sum(handed[:2]) * 4 == pytest.approx(made.step.shared_bytes / 4, rel=0.05)
