"""Runs side by side: what may be compared, which is best, and the error of a difference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vigmm.core import rng
from vigmm.data.device import holdout_index
from vigmm.rundir.comparing import compare


@pytest.fixture
def variant(fitted, tmp_path):
    """A copy of the finished run with other figures."""

    def make(
        name, *, elbo=0.0, held_out=None, noise=0.0, seed=None, fingerprint=None, assignments=True, **model
    ):
        run = tmp_path / name
        shutil.copytree(fitted, run, ignore=shutil.ignore_patterns("plots", "model.*"))
        manifest = read(run, "manifest.json")
        manifest["elbo"]["elbo"] += elbo
        manifest["model"] |= model
        if fingerprint:
            manifest["data"]["fingerprint"] = fingerprint
        if not assignments:
            (run / "assignments.parquet").unlink()
        elif held_out is not None:
            table = pq.read_table(run / "assignments.parquet")
            old = table["log_density"].to_numpy().astype(np.float64)
            wobble = noise * np.random.default_rng(1).normal(size=len(old))
            kept = kept_rows(manifest)
            new = old + wobble + held_out - wobble[kept].mean()
            position = table.column_names.index("log_density")
            pq.write_table(
                table.set_column(position, "log_density", pa.array(new)), run / "assignments.parquet"
            )
        if held_out is not None:
            manifest["holdout"]["mean_log_density"] += held_out
        if seed is not None:
            manifest["seed"] = seed
        write(run, "manifest.json", manifest)
        return str(run)

    return make


def read(run, name):
    return json.loads(Path(run, name).read_text())


def write(run, name, value):
    Path(run, name).write_text(json.dumps(value))


def kept_rows(manifest):
    key = rng.stream(rng.root_key(manifest["seed"]), "split")
    train = manifest["train"]
    return holdout_index(manifest["data"]["rows"], train["holdout"], train["holdout_rows"], key)


def test_the_densities_of_held_out_rows_are_found_again(fitted):
    """Otherwise no comparison would be row by row."""
    manifest = read(fitted, "manifest.json")
    values = pq.read_table(fitted / "assignments.parquet")["log_density"].to_numpy()[kept_rows(manifest)]
    assert values.mean() == pytest.approx(manifest["holdout"]["mean_log_density"], rel=1e-6)
    assert len(values) == manifest["data"]["holdout_rows"] == 60


def test_the_best_and_how_far_others_are_behind(variant):
    runs = [variant("a"), variant("b", elbo=12.5, num_components=3), variant("c", held_out=0.25, noise=0.1)]
    (a, b, c), differ = compare(runs)
    assert (a.data, a.rows) == (b.data, b.rows) == (c.data, c.rows)
    assert [one.best_elbo for one in (a, b, c)] == [False, True, False]
    assert [one.best_holdout for one in (a, b, c)] == [False, False, True]
    assert [one.best_holdout for one in compare(runs[:2])[0]] == [True, True]
    assert (a.behind_elbo.value, a.behind_elbo.se) == (pytest.approx(-12.5), 0.0)
    assert (b.behind_elbo.value, b.behind_holdout.value) == (0.0, pytest.approx(-0.25))
    assert differ == {"model.num_components": [2, 3, 2]}
    # Row by row: the densities differ by noise of 0.1 alone, whatever their own spread.
    wobble = 0.1 * np.random.default_rng(1).normal(size=600)[kept_rows(read(runs[0], "manifest.json"))]
    assert a.behind_holdout.paired
    assert a.behind_holdout.se == pytest.approx(wobble.std(ddof=1) / np.sqrt(60), rel=1e-3)
    assert a.behind_holdout.se < 0.2 * a.holdout["se"]


@pytest.mark.parametrize("how", [{"assignments": False}, {"seed": 5}])
def test_without_the_same_rows_the_error_is_that_of_two_means(variant, how):
    a, b = variant("a"), variant("b", held_out=0.25, **how)
    (first, second), _ = compare([a, b])
    assert second.best_holdout
    assert not first.behind_holdout.paired
    assert first.behind_holdout.se == pytest.approx(np.hypot(first.holdout["se"], second.holdout["se"]))


def test_assignments_of_another_split_are_not_taken_for_these(variant, monkeypatch):
    """Should the rows that a seed holds out ever be others, old runs are compared by their means."""
    monkeypatch.setattr("vigmm.data.device.holdout_index", lambda *_: np.arange(60))
    (first, _), _ = compare([variant("a"), variant("b", held_out=0.25)])
    assert not first.behind_holdout.paired


def test_bounds_of_other_rows_are_not_compared(variant):
    runs = [
        variant("a"),
        variant("b", seed=5, held_out=-0.5),
        variant("c", fingerprint="sha256:other", held_out=9.0),
    ]
    (a, b, c), differ = compare(runs)
    assert (a.data, b.data, c.data) == ("a", "a", "b")
    assert len({a.rows, b.rows, c.rows}) == 3
    assert [one.behind_elbo for one in (a, b, c)] == [None] * 3
    assert (c.best_holdout, c.behind_holdout) == (None, None)
    assert (a.best_holdout, b.best_holdout) == (True, False)
    assert differ == {"seed": [0, 5, 0]}


def test_what_is_printed(vigmm, variant):
    a, b, c = (
        variant("a"),
        variant("b", elbo=12.5, held_out=-0.25, noise=0.1, num_components=3),
        variant("c", fingerprint="sha256:other"),
    )
    done = vigmm("compare", a, b, c)
    assert done.exit_code == 0, done.output
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("/")}
    assert "-12.5" in lines[a]
    assert (lines[a].count("*"), lines[b].count("*")) == (1, 1)
    assert "-0.2500 ±" in lines[b]
    assert "*" not in lines[c]
    for words in ("Data with different letters", "row by row", "What differs", "model.num_components  2"):
        assert words in done.stdout
    assert "two means" not in done.stdout
    found = json.loads(vigmm("compare", a, b, "--json").stdout)
    assert [one["run"] for one in found["runs"]] == [a, b]
    assert found["runs"][0]["behind_elbo"] == {"value": pytest.approx(-12.5), "se": 0.0, "paired": False}
    assert found["differ"] == {"model.num_components": [2, 3]}


def test_brackets_in_a_name_are_printed(vigmm, variant):
    done = vigmm("compare", variant("[red]a"), variant("b"))
    assert "[red]a" in done.stdout


def test_a_run_with_another_search_result(vigmm, variant):
    run = variant("a")
    write(run, "summary.json", {**read(run, "summary.json"), "found": 7})
    assert compare([run, variant("b")])[0][0].components == 7


def test_damage_is_named(vigmm, variant):
    a, b = variant("a"), variant("b")
    manifest = read(b, "manifest.json")
    del manifest["elbo"]
    write(b, "manifest.json", manifest)
    done = vigmm("compare", a, b)
    assert done.exit_code == 5
    assert f"{b}: manifest.json or summary.json lacks 'elbo'" in done.stderr
    Path(a, "assignments.parquet").write_text("no table")
    done = vigmm("compare", a, variant("c"))
    assert done.exit_code == 5
    assert "assignments.parquet cannot be read" in done.stderr


def test_a_density_of_exactly_zero_is_one(variant):
    runs = [variant(name, assignments=False) for name in ("zero", "worse")]
    for run, density in zip(runs, (0.0, -1.0), strict=True):
        manifest = read(run, "manifest.json")
        manifest["holdout"]["mean_log_density"] = density
        write(run, "manifest.json", manifest)
    zero, worse = compare(runs)[0]
    assert (zero.best_holdout, worse.best_holdout) == (True, False)
    assert worse.behind_holdout is not None
    assert worse.behind_holdout.value == -1.0
