"""Checkpoints: a run that is broken off anywhere ends with the bits of one that was not."""

from __future__ import annotations

import dataclasses
import itertools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.conftest import Problem, rows
from vigmm.core import rng
from vigmm.core.arrayfile import leaves
from vigmm.core.errors import OutputError
from vigmm.data.arrays import ArraySource
from vigmm.data.moments import Standardizer
from vigmm.data.stream import Stream
from vigmm.optim import Memoized
from vigmm.train import Checkpointing, Checkpoints, Interrupt, Preempted, Result, Snapshot, Train, train
from vigmm.train.log import Log, Pending
from vigmm.train.loop import Silent

ALWAYS = Checkpointing(seconds=0.0)


class Break(Exception):
    """What ends a run from outside."""


class Breaking(Silent):
    """Breaks a run off after so many chunks."""

    def __init__(self, after: int) -> None:
        self._after, self._seen = after, 0

    def update(self, step, values):
        self._seen += 1
        if self._seen > self._after:
            raise Break


class Slow(Interrupt):
    """A request whose answers come from a list: whether SIGTERM has come."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = itertools.count(-after)

    @property
    def preempted(self):
        return next(self._left) >= 0

    @preempted.setter
    def preempted(self, value):
        pass


def run(problem: Problem, name: str, config: Train, data=None, optimizer=None, **hands) -> Result:
    objective, usual, params = problem.setting(name)
    return train(
        objective, optimizer or usual, params, problem.prior, data or problem.data, problem.holdout,
        rng.root_key(7), config=config, **hands,
    )  # fmt: skip


def assert_same(one: Result, other: Result) -> None:
    assert one.outcome == other.outcome
    for a, b in ((one.params, other.params), (one.state, other.state)):
        for x, y in zip(leaves(a).values(), leaves(b).values(), strict=True):
            np.testing.assert_array_equal(x, y)
    names = set(one.metrics) - {"seconds", "stall"}
    assert names == set(other.metrics) - {"seconds", "stall"}
    for key in names:
        np.testing.assert_array_equal(one.metrics[key], other.metrics[key], err_msg=key)


@pytest.mark.parametrize("name", ["natural", "pathwise"])
def test_a_run_broken_off_again_and_again_ends_with_the_same_bits(problem, config, tmp_path, name):
    # Long enough that the ELBO is found to be still, so that the tail begins early, and resumes.
    config = dataclasses.replace(config, passes=30, tolerance=5e-3)
    unbroken = run(problem, name, config)
    assert 0 < unbroken.outcome.step < 180
    for _ in range(40):
        with Checkpoints(tmp_path, ALWAYS) as saved:
            try:
                result = run(problem, name, config, progress=Breaking(3), checkpoints=saved)
                break
            except Break:
                pass
    assert_same(unbroken, result)


def test_batches_that_are_remembered_are_remembered(problem, config, tmp_path):
    optimizer = Memoized()
    unbroken = run(problem, "natural", config, optimizer=optimizer)
    with Checkpoints(tmp_path, ALWAYS) as saved, pytest.raises(Break):
        run(problem, "natural", config, optimizer=optimizer, progress=Breaking(1), checkpoints=saved)
    with Checkpoints(tmp_path, ALWAYS) as saved:
        assert saved.latest("fit") is not None
        assert_same(unbroken, run(problem, "natural", config, optimizer=optimizer, checkpoints=saved))


def test_a_stream_goes_on_in_the_middle_of_a_pass(problem, config, tmp_path):
    config = dataclasses.replace(config, chunk_steps=2)
    x = rows(0)
    data = Stream(ArraySource(x), Standardizer.identity(2), np.dtype("float32"), 200)
    unbroken = run(problem, "natural", config, data=data)
    breaks = []
    for _ in range(40):
        with Checkpoints(tmp_path, ALWAYS) as saved:
            found = saved.latest("fit")
            breaks += [found.facts["done"]] if found else []
            try:
                result = run(problem, "natural", config, data=data, progress=Breaking(3), checkpoints=saved)
                break
            except Break:
                pass
    # Which chunk was saved last depends on the disk.
    assert any(at % 6 for at in breaks), "some break must be inside a pass"
    assert_same(unbroken, result)


def test_preemption_saves_first(problem, config, tmp_path):
    unbroken = run(problem, "natural", config)
    with Checkpoints(tmp_path, Checkpointing(seconds=None)) as saved, pytest.raises(Preempted) as error:
        run(problem, "natural", config, interrupt=Slow(2), checkpoints=saved)
    assert error.value.exit_code == 75
    with Checkpoints(tmp_path) as saved:
        assert 0 < saved.latest("fit").facts["done"] < unbroken.outcome.step
        assert_same(unbroken, run(problem, "natural", config, checkpoints=saved))


def snapshot(value: float, done: int, holdout: float = float("nan")) -> Snapshot:
    state = {"a": jnp.full(3, value), "key": jax.random.key(1)}
    return Snapshot(state, {"more": {"x": np.arange(2)}}, {"done": done, "holdout": holdout})


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path):
    with Checkpoints(tmp_path, Checkpointing(keep=3)) as saved:
        for done in (1, 2, 3):
            saved.save("fit", snapshot(done, done))
        saved.finish()
        last = tmp_path / "fit-0000000003.safetensors"
        last.write_bytes(last.read_bytes()[:-4])
        found = saved.latest("fit")
        assert found.facts["done"] == 2
        state = found.fill(snapshot(0, 0).state)
        np.testing.assert_array_equal(state["a"], [2.0, 2.0, 2.0])
        np.testing.assert_array_equal(
            jax.random.key_data(state["key"]), jax.random.key_data(jax.random.key(1))
        )
        np.testing.assert_array_equal(found.arrays["more"]["x"], [0, 1])
        assert saved.latest("start") is None


def test_only_the_last_and_the_best_are_kept(tmp_path):
    with Checkpoints(tmp_path, Checkpointing(keep=2)) as saved:
        for done, holdout in ((1, -3.0), (2, -1.0), (3, -2.0), (4, -1.5), (5, float("nan"))):
            saved.save("fit", snapshot(0, done, holdout))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"fit-000000000{n}.{kind}" for n in (2, 4, 5) for kind in ("json", "safetensors")]


def test_what_a_killed_writer_left_is_swept(tmp_path):
    (tmp_path / ".fit-0000000001.json.12ab.tmp").write_text("half")
    (tmp_path / "fit-0000000001.safetensors").write_bytes(b"arrays without a description")
    with Checkpoints(tmp_path) as saved:
        assert saved.latest("fit") is None
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_cannot_be_written_is_an_error_and_the_last_is_whole(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as saved:
        saved.save("fit", snapshot(1, 1))
        saved.finish()
        real = os.fsync

        def full(number):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        saved.save("fit", snapshot(2, 2))
        with pytest.raises(OutputError, match=r"No space left on device\. The one before it is whole"):
            saved.finish()
        monkeypatch.setattr(os, "fsync", real)
        assert saved.latest("fit").facts["done"] == 1


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="checkpoints cannot be written here"):
        Checkpoints(tmp_path / "file" / "folder")


def test_somebody_elses_file_does_not_spoil_a_finished_run(tmp_path):
    with Checkpoints(tmp_path / "c", ALWAYS) as saved:
        saved.save("fit", Snapshot({"a": np.ones(2)}, {}, {"done": 1}))
    (tmp_path / "c" / ".nfs0001").touch()
    saved.clear()
    assert [path.name for path in (tmp_path / "c").iterdir()] == [".nfs0001"]


def test_waiting_before_a_break_still_counts():
    """The stall is a share of all seconds, those of an earlier process included."""
    found = {name: np.zeros(4) for name in ("elbo", "se", "grad_norm", "rate", "bad", "reset")}
    found |= {"checks.reset": np.array(-1), "checks.holdout": np.array(0.0)}
    found["checks.effective_components"] = np.array(1.0)
    first = Log()
    first.restore({}, 10.0)
    list(first.read(Pending(2, found, waited=5.0)))
    again = Log()
    again.restore(first.arrays(), first.seconds)
    list(again.read(Pending(4, found, waited=1.0)))
    assert again.arrays()["stall"] == pytest.approx([0.5, 0.6], abs=0.01)
