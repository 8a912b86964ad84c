"""The page as text: its numbers are those of the run, nothing breaks out, and nothing is fetched."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from vigmm.core.errors import DataError, ModelFileError, OutputError
from vigmm.data.sources import DataFile
from vigmm.report import write_report
from vigmm.report.bins import unpack
from vigmm.report.clusters import _told, _value
from vigmm.report.markup import Html, as_json, tag
from vigmm.report.palette import BACKGROUNDS, contrast_ratio, palette_css, readable


@pytest.fixture(scope="module")
def page(fitted, tmp_path_factory):
    """The report of the run, without what takes long."""
    made = write_report(fitted, tmp_path_factory.mktemp("page") / "report.html", diagnosis=False)
    text = made.path.read_text(encoding="utf-8")
    assert made.size == len(text.encode())
    return text


@pytest.fixture(scope="module")
def drawn(page, payload):
    return payload(page)


@pytest.fixture(scope="module")
def assigned(fitted):
    table = pq.read_table(fitted / "assignments.parquet")
    return {name: table[name].to_numpy() for name in table.column_names}


@pytest.fixture(scope="module")
def rows(fitted):
    return DataFile(str(fitted.parent / "rows.csv")).open()[:]


def test_sizes_are_those_of_the_run(fitted, drawn, assigned):
    told = json.loads((fitted / "summary.json").read_text())["summary"]["components"]
    assert [one["id"] for one in drawn["clusters"]] == [one["component"] for one in told]
    counts = np.bincount(assigned["component"], minlength=2)
    for one, other in zip(drawn["clusters"], told, strict=True):
        weight = other["weight"]
        assert one["share"] == pytest.approx([weight["mean"], weight["low"], weight["high"]])
        assert one["count"] == counts[one["id"]]
        mine = assigned["component"] == one["id"]
        assert one["certainty"] == pytest.approx(assigned["probability"][mine].mean(), rel=1e-6)
        assert one["doubtful"] == np.sum(assigned["probability"][mine] < 0.8)
    assert sum(drawn["certainty"]) == 600


def test_bins_sum_to_the_rows(drawn, assigned, rows):
    counts = np.bincount(assigned["component"], minlength=2)
    grid = drawn["pairs"]["grids"]["0,1"]
    inside = unpack(grid)
    np.testing.assert_array_equal(inside.sum(axis=(1, 2)) + grid["outside"], counts)
    for d in ("0", "1"):
        packed = drawn["histograms"][d]
        np.testing.assert_array_equal(unpack(packed).sum(axis=1) + packed["outside"], counts)
    # Few rows: none is outside, and each row's bin counts it.
    assert sum(grid["outside"]) == 0
    x, y = (drawn["pairs"]["axes"][d] for d in ("0", "1"))
    place = [np.floor((rows[:, d] - axis["low"]) / axis["width"]).astype(int) for d, axis in ((0, x), (1, y))]
    expected = np.zeros_like(inside)
    np.add.at(expected, (assigned["component"], place[1], place[0]), 1)
    np.testing.assert_array_equal(inside, expected)


def test_representative_rows_are_the_densest(drawn, assigned, rows):
    joint = assigned["log_density"].astype(float) + np.log(assigned["probability"].astype(float))
    for one in drawn["clusters"]:
        mine = np.flatnonzero(assigned["component"] == one["id"])
        ranked = mine[np.argsort(-joint[mine], kind="stable")]
        assert one["typical"][0]["row"] == ranked[0]
        assert one["typical"][0]["values"] == [
            f"{value:.6g}".replace("-", "−") for value in rows[ranked[0]].tolist()
        ]
        assert len({tuple(row["values"]) for row in one["typical"]}) == 3
        # The two equal rows are the least likely ones of all; only the first of them is listed.
        assert one["edge"][0]["row"] == ranked[-1] or {598, 599} == set(ranked[-2:].tolist())


def test_rows_between_clusters_are_the_least_certain(page, assigned):
    least = int(np.argmin(assigned["probability"]))
    table = page[page.index("The least certain rows") :]
    first = re.search(r'<th class="n" data-sort="(\d+)" scope="row">', table)
    assert int(first[1]) == least
    assert re.search(r"\d+ of 600 rows", page)


def test_features_are_in_the_units_of_the_data(drawn, rows, assigned):
    for one in drawn["clusters"]:
        mine = rows[assigned["component"] == one["id"]]
        for d, feature in enumerate(one["features"]):
            # The posterior mean lies within five standard errors of the mean of the cluster's rows.
            assert feature["at"] == pytest.approx(
                mine[:, d].mean(), abs=5 * mine[:, d].std() / np.sqrt(len(mine)) + 0.05
            )
            low, high = (float(edge.replace("−", "-")) for edge in feature["meanInterval"].split(" to "))
            assert low < feature["at"] < high


def test_the_tree_is_of_all_clusters(drawn):
    tree = drawn["tree"]
    assert sorted(tree["leaves"]) == [0, 1]
    (join,) = tree["joins"]
    assert {join["first"], join["second"]} == {0, 1}
    assert join["cost"] > 0.5


class Reader(HTMLParser):
    """Elements and attributes of a page, and the text of its headings."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.ids = [], [], []

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes += [(name, *pair) for pair in attributes]
        self.ids += [value for key, value in attributes if key == "id"]


def test_nothing_from_the_data_becomes_markup(page):
    reader = Reader()
    reader.feed(page)
    assert reader.tags.count("script") == 2
    assert "img" not in reader.tags
    assert not [key for _, key, _ in reader.attributes if key.startswith("on") or key == "style"]
    assert page.count("alert(1)") > 3, "the names are shown"
    assert "<script>alert(1)" not in page
    assert "<i>d</i>" not in page


def test_the_page_fetches_nothing_and_runs_only_its_own_script(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1].replace(
        "&#x27;", "'"
    )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for element in ("style", "script"):
        (text,) = re.findall(rf"<{element}>(.*?)</{element}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    # The only address is the name of SVG, which is a name.
    assert set(re.findall(r"https?://[^\s\"'<)]*", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\((?!#)|\bfetch\(|XMLHttpRequest|innerHTML|\beval\(", page)


def test_every_part_is_there_and_can_be_reached(page):
    reader = Reader()
    reader.feed(page)
    assert len(reader.ids) == len(set(reader.ids))
    order = [
        reader.ids.index(name) for name in ("top", "trust", "clusters", "data", "prior", "config", "timings")
    ]
    assert order == sorted(order)
    linked = {value[1:] for name, key, value in reader.attributes if (name, key) == ("a", "href")}
    assert linked <= set(reader.ids)
    for name in ("main", "nav", "header", "footer", "h1", "figcaption", "caption", "noscript"):
        assert name in reader.tags, name
    assert reader.tags.count("table") == reader.tags.count("caption")
    assert ("html", "lang", "en") in reader.attributes
    described = [value for _, key, value in reader.attributes if key == "aria-labelledby"]
    assert set(described) <= set(reader.ids)


@pytest.fixture
def moved(run_copy):
    """A run whose rows are no longer where they were."""
    config = (run_copy / "config.yaml").read_text()
    (run_copy / "config.yaml").write_text(config.replace("rows.csv", "gone.csv"))
    return run_copy


def test_without_the_rows_the_rest_is_there(moved, payload):
    made = write_report(moved)
    assert made.path == moved / "report.html"
    assert len(made.left_out) == 2
    page = made.path.read_text()
    drawn = payload(page)
    assert "gone.csv" in page
    assert drawn["histograms"] == {}
    assert drawn["certainty"] is None
    assert "count" not in drawn["clusters"][0]
    assert drawn["pairs"]["grids"] == {}
    assert drawn["pairs"]["axes"]["0"]["count"] > 0


def test_rows_are_known_by_their_content(moved, fitted, tmp_path):
    rows = tmp_path / "elsewhere.csv"
    rows.write_bytes((fitted.parent / "rows.csv").read_bytes())
    assert len(write_report(moved, data=str(rows), diagnosis=False).left_out) == 1
    rows.write_text(rows.read_text().replace("9.500000", "9.400000"))
    with pytest.raises(DataError, match="has changed since the run"):
        write_report(moved, data=str(rows))
    rows.write_text("\n".join(rows.read_text().splitlines()[:-1]))
    with pytest.raises(DataError, match="599 rows, and the run was fitted to 600"):
        write_report(moved, data=str(rows))


def test_without_assignments_the_model_makes_them(run_copy, drawn, payload):
    (run_copy / "assignments.parquet").unlink()
    again = payload(write_report(run_copy, diagnosis=False).path.read_text())
    assert again["clusters"] == drawn["clusters"]
    assert again["pairs"] == drawn["pairs"]


def test_what_cannot_be_reported_is_refused(run_copy, tmp_path):
    with pytest.raises(ModelFileError, match="no such run folder"):
        write_report(tmp_path / "nothing")
    (tmp_path / "notes.html").write_text("<p>mine</p>")
    with pytest.raises(OutputError, match=r"is no report of vigmm; choose another name with --out"):
        write_report(run_copy, tmp_path / "notes.html")
    with pytest.raises(OutputError, match="there is no folder"):
        write_report(run_copy, tmp_path / "absent" / "report.html")
    manifest = json.loads((run_copy / "manifest.json").read_text())
    (run_copy / "manifest.json").write_text(json.dumps({**manifest, "status": "running"}))
    with pytest.raises(ModelFileError, match="has no results to report: the run is running since"):
        write_report(run_copy)


def test_a_run_that_went_wrong_says_so_first(run_copy):
    manifest = json.loads((run_copy / "manifest.json").read_text())
    manifest["outcome"] |= {"status": "nonfinite", "message": "log_lik was NaN at step 3", "bad_steps": 4}
    (run_copy / "manifest.json").write_text(json.dumps(manifest))
    made = write_report(run_copy)
    assert made.verdict == "bad"
    assert made.sentence.startswith("The run went wrong")
    page = made.path.read_text()
    assert page.index("The run went wrong") < page.index("What was checked")
    assert "log_lik was NaN at step 3; 4 steps were not finite" in page


def test_the_command(vigmm, run_copy):
    done = vigmm("report", run_copy, "--no-diagnosis", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["report"] == str(run_copy / "report.html")
    assert told["bytes"] == (run_copy / "report.html").stat().st_size < 200_000
    assert done.stderr == ""
    # A report may be replaced by a newer one.
    done = vigmm("report", run_copy, "--no-diagnosis")
    assert done.stdout.startswith(f"{run_copy / 'report.html'}: 0.1 MB. ")
    assert "Left out: k-hat" in done.stdout
    assert vigmm("report", run_copy / "absent").exit_code == 5


@pytest.mark.slow
def test_a_saved_run_is_diagnosed_as_the_fit_was(tmp_path, made_run):
    """The findings are those of `Fit.diagnose` on the fit in memory: same draws, same numbers."""
    import vigmm as library
    from vigmm.config import load_job
    from vigmm.report.run import open_run
    from vigmm.report.trust import judge

    run = made_run(tmp_path, dim=2, num=2)
    job = load_job(run / "config.yaml")
    fit = library.fit(
        job.data, model=job.model, family=job.family, estimator=job.estimator, optimizer=job.optimizer,
        start=job.start, train=job.train, moves=job.moves, seed=job.seed,
    )  # fmt: skip
    expected = fit.diagnose(num_draws=64)
    found = judge(open_run(run), num_draws=64, restarts=1)
    by_name = {one.name: one for one in found.findings}
    for one in expected.findings:
        # The saved parameters are those of the fit to the last bit; the bound is as the manifest has it.
        assert by_name[one.name].value == pytest.approx(one.value, rel=1e-5, abs=1e-6), one.name
        assert by_name[one.name].verdict == one.verdict
    assert found.diagnosis.blocks == pytest.approx(expected.blocks)
    assert by_name["agreement of restarts"].value == pytest.approx(1.0, abs=0.02)
    assert "outcome" in by_name


def test_markup_escapes():
    assert tag("p", "<b>", Html("<i></i>"), ["&", None]) == "<p>&lt;b&gt;<i></i>&amp;</p>"
    assert (
        tag("a", href='"><script>', hidden=True, title=None)
        == '<a href="&quot;&gt;&lt;script&gt;" hidden></a>'
    )
    text = as_json({"</script>": ["<!--", "\u2028", "&amp;"]})
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {"</script>": ["<!--", "\u2028", "&amp;"]}


def test_colours_can_be_seen_on_both_pages():
    pairs = re.findall(r"--c\d+:light-dark\((#\w+),(#\w+)\)", palette_css())
    assert len(pairs) == 20
    for pair in pairs:
        for colour, behind in zip(pair, BACKGROUNDS, strict=True):
            assert contrast_ratio(colour, behind) >= 3
    assert contrast_ratio("#000000", "#ffffff") == pytest.approx(21)
    assert readable("#0072B2", "#ffffff") == "#0072b2"


def test_pages_of_very_many_clusters_and_pairs_stay_small(fitted, tmp_path, monkeypatch, payload):
    """What does not fit is left out, said to be left out, and nothing else misses it."""
    from vigmm.report import build, clusters

    monkeypatch.setattr(clusters, "MOST_CLUSTERS", 1)
    monkeypatch.setattr(build, "_MOST_BYTES", 10)
    page = write_report(fitted, tmp_path / "report.html", diagnosis=False).path.read_text()
    drawn = payload(page)
    assert len(drawn["clusters"]) == 1
    assert drawn["pairs"]["grids"] == {}
    assert set(drawn["pairs"]["axes"]) == {"0", "1"}
    assert "1 smaller ones are in summary.json" in page
    assert "2 clusters in 600 rows" in page


def test_rows_keep_their_numbers_where_some_were_skipped(fitted, page, assigned):
    from vigmm.report.rows import scan
    from vigmm.report.run import open_run

    run = open_run(fitted)

    class Skipping:
        """A source whose first thousand rows were left out."""

        def __init__(self, inner):
            self.inner, self.dim = inner, inner.dim

        def __len__(self):
            return len(self.inner)

        def __getitem__(self, index):
            return self.inner[index]

        def row_numbers(self, start, stop):
            return np.arange(start, stop) + 1000

    found = scan(dataclasses.replace(run, source=Skipping(run.source)), histograms=[0], paired=[0, 1])
    assert found.doubted.number[0] == 1000 + int(np.argmin(assigned["probability"]))


def test_no_password_is_shown(run_copy):
    with (run_copy / "config.yaml").open("a") as file:
        file.write("# s3://name:word-of-mine@bucket/rows.parquet\n")
    page = write_report(run_copy, diagnosis=False).path.read_text()
    assert "s3://***@bucket/rows.parquet" in page
    assert "word-of-mine" not in page


def test_values_of_rows_keep_what_tells_them_apart():
    """Of large values the digits where they differ; what is missing is no number; nothing is minus zero."""
    assert _value(1_600_000_187.26, 100.0) == "1,600,000,187.3"
    assert _value(239.0, 80.0) == "239"
    assert _value(float("nan"), 1.0) == "–"
    assert _told(1_600_000_597.3, 100.0) == "1,600,000,597"
    assert _told(-0.0004, 1.0) == "0.00"
    assert _told(2.4e-9, 3.06e-10) == "2.400e−09"
