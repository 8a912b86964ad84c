"""The benchmark runner: what it computes from runs, and that it runs. No figure is judged here."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from benchmarks import environments, kernel, report, run
from benchmarks.cases import BRIEF, CASES, CaseData
from benchmarks.gaussians import Gaussians, average, em
from benchmarks.methods import METHODS, settings
from benchmarks.report import write_report
from benchmarks.summary import summarise


@pytest.fixture
def mixture():
    return Gaussians(
        np.array([0.3, 0.7]),
        np.array([[0.0, 0.0], [3.0, 1.0]]),
        np.array([np.eye(2), [[2.0, 0.9], [0.9, 1.0]]]),
    )


def test_the_judges_density_is_that_of_scipy(mixture):
    x = np.random.default_rng(0).normal(size=(50, 2)) * 3
    parts = [
        w * stats.multivariate_normal(m, c).pdf(x)
        for w, m, c in zip(mixture.weights, mixture.means, mixture.covs, strict=True)
    ]
    np.testing.assert_allclose(mixture.log_density(x), np.log(sum(parts)), rtol=1e-12)
    other = Gaussians(mixture.weights[::-1], mixture.means, mixture.covs)
    both = np.log(0.5 * (np.exp(mixture.log_density(x)) + np.exp(other.log_density(x))))
    np.testing.assert_allclose(average([mixture, other], x), both, rtol=1e-12)


def test_em_from_the_truth_fits_better_than_the_truth_and_stays_beside_it(mixture):
    rng = np.random.default_rng(1)
    labels = rng.choice(2, size=20_000, p=mixture.weights)
    noise = rng.normal(size=(20_000, 2))
    x = mixture.means[labels] + np.einsum("nij,nj->ni", np.linalg.cholesky(mixture.covs)[labels], noise)
    fitted, iterations = em(mixture, x, tolerance=1e-9)
    assert 1 < iterations <= 50
    gain = (fitted.log_density(x) - mixture.log_density(x)).mean()
    assert 0 < gain < 50 * 11 / (2 * len(x))  # about (number of parameters) / 2N
    np.testing.assert_allclose(fitted.means, mixture.means, atol=0.1)
    np.testing.assert_allclose(fitted.covs, mixture.covs, atol=0.15)


def test_em_leaves_an_unused_component_at_weight_zero():
    x = np.random.default_rng(2).normal(size=(500, 2))
    start = Gaussians(np.array([0.5, 0.5]), np.array([[0.0, 0.0], [1e3, 0.0]]), np.tile(np.eye(2), (2, 1, 1)))
    fitted, _ = em(start, x)
    assert fitted.weights.tolist() == [1.0, 0.0]
    assert np.isfinite(fitted.log_density(x)).all()


def test_a_case_survives_the_way_to_the_worker(tmp_path):
    data = CaseData(
        np.ones((3, 2), np.float32),
        np.zeros((2, 2), np.float32),
        {"true": np.arange(2.0)},
        {"k_max": 4},
        np.array([1, 0]),
    )
    data.save(tmp_path)
    back = CaseData.load(tmp_path)
    assert back.labels.tolist() == [1, 0]
    assert back.facts == data.facts
    assert back.references["true"].tolist() == [0.0, 1.0]
    assert back.x.dtype == np.float32


@pytest.mark.parametrize("name", METHODS)
def test_settings_of_every_method_can_be_written(name):
    method = METHODS[name]
    assert json.loads(json.dumps(settings(method)))
    assert method.budgets
    assert all(passes > 0 for passes in method.budgets)
    assert method.environment is None or environments.pins(method.environment)


def fit(kind, seconds, heldout, passes=2.0, trace=()):
    cost = {"seconds": seconds, "cpu_seconds": 2 * seconds}
    points = [{"seconds": s, "cpu_seconds": 2 * s, "passes": p, "heldout": h} for s, p, h in trace]
    return {
        "kind": kind,
        **cost,
        "passes": passes,
        "heldout": heldout,
        "found_k": 3,
        "effective_k": 2.5,
        "ari": 0.75,
        "trace": points,
    }


def record(method, repeat, *fits):
    return {
        "method": method,
        "repeat": repeat,
        "import": {"seconds": 0.1, "cpu_seconds": 0.1},
        "rss_mb": {"before_fit": 100.0, "peak": 150.0},
        "load_average_before": [0.5, 0.5, 0.5],
        "fits": list(fits),
    }


def test_a_summary_takes_medians_of_warm_fits_and_the_first_time_within_reach():
    facts = {"heldout_oracle": -1.0}
    runs = [
        record(
            "a", r, fit("cold", 5.0 + r, -1.03), fit("warm", 1.0 + r, -1.03), fit("budget", 3.0, -1.005, 8.0)
        )
        for r in range(3)
    ]
    trace = [(1.0, 1.0, -1.2), (3.0, 3.0, -1.04), (4.0, 4.0, -1.06)]
    runs += [
        record("b", 0, fit("cold", 4.0, -1.06, 4.0, trace)),
        {"method": "b", "repeat": 1, "error": "out of memory"},
    ]
    runs += [{"method": "c", "repeat": 0, "error": "it broke"}]
    summary = summarise(facts, runs)
    a, b, c = (summary[name] for name in "abc")
    assert a["seconds"] == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert a["cold_seconds"]["median"] == 6.0
    assert a["compile_seconds"]["median"] == 4.0
    assert a["peak_above_import_mb"]["median"] == 50.0
    assert a["ari"]["median"] == 0.75
    assert a["gap_best"]["median"] == pytest.approx(0.025)
    assert a["seconds_to_oracle_0.05"]["median"] == 2.0
    assert a["seconds_to_oracle_0.01"]["median"] == 3.0
    assert a["seconds_to_best_0.05"]["median"] == 2.0
    assert a["seconds_per_pass"]["median"] == pytest.approx(1 / 6, abs=1e-4)
    assert [row["passes"] for row in a["budgets"]] == [2.0, 8.0]
    assert b["seconds_to_oracle_0.05"]["median"] == 3.0
    assert b["seconds_to_oracle_0.01"]["median"] is None
    assert b["seconds_per_pass"]["median"] == pytest.approx(1.0)
    assert b["compile_seconds"]["median"] == 0.0
    assert [row["passes"] for row in b["budgets"]] == [1.0, 3.0, 4.0]
    assert b["errors"] == ["out of memory"]
    assert c == {"repeats": 0, "errors": ["it broke"]}


def test_compilation_is_read_where_the_load_of_a_long_run_does_not_reach():
    runs = [
        record(
            "a",
            0,
            fit("cold", 300.0, -1.0, 30.0, [(p + 20.0, p, -1.0) for p in range(10)]),
            fit("warm", 400.0, -1.0, 30.0, [(1.0 * p, p, -1.0) for p in range(10)]),
        )
    ]
    assert summarise({}, runs)["a"]["compile_seconds"]["median"] == 20.0
    # A deadline may end the cold one early, in the middle of something.
    runs[0]["fits"][0]["trace"][3:] = [{"seconds": 25.0, "cpu_seconds": 0.0, "passes": 3.2, "heldout": -1.0}]
    assert summarise({}, runs)["a"]["compile_seconds"]["median"] == 20.0
    runs[0]["fits"][0]["trace"] = []
    runs[0]["fits"][0]["seconds"] = 401.0
    assert summarise({}, runs)["a"]["compile_seconds"]["median"] == 1.0


def test_without_an_oracle_the_best_that_anyone_reached_is_the_target():
    runs = [record("a", 0, fit("cold", 1.0, -2.0)), record("b", 0, fit("cold", 2.0, -2.04))]
    summary = summarise({}, runs)
    assert summary["b"]["seconds_to_best_0.05"]["median"] == 2.0
    assert summary["b"]["seconds_to_best_0.01"]["median"] is None
    assert "seconds_to_oracle_0.05" not in summary["b"]


@pytest.mark.parametrize(
    "bad", [["--repeats", "0"], ["--rows", "0"], ["--case", "nosuch"], ["--methods", "nosuch"]]
)
def test_wrong_options_are_refused(bad, capsys):
    with pytest.raises(SystemExit) as caught:
        run.main(bad)
    assert caught.value.code == 2
    assert bad[0] in capsys.readouterr().err


def test_a_method_that_fails_is_recorded_and_the_others_go_on(tmp_path, monkeypatch):
    # The worker does not know this name, so its process fails.
    monkeypatch.setitem(METHODS, "unheard_of", METHODS["vigmm_natural"])

    def broken(name, cache, *, say):
        raise environments.EnvironmentFailure("no such thing")

    monkeypatch.setattr(run, "interpreter", broken)
    where = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path), "--case", "synth_small"]
    what = ["--rows", "600", "--repeats", "1", "--strict", "--methods", "unheard_of", "faiss_kmeans"]
    code = run.main([*where, *what])
    result = json.loads((tmp_path / "synth_small.json").read_text())
    assert code == 1
    first, second = result["runs"]
    assert "unheard_of" in first["error"]
    assert second["error"] == "not installed: no such thing"
    assert "faiss-cpu" in second["versions"]
    assert result["summary"]["unheard_of"]["repeats"] == 0
    table = (tmp_path / "RESULTS.md").read_text()
    assert "unheard_of" in table
    assert "not installed: no such thing" in table


def test_the_tables_say_who_the_deadline_stopped():
    rows = {"quick": {"seconds": {"median": 1.0}}, "slow": {"seconds": {"median": 15.5}}}
    assert report._late(rows, None) == report._late(rows, 20.0) == []
    (text,) = report._late(rows, 15.0)
    assert "`slow`" in text
    assert "quick" not in text


def test_the_brief_run_is_of_known_cases():
    options = run._parse(["--brief"])
    assert set(options.case) == set(BRIEF) <= set(CASES)
    assert (options.repeats, options.quick, options.full) == (1, True, False)
    assert run._parse([]).deadline is None


def smoke(folder, *methods):
    where = ["--out", str(folder), "--cache", str(folder / "cache"), "--case", "synth_small"]
    code = run.main(
        [*where, "--rows", "2000", "--repeats", "1", "--quick", "--strict", "--methods", *methods]
    )
    result = json.loads((folder / "synth_small.json").read_text())
    assert [one.get("error") for one in result["runs"]] == [None] * len(methods)
    assert code == 0
    assert {"vigmm", "python", "jax", "numpy"} <= result["provenance"]["versions"].keys()
    assert result["facts"]["rows"] == 2000
    for one in result["runs"]:
        for done in one["fits"]:
            assert np.isfinite(done["heldout"])
            assert 1 <= done["found_k"] <= CASES["synth_small"].k_max
            assert -1 <= done["ari"] <= 1
        assert one["rss_mb"]["peak"] >= one["rss_mb"]["before_fit"] > 0
    table = write_report(folder, folder / "again.md").read_text()
    assert table == (folder / "RESULTS.md").read_text()
    assert all(f"`{method}`" in table for method in methods)
    assert (folder / "synth_small.svg").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_runner_runs(tmp_path):
    smoke(tmp_path, "vigmm", "vigmm_natural")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_peer_runs_in_an_environment_of_its_own(tmp_path):
    smoke(tmp_path, "sklearn_gm", "sklearn_bgm")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_kernel_is_timed(tmp_path):
    where = ["--out", str(tmp_path), "--shape", "2000", "4", "3", "--repeats", "2"]
    assert kernel.main([*where, "--only", "ours", "product_shaped"]) == 0
    (shape,) = json.loads((tmp_path / "kernel.json").read_text())["shapes"]
    assert set(shape["summary"]) == {"natural", "pathwise", "product", "product_shaped"}
    assert all(one["seconds"]["min"] > 0 for one in shape["summary"].values())
    assert "`natural`" in (tmp_path / "kernel.md").read_text()
