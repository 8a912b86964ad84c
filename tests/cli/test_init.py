"""A look at data, the configuration that follows from it, and the command that writes it."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vigmm.config import Job, load_job, look, read_job, suggest
from vigmm.config.looking import _sample, _starts
from vigmm.core.errors import DataError
from vigmm.data.sources import ArraySource, DataFile
from vigmm.families import Blocks, Conjugate
from vigmm.models import COVARIANCE_CHOICES, COVARIANCES

ROWS = 400


def parquet(path, columns, names=None):
    """Columns as a Parquet file; None is a missing value."""
    pq.write_table(pa.table(dict(zip(names or columns, columns.values(), strict=True))), path)
    return DataFile(str(path))


def normal(seed=0, rows=ROWS):
    return np.random.default_rng(seed).normal(size=rows)


def suggested(data) -> tuple[Job, str]:
    text = suggest(data, look(data), name="config.yaml")
    return read_job(text, name="config.yaml"), text


LEFT_OUT = {
    "constant": (np.full(ROWS, 7.0), "constant"),
    "constant with holes": ([None if i % 9 == 0 else 7.0 for i in range(ROWS)], "constant, where it is not"),
    "a row number": (np.arange(ROWS) + 1, "counts the rows"),
    "a flag": (np.arange(ROWS) % 2, "only two values, 0 and 1"),
    "nothing": (pa.array([None] * ROWS, pa.float64()), "all values are missing"),
    "mostly nothing": ([float(i * i % 97) if i % 5 == 0 else None for i in range(ROWS)], "80% of the values"),
    "infinite": (np.where(np.arange(ROWS) == 3, np.inf, normal(5)), "1 infinite values"),
    "other units": (normal() * 2.54 - 1e3, "the same as good, but for units"),
    "words": (["odd", "even"] * (ROWS // 2), None),
}


@pytest.mark.parametrize(("values", "why"), LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_columns_that_are_better_left_out(tmp_path, values, why):
    data = parquet(tmp_path / "rows.parquet", {"good": normal(), "bad": values, "too": normal(1)})
    seen = look(data)
    assert [column.name for column in seen.kept] == ["good", "too"]
    reasons = [column.left_out for column in seen.columns if column.left_out is not None]
    if why is None:
        assert (reasons, seen.text) == ([], ("bad",))
    else:
        assert len(reasons) == 1
        assert reasons[0].startswith(why)
    job, text = suggested(data)
    assert job.data.columns == ("good", "too")
    assert "bad" in text
    assert not job.model.missing


def test_the_command_can_be_pasted_and_stays_a_comment(tmp_path):
    data = parquet(tmp_path / "rows.parquet", {"a": normal(), "b": normal(1)})
    for name, shown in (("my job.yaml", "'my job.yaml'"), ("a\nseed: 7\n.yaml", "'a seed: 7 .yaml'")):
        text = suggest(data, look(data), name=name)
        assert f"#   vigmm fit {shown}\n" in text
        assert read_job(text, name=name).seed == 0


KEPT = {
    "three values": np.arange(ROWS) % 3,
    "nearly the same": normal() + 1e-3 * normal(7),
    "counts down": np.arange(ROWS)[::-1] * 1.5,
    "some nothing": np.where(np.arange(ROWS) % 10 == 0, np.nan, normal(4)),
}


@pytest.mark.parametrize("values", KEPT.values(), ids=KEPT.keys())
def test_columns_that_stay(tmp_path, values):
    data = parquet(tmp_path / "rows.parquet", {"good": normal(), "doubtful": values})
    job, _ = suggested(data)
    assert job.data.columns is None  # all of them, without a word
    assert [column.name for column in look(data).kept] == ["good", "doubtful"]


def test_complete_data_get_the_defaults_and_a_bound_that_the_rows_can_pay_for(tmp_path):
    data = parquet(tmp_path / "plants.parquet", {name: normal(i) for i, name in enumerate("abc")})
    job, text = suggested(data)
    assert job == Job(
        data=data,
        model=job.model,
        output=job.output,
        train=job.train,
    )
    assert (job.model.num_components, job.model.missing, job.train.holdout) == (20, False, 0.05)
    assert isinstance(job.family, Conjugate)
    assert job.output.folder == "runs/plants"
    assert "vigmm fit config.yaml" in text
    assert max(map(len, text.splitlines())) <= 110


def test_missing_values_need_a_family_that_can_do_without(tmp_path):
    holes = np.where(np.arange(ROWS) % 50 == 0, np.nan, normal())
    job, text = suggested(parquet(tmp_path / "rows.parquet", {"full": normal(1), "holes": holes}))
    assert job.model.missing
    assert isinstance(job.family, Blocks)
    assert job.model.num_components == 10
    assert "holes (2.0%)" in text


def test_too_many_combinations_of_gaps_cost_the_column_that_is_missing_most(tmp_path, monkeypatch):
    monkeypatch.setattr("vigmm.config.looking.MOST_PATTERNS", 10)
    rng = np.random.default_rng(0)
    columns = {n: np.where(rng.random(ROWS) < 0.1 * (i + 1), np.nan, normal(i)) for i, n in enumerate("abcd")}
    seen = look(parquet(tmp_path / "rows.parquet", columns))
    assert [column.name for column in seen.kept] == ["a", "b"]
    assert seen.patterns == 4
    assert "in too many combinations" in seen.columns[3].left_out


def test_few_rows_hold_none_out_and_many_columns_are_diagonal(tmp_path):
    few = parquet(tmp_path / "few.parquet", {"a": normal(0, 30), "b": normal(1, 30)})
    job, _ = suggested(few)
    assert (job.train.holdout, job.model.num_components) == (0, 2)
    assert type(job.model.covariance) is COVARIANCE_CHOICES["auto"]
    wide = parquet(tmp_path / "wide.parquet", {f"c{i}": normal(i) for i in range(60)})
    assert type(suggested(wide)[0].model.covariance) is COVARIANCES["diag"]


def test_what_is_worth_a_word_gets_one(tmp_path):
    values = normal()
    values[5] = 1e5
    columns = {"wild": values, "grade": np.arange(ROWS) % 6, "fine": normal(2)}
    _, text = suggested(parquet(tmp_path / "rows.parquet", columns))
    assert "Values far from all others are in wild" in text
    assert "Few different values, all whole: grade" in text
    assert "repeat another" not in text
    twice = {name: np.concatenate([column[:300], column[:100]]) for name, column in columns.items()}
    _, text = suggested(parquet(tmp_path / "twice.parquet", twice))
    assert "About 25% of the rows repeat another" in text


def test_whatever_columns_are_called_the_configuration_reads_back(tmp_path):
    names = ["no", "1e3", "a: b, c", "x # y", "it's \"so\"", "[red]", "größe", " edge ", "two\nlines", "\x07",
             "a  b", "~", "{k: v}", "- x", "x" * 150]  # fmt: skip
    columns = {str(i): normal(i) for i in range(len(names))} | {"left": np.zeros(ROWS)}
    data = parquet(tmp_path / "rows.parquet", columns, [*names, "left: out\n  evil: 1\x07"])
    job, _ = suggested(data)
    assert job.data.columns == tuple(names)


def test_other_kinds(tmp_path, monkeypatch):
    np.savez(tmp_path / "rows.npz", a=np.zeros(3), b=np.random.default_rng(0).normal(size=(50, 2)))
    job, _ = suggested(DataFile(str(tmp_path / "rows.npz"), key="b"))
    assert (job.data.key, job.data.columns) == ("b", None)
    np.save(tmp_path / "part-1.npy", normal(0, 40).reshape(20, 2))
    np.save(tmp_path / "part-2.npy", normal(1, 40).reshape(20, 2))
    monkeypatch.chdir(tmp_path)
    assert suggested(DataFile("part-*.npy"))[0].output.folder == "runs/part"
    query = "duckdb:SELECT 1.5 * i AS x, sin(i) AS y FROM range(100) AS t(i)"
    job, _ = suggested(DataFile(query))
    assert (job.data.path, job.output.folder) == (query, "runs/query")
    picture, text = suggested(DataFile("pkg://sklearn.datasets.images/china.jpg"))
    assert (picture.data.columns, picture.output.folder) == (None, "runs/china")
    assert "repeat" not in text


def test_little_of_large_data_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("vigmm.config.looking._ROWS", 640)
    source = ArraySource(np.arange(100_000.0)[:, None])
    taken = _sample(source)[:, 0]
    np.testing.assert_array_equal(taken, _starts(100_000, 640))
    assert (len(taken), taken[0], taken[-1]) == (640, 0.0, 99_999.0)
    assert np.diff(taken).max() < 2_000
    data = parquet(
        tmp_path / "rows.parquet", {"id": np.arange(5_000), "x": normal(0, 5_000), "y": normal(1, 5_000)}
    )
    seen = look(data)
    assert (seen.rows, seen.seen, seen.exact) == (5_000, 640, True)
    assert seen.columns[0].left_out == "counts the rows"


@pytest.mark.parametrize("squeezed", [False, True])
def test_of_a_large_text_the_beginning_is_read(tmp_path, monkeypatch, squeezed):
    monkeypatch.setattr("vigmm.config.looking._HEAD_BYTES", 4_000)
    lines = ["a,b", *(f"{x:.6f},{y:.6f}" for x, y in np.random.default_rng(0).normal(size=(2_000, 2)))]
    content = ("\n".join(lines) + "\n").encode()
    path = tmp_path / ("rows.csv.gz" if squeezed else "rows.csv")
    path.write_bytes(gzip.compress(content) if squeezed else content)
    seen = look(DataFile(str(path)))
    assert not seen.exact
    assert seen.name == str(path)
    assert 180 < seen.seen < 250
    assert seen.rows == pytest.approx(2_000, rel=0.5 if squeezed else 0.05)
    # Names of the configuration are the user's.
    job, text = suggested(DataFile(str(path)))
    assert job.data.path == str(path)
    assert f"about {seen.rows:,} rows, of which {seen.seen} were" in " ".join(text.replace("#", "").split())


def test_nothing_to_cluster_by(tmp_path):
    data = parquet(tmp_path / "rows.parquet", {"id": np.arange(ROWS), "flag": np.arange(ROWS) % 2})
    with pytest.raises(DataError, match=r"no column to cluster by \(id: counts the rows; flag: only two"):
        look(data)


def test_the_command(vigmm, table, tmp_path):
    out = tmp_path / "job.yaml"
    done = vigmm("init", table, "--out", out)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f"{table}: 600 rows, 2 columns to cluster by",
        "left out: species (no numbers)",
        f"{out} is written; read it, and then: vigmm fit {out}",
    ]
    job = load_job(out)
    assert (job.data.path, job.data.columns) == (str(table), ("width", "height"))
    out.write_text("mine")
    done = vigmm("init", table, "--out", out)
    assert (done.exit_code, out.read_text()) == (4, "mine")
    done = vigmm("init", table, "--out", out, "--overwrite", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    assert load_job(out) == job
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


@pytest.mark.slow  # compiles a fit by reparameterised gradients
def test_what_is_written_for_rows_with_holes_is_fitted_as_it_is(vigmm, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3)) + np.where(np.arange(ROWS)[:, None] % 2, 0.0, 8.0)
    x[rng.random(x.shape) < 0.05] = np.nan
    parquet(tmp_path / "rows.parquet", {name: x[:, i] for i, name in enumerate("abc")})
    monkeypatch.chdir(tmp_path)
    assert vigmm("init", "rows.parquet").exit_code == 0
    sets = ("--set", "model.num_components=2", "--set", "train.max_steps=60")
    done = vigmm("fit", "config.yaml", "--quiet", *sets)
    assert (done.exit_code, done.output) == (0, ""), done.exception
    clusters = pq.read_table("runs/rows/assignments.parquet")["component"].to_numpy()
    agree = np.mean(clusters == np.arange(ROWS) % 2)
    assert max(agree, 1 - agree) > 0.99
    assert (tmp_path / "runs" / "rows" / "plots" / "clusters.png").exists()
