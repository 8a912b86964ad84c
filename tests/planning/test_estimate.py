"""Memory, work and time of a run, against cases counted by hand and against what the engine does."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import jax
import numpy as np
import pytest

from vigmm.core.errors import SpecError
from vigmm.data.arrays import ArraySource
from vigmm.data.feed import open_feed
from vigmm.data.moments import Standardizer
from vigmm.data.stream import Stream
from vigmm.estimators import ESTIMATORS, Pathwise
from vigmm.families import FAMILIES, MeanField
from vigmm.models import COVARIANCES, Mixture
from vigmm.optim import Adam
from vigmm.planning import READ_RATE, Table, as_dict, make_plan, parse_devices, weak_scaling

TABLE = Table("rows.parquet", 1_000_000, 16, kind="parquet")
# Distinct monomials of 16 columns up to degree two.
FEATURES = 16 * 17 // 2 + 16 + 1


def test_a_step_of_all_rows_on_one_device(job):
    made = make_plan(
        job(train={"batch_size": 10**9, "stream": False, "holdout": 0.0}), TABLE, parse_devices("h100")
    )
    step, kept = made.step, made.kept
    assert (made.steps_per_pass, step.rows, step.rows_per_device) == (1, 10**6, 10**6)
    assert step.floor_flops == 2 * 2 * 10**6 * 16 * FEATURES
    assert step.floor_bytes == 4 * 10**6 * 17 + 2 * kept.state + kept.prior
    # The cell of `benchmarks/results/compile_only.md` for these sizes: 122 and 1.75 times the least.
    assert step.bytes == pytest.approx(122 * 4e6 * 17, rel=1e-2)
    assert step.flops == pytest.approx(1.75 * step.floor_flops)
    assert step.memory == pytest.approx(step.bytes / 3.35e12)
    assert made.limit == "memory bandwidth"
    assert made.pass_seconds == pytest.approx(2.49e-3, rel=0.02)
    assert made.device["rows"] == 4 * 10**6 * 17
    assert step.exchange == step.reduced_bytes == 0.0


def test_the_state_is_what_a_run_holds(job):
    """Parameters of mean field: two numbers for each coordinate, and Adam's two for each of them."""
    adam = Adam(rate=0.01)
    plain = job(5, family=MeanField(), estimator=Pathwise(), optimizer=adam)
    made = make_plan(plain, dataclasses.replace(TABLE, columns=4), parse_devices("h100"))
    coordinates = plain.model.position_size(4)
    assert made.kept.params == 4 * 2 * coordinates
    assert 3 * made.kept.params <= made.kept.state < 3 * made.kept.params + 1_000 + 4 * coordinates


def test_minibatches_of_a_resident_run(job):
    made = make_plan(job(train={"stream": False}, optimizer=None), TABLE, parse_devices("h100:8"))
    fitted = 10**6 - 5_000
    assert made.fitted == fitted
    assert made.steps_per_pass == -(-fitted // 1_024)
    assert made.steps == 20 * made.steps_per_pass
    step = made.step
    # A device has 128 of them, give or take the root of 128 x 7/8.
    assert (step.rows, step.rows_per_device) == (1_024, math.ceil(128 + 4 * math.sqrt(112)))
    assert step.shared_bytes == 4 * 1_024 * 17
    assert step.reduced_bytes == made.kept.params
    links = 2 * (7 / 8 * step.reduced_bytes / 450e9 + 7 * 5e-6)
    assert step.exchange == pytest.approx(links)
    assert made.device["rows"] == 4 * 17 * -(-fitted // 8)


def test_a_stream_is_planned_like_it_is_read(job):
    """Portions, steps in a pass and rows of a batch are those of the engine's own feed."""
    rows, dim = 50_000, 3
    choices = {"stream": True, "portion_mb": 0.2, "batch_size": 500}
    made = make_plan(job(4, train=choices), Table("x", rows, dim), parse_devices("cpu"))
    stream = Stream(
        ArraySource(np.zeros((rows, dim), np.float32)), Standardizer.identity(dim), np.dtype("float32"),
        made.portion,
    )  # fmt: skip
    sampler = made.job.train.sampler
    with open_feed(stream, sampler, jax.random.key(0)) as feed:
        assert made.steps_per_pass == feed.steps_per_pass
    assert made.portion == int(0.2 * 2**20 / 16)
    assert made.step.rows == sampler.rows_per_batch(stream.rows_per_portion)
    assert made.device["portions"] == 4 * 16 * stream.rows_per_portion
    assert made.reading == pytest.approx(rows * dim * 4 / READ_RATE)


def test_a_slow_disk_is_what_a_stream_waits_for(job):
    table = Table("x", 10**7, 16)
    fast, slow = (
        make_plan(job(train={"stream": True}), table, parse_devices("h100"), read_rate=rate)
        for rate in (1e13, 1e6)
    )
    assert fast.limit != "reading"
    assert slow.limit == "reading"
    assert slow.pass_seconds == pytest.approx(640.0)
    assert fast.pass_seconds < slow.pass_seconds


def test_rows_stay_where_they_take_a_quarter_of_the_memory(job):
    """0.75 of 84.98e9 bytes, a quarter of that, by 68 bytes for a row."""
    most = int(0.75 * 84_978_434_048 / 4 / 68) + 5_000
    small, large = (
        make_plan(job(), Table("x", rows, 16), parse_devices("h100:8")) for rows in (most, most + 100)
    )
    assert (small.streamed, large.streamed) == (False, True)
    assert "less than a quarter" in small.why
    assert "more than a quarter" in large.why
    asked = make_plan(job(train={"stream": True}), Table("x", 10, 16), parse_devices("h100"))
    assert (asked.streamed, asked.why) == (True, "train.stream is true")


def test_devices_of_the_job_are_those_of_the_plan(job):
    two = make_plan(job(train={"devices": 2}), TABLE, parse_devices("h100:8"))
    assert two.devices.count == 2
    with pytest.raises(SpecError, match=r"train.devices must be <= 8"):
        make_plan(job(train={"devices": 9}), TABLE, parse_devices("h100:8"))


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow if one == "flow" else ()) for one in FAMILIES]
)
def test_every_family_can_be_planned(job, name):
    family = FAMILIES[name]()
    estimator = ESTIMATORS[family.default_estimator]()
    made = make_plan(job(3, family=family, estimator=estimator), Table("x", 5_000, 3), parse_devices("h100"))
    assert made.pass_seconds > 0
    unmeasured = any("not compiled" in remark for remark in made.remarks)
    assert unmeasured is (name not in ("conjugate", "meanfield"))


@pytest.mark.parametrize("name", COVARIANCES)
def test_every_covariance_can_be_planned(job, name):
    model = Mixture(num_components=3, covariance=COVARIANCES[name]())
    choices = {} if model.refusal() is None else {"family": MeanField(), "estimator": Pathwise()}
    made = make_plan(job(model=model, **choices), Table("x", 5_000, 4), parse_devices("v5e"))
    monomials = {"diag": 9, "tied_diag": 9, "spherical": 6, "tied_spherical": 6}.get(name, 15)
    assert made.step.floor_flops == 4 * made.step.rows * 3 * monomials


def test_what_is_told_is_json(job):
    for name in ("cpu:2", "v5e:2x4"):
        made = make_plan(job(), TABLE, parse_devices(name))
        told = json.loads(json.dumps(as_dict(made), allow_nan=False))
        assert told["seconds"]["pass"] == made.pass_seconds
        assert sum(told["memory"]["device"].values()) == sum(made.device.values())


def test_weak_scaling_of_one_is_the_plan_and_more_never_scale_better(job):
    made = make_plan(job(train={"stream": False}), TABLE, parse_devices("h100"))
    table = weak_scaling(made)
    assert [one.devices for one in table] == [2**i for i in range(9)]
    first, last = table[0], table[-1]
    assert first.picked == pytest.approx(made.step.seconds)
    assert (first.whole_efficiency, first.picked_efficiency) == (1.0, 1.0)
    assert (last.rows, last.batch) == (256 * 10**6, 256 * 1_024)
    for a, b in itertools.pairwise(table):
        assert b.whole_efficiency < a.whole_efficiency
        assert b.picked_efficiency < b.whole_efficiency
    # Nothing crosses but the sums: the rest is room, and looking through 256 batches.
    assert last.picked - last.whole < 0.3 * first.whole
