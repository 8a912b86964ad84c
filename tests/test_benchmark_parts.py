"""The parts of the benchmarks: environments, processes, cases, starts, scores, the kernel's figures."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from benchmarks import environments, kernel, run
from benchmarks.baselines.chunks import in_chunks
from benchmarks.baselines.seeds import seeded
from benchmarks.built import folder_of
from benchmarks.cases import CASES, Skipped
from benchmarks.cases.split import from_table
from benchmarks.gaussians import Gaussians, dense
from benchmarks.gradients import merged
from benchmarks.kernel_worker import features
from benchmarks.methods import METHODS
from benchmarks.processes import call
from benchmarks.protocol import Clock, Problem
from benchmarks.scores import adjusted_rand


def test_no_requirement_names_an_index():
    texts = sorted(environments.TEXTS.glob("*.txt"))
    assert {text.stem for text in texts} == {m.environment for m in METHODS.values() if m.environment}
    for text in texts:
        lines = [line for line in text.read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all("==" in line and "/" not in line and "+" not in line for line in lines)


def test_an_environment_is_built_once_and_a_failure_says_why(tmp_path, monkeypatch):
    (tmp_path / "thing.txt").write_text("thing==1.0\n# What they need.\nother==2.0\n")
    calls = []

    def fake(command, limit):
        calls.append(command)
        if "venv" in command:
            os.makedirs(command[-1])

    def build(cache="cache"):
        return environments.interpreter("thing", tmp_path / cache, texts=tmp_path, say=lambda text: None)

    monkeypatch.setattr(environments, "_call", fake)
    made = build()
    assert made.is_relative_to(tmp_path / "cache")
    assert len(calls) == 2
    assert build() == made
    assert len(calls) == 2  # the second time it is there
    assert environments.pins("thing", tmp_path) == {"thing": "1.0"}

    monkeypatch.undo()
    (tmp_path / "thing.txt").write_text("# python 3.1\nthing==1.0\n")
    with pytest.raises(environments.EnvironmentFailure, match=r"needs Python 3\.1, and no such"):
        build()
    script = "import sys; sys.exit('noise\\nERROR: No matching distribution for x\\ntail')"
    with pytest.raises(environments.EnvironmentFailure, match=r"^ERROR: No matching distribution for x$"):
        environments._call([sys.executable, "-c", script], 60)


def test_a_process_that_takes_too_long_or_too_much_is_ended():
    def ended(script, **limits):
        bounds = {"limit": 60.0, "memory_mb": 4000.0, **limits}
        return call([sys.executable, "-c", script], environment=dict(os.environ), **bounds)

    assert ended("pass").error is None
    failed = ended("raise ValueError('so it is')")
    assert (failed.error, failed.code) == ("ValueError: so it is", 1)
    long = ended("try:\n  1 / 0\nexcept ArithmeticError:\n  raise ValueError('so\\nit is')")
    assert long.error == "ValueError: so it is"
    assert ended("import time; time.sleep(60)", limit=0.3).error == "did not end within 0.3 s"
    greedy = ended("import time; x = bytearray(10**8); time.sleep(60)", memory_mb=50.0)
    assert greedy.error == "took more than 50 MB of memory"
    assert ended("import os; os.abort()").error.startswith("ended by SIGABRT")


def test_the_adjusted_rand_index_is_scikit_learns():
    rng = np.random.default_rng(0)
    for groups in (1, 2, 5):
        truth, found = rng.integers(groups, size=200), rng.integers(4, size=200)
        found[:100] = truth[:100]
        assert adjusted_rand(truth, found) == pytest.approx(adjusted_rand_score(truth, found), abs=1e-12)


def test_seeds_are_a_mixture_and_equal_rows_do_no_harm():
    x = np.repeat(np.eye(3, dtype=np.float32), 5, 0)
    start = seeded(x, 4, seed=0)
    assert start.weights.sum() == pytest.approx(1.0)
    assert np.isfinite(start.log_density(x)).all()


def problem(**changes):
    return Problem(np.zeros((4, 2), np.float32), 2, 2, 0, **changes)


@pytest.mark.parametrize(
    ("changes", "done"),
    [({}, 7), ({"iterations": 12}, 12), ({"deadline": 0.0}, 5)],
    ids=["its own rule", "a fixed number", "the deadline"],
)
def test_iterations_in_chunks_end_by_rule_number_or_deadline(changes, done):
    mixture = Gaussians(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    left = [7]

    def advance(count):
        made = min(count, left[0]) if left[0] > 0 else count
        left[0] -= made
        return made, made < count, mixture

    made = in_chunks(advance, problem(**changes), 12, Clock(), 5)
    assert made.iterations == done
    assert made.trace[-1].passes == done
    assert made.converged == (not changes)


def test_variances_become_covariances():
    np.testing.assert_array_equal(dense(np.array([[1.0, 2.0]])), [[[1.0, 0.0], [0.0, 2.0]]])
    np.testing.assert_array_equal(dense(np.eye(2)[None]), np.eye(2)[None])


def test_a_table_is_cut_once_and_for_all():
    x = np.arange(1000.0)[:, None]
    whole = from_table(x, {"k_max": 3}, rows=None, labels=np.arange(1000))
    small = from_table(x, {"k_max": 3}, rows=100)
    assert (len(whole.x), len(whole.heldout)) == (800, 200)
    assert (whole.heldout.ravel() == whole.labels).all()
    assert (small.x == whole.x[:100]).all()
    assert small.facts == {"k_max": 3, "rows": 100, "dim": 1, "heldout": 200}


@pytest.mark.parametrize("name", ["pixels5", "digits_pca", "pycave_diag"])
def test_cases_are_built_small_and_kept(name, tmp_path):
    folder, data = folder_of(name, 300, tmp_path)
    assert data.x.shape == (300, data.facts["dim"])
    assert data.x.dtype == data.heldout.dtype == np.float32
    written = (folder / "x.npy").stat().st_mtime_ns
    assert folder_of(name, 300, tmp_path)[0] == folder
    assert (folder / "x.npy").stat().st_mtime_ns == written


def test_a_case_without_data_is_left_out(tmp_path, monkeypatch, capsys):
    from benchmarks import refdata

    monkeypatch.setattr(refdata, "REFS", tmp_path)
    with pytest.raises(Skipped, match="absent"):
        CASES["skin"].build()
    assert run.main(["--case", "skin", "--cache", str(tmp_path), "--out", str(tmp_path)]) == 0
    assert "left out" in capsys.readouterr().err


def test_the_kernels_figures_are_medians_of_ratios_within_a_round():
    pairs = ((3.0, 1.0), (8.0, 4.0), (9.0, 1.0))
    times = [{"natural": ours, "product": product} for ours, product in pairs]
    rounds = [
        {"load": 0.0, "times": {k: {"seconds": v, "cpu_seconds": 2 * v} for k, v in one.items()}}
        for one in times
    ]
    found = kernel.summary(rounds, 16e9)
    assert found["natural"]["seconds"] == {"median": 8.0, "min": 3.0, "max": 9.0}
    assert found["natural"]["seconds_of_product"] == 3.0  # of 3, 2 and 9
    assert found["natural"]["gflops"] == 2.0
    assert "seconds_of_onedal" not in found["natural"]
    assert features(16, "full") == 153
    assert features(16, "diag") == 33
    assert kernel.flops(kernel.Shape(10, 16, 2), "full") == 4 * 10 * 2 * 153
    one = {
        "rows": 10,
        "dim": 16,
        "components": 2,
        "covariance": "full",
        "flops": 1.0,
        "devices": 1,
        "cores": 0,
    }
    shape = {**one, "facts": {"natural": {}, "product": {}}, "errors": {"onedal": "gone"}}
    text = kernel.table({"shapes": [{**shape, "summary": found, "rounds": rounds}]})
    assert "| `natural` | 8000.0 (3000.0 to 9000.0) |" in text
    assert "`onedal` failed: gone" in text


def test_families_that_are_not_measured_again_keep_their_rows():
    """Each with its own provenance; rows of another problem are not mixed with them."""

    def row(family, noise):
        return {"family": family, "noise_per_draw": noise}

    before = {
        "problem": {"rows": 9},
        "provenance": {"a": "old", "c": "old"},
        "rows": [row("a", 1), row("c", 1)],
    }
    again = merged(before, {"rows": 9}, "new", [row("b", 2), row("c", 2)])
    assert again["rows"] == [row("a", 1), row("b", 2), row("c", 2)]
    assert again["provenance"] == {"a": "old", "b": "new", "c": "new"}
    other = merged(before, {"rows": 8}, "new", [row("c", 2)])
    assert (other["rows"], other["provenance"]) == ([row("c", 2)], {"c": "new"})
    assert merged(None, {"rows": 8}, "new", [row("c", 2)]) == other
