"""The scripts that judge the search for the number of components: what they compute, and that they run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import batteries, found, judging, kselection, ladder, real, refdata
from benchmarks.batteries_table import BAYES, PUBLISHED

SCRIPTS = {"found": found, "batteries": batteries, "ladder": ladder, "kselection": kselection, "real": real}


class Alike:
    """A posterior to which all rows are the same, and its one cluster."""

    def __len__(self):
        return 1

    def predict(self, z):
        return np.zeros(len(z), np.int64)

    def log_predictive(self, z):
        return np.full(len(z), -9.0)

    def clusters(self):
        return self


@pytest.fixture
def no_fits(monkeypatch):
    """Fits that cost nothing: one component, a constant density. Returns what was asked for."""
    asked = []

    def fit(x, k_max, **choices):
        asked.append((len(x), k_max, choices))
        posterior = Alike()
        record = {"k_max": k_max, "found_k": 1, "elbo": -1.0, "outcome": "converged"}
        cost = {"seconds": 0.5, "cpu_seconds": 0.5, "load": 0.1, "passes": 3.0, "rounds": 2}
        return SimpleNamespace(posterior=posterior), record | cost

    monkeypatch.setattr(judging, "fit", fit)
    return asked


@pytest.fixture
def no_refs(monkeypatch, tmp_path):
    monkeypatch.setattr(refdata, "REFS", tmp_path / "absent")


def needs_refs(name):
    reason = {"found": "bnpy", "batteries": "clustering"}.get(name)
    if reason and refdata.missing(reason):
        pytest.skip(refdata.missing(reason))


def result_of(name, folder, *more):
    assert SCRIPTS[name].main(["--quick", "--out", str(folder), *more]) == 0
    document = json.loads((folder / f"{name}.json").read_text())
    text = (folder / f"{name}.md").read_text()
    assert {"date", "versions", "load_average"} <= document["provenance"].keys()
    assert f"`python -m benchmarks.{name}`" in text
    return document, text


def test_found_asks_for_the_starts_it_names(no_fits, tmp_path):
    document, text = result_of("found", tmp_path)
    one = document["fits"][-1]
    assert (one["true_k"], one["found_k"]) == (1, 1)
    assert "| 1 of 1 |" in text
    if not document["skipped"]:
        assert len(no_fits[0][2]["start"].means) == 4


def test_batteries_judge_by_the_best_truth_and_the_bound_of_the_labels(no_fits, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)) + np.repeat([[0.0, 0.0], [9.0, 9.0]], 30, axis=0)
    two, noise = np.repeat([1, 2], 30), np.repeat([0, 1], 30)
    data = refdata.Clusters("tiny", x, (two, noise))
    record = batteries.run_set(data, battery="g2mg", seeds=2, peers=True)
    assert [one["over_labels"] for one in record["fits"]] == [0.0, 0.0]
    # All rows in one cluster: right for the truth that has one, chance for the other.
    assert (record["fits"][0]["ari"], record["fits"][0]["ari_first"]) == (1.0, 0.0)
    assert record["labels_over_one"] == 0.0
    assert set(record["structures"]) == set(batteries.STRUCTURES)
    assert record["peers"]["gm_true_k"]["ari"] == 1.0
    assert (record["fits"][0]["clusters"]["number"], record["fits"][0]["clusters"]["ari"]) == (1, 1.0)
    starts = [choices["start"].labels.value for _, _, choices in no_fits if "start" in choices]
    assert sorted({int(label) for labels in starts for label in labels}) == [-1, 0, 1]
    text = batteries.table({"sets": [record], "skipped": None})
    assert "| tiny | 60 | 2 | 2 | 1 |" in text
    assert judging.SHARED in text
    for name in (*PUBLISHED, *BAYES):
        assert 0 <= {**BAYES, **PUBLISHED}[name] <= 1


def test_the_ladder_adds_cells_and_says_which_are_left(no_fits, tmp_path):
    document, text = result_of("ladder", tmp_path)
    one = document["cells"][0]
    assert (one["cell"], one["gap_oracle"]["mean"] < 0.1) == ("1000x2x3", True)
    assert one["gap"]["mean"] == pytest.approx(one["log_density"] + 9.0, abs=1e-4)
    assert "Not run: 2000x2x5, " in text
    assert "no higher bound" in ladder.verdict(one)
    assert "MISSED" in ladder.verdict({**one, "over_labels": -50.0})
    reached = one | {"fit": one["fit"] | {"found_k": 3}, "gap": one["gap_oracle"]}
    assert ladder.verdict(reached) == "reached"
    again, _ = result_of("ladder", tmp_path)
    assert len(again["cells"]) == 1
    with pytest.raises(ValueError, match="NxDxK"):
        ladder.cell("2000x2")


def test_kselection_counts_what_each_bound_picks(no_fits, tmp_path):
    document, text = result_of("kselection", tmp_path)
    picks = document["seeds"][0]["picks"]
    assert set(picks) == set(kselection.RULES)
    assert picks["search"] == 1
    assert picks["dirichlet_distribution"] in (2, 3)
    assert text.count(" of 1 |") == len(kselection.RULES)


def test_real_tables_are_split_as_the_floors_were(no_fits, tmp_path):
    document, text = result_of("real", tmp_path)
    assert document["tables"][0]["at_k"]["test"] == -9.0
    assert "| china | 2,0" in text
    x = np.arange(40.0).reshape(20, 2) ** 2
    train, test = real.split(x)
    assert (len(train), len(test)) == (16, 4)
    whole = np.concatenate([train, test])
    np.testing.assert_allclose(whole.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(whole.std(0), 1, rtol=1e-12)
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_allclose(whole, ((x - x.mean(0)) / x.std(0))[order])


def test_without_reference_data_the_scripts_say_so(no_fits, no_refs, tmp_path):
    assert "absent" in result_of("found", tmp_path)[0]["skipped"]["AsteriskK8"]
    assert real.main(["--out", str(tmp_path), "--sets", "skin"]) == 0
    assert "absent" in json.loads((tmp_path / "real.json").read_text())["skipped"]["skin"]
    assert batteries.main(["--out", str(tmp_path)]) == 0
    assert "Not run" in (tmp_path / "batteries.md").read_text()


def test_kurtosis_is_one_for_gaussians_and_less_for_what_has_no_tails():
    rng = np.random.default_rng(0)
    n = 20_000
    labels = np.repeat([0, 1, 2], n)
    gauss = rng.normal(size=(3 * n, 2)) * [3.0, 0.1]
    # Var of (chi2_2)^2 is 320, of mean 8, and two clusters of n rows.
    assert judging.kurtosis_ratio(gauss, labels) == pytest.approx(
        1.0, abs=5 * np.sqrt(320 / (2 * n)) / 8 + 5e-4
    )
    # Of a uniform square: E (r1 + r2)^2 = 2 * 9/5 + 2 = 5.6, over 8.
    flat = rng.uniform(size=(3 * n, 2))
    assert judging.kurtosis_ratio(flat, labels) == pytest.approx(0.7, abs=0.01)
    assert np.isnan(judging.kurtosis_ratio(gauss[:2], np.array([1, 1])))


def test_a_list_of_floats_is_read_from_fcs(tmp_path):
    values = np.arange(6, dtype=">f4").reshape(2, 3)
    keys = {
        "$DATATYPE": "F", "$MODE": "L", "$TOT": "2", "$PAR": "3", "$BYTEORD": "4,3,2,1", "$BEGINDATA": "0512",
        "$P1N": "T", "$P2N": "A", "$P3N": "B",
    }  # fmt: skip
    text = ("|" + "|".join(f"{key}|{value}" for key, value in keys.items()) + "|").encode()
    header = f"FCS3.0    {58:8d}{58 + len(text) - 1:8d}".encode().ljust(58)
    file = tmp_path / "a.fcs"
    file.write_bytes((header + text).ljust(512) + values.tobytes())
    np.testing.assert_array_equal(refdata.read_fcs(file), values)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_quick_run_of_every_script(name, tmp_path):
    needs_refs(name)
    result_of(name, tmp_path)
