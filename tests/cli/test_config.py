"""From YAML to a job and back."""

from __future__ import annotations

import dataclasses

import pytest

from vigmm.config import Job, Output, load_job, path_of, read_job, to_yaml
from vigmm.core.errors import ConfigError, SpecError
from vigmm.data.sources import DataFile
from vigmm.estimators import ESTIMATORS, Natural, Pathwise
from vigmm.families import FAMILIES, Conjugate, MeanField
from vigmm.models import Dirichlet, Full, Mixture, NormalWishart
from vigmm.optim import OPTIMIZERS, Adam, RobbinsMonro, Sgd
from vigmm.train import STARTS, Train

DATA = "data: {path: x.npy}\n"
# What rows without a default for every field need.
NEEDED = {
    "labels": "{kind: labels, path: labels.npy}",
    "means": "{kind: means, means: [[0.0, 1.0], [2, 3e1]]}",
    "model": "{kind: model, path: runs/old}",
}


def test_defaults():
    job = read_job(DATA, name="f")
    assert job == Job(data=DataFile("x.npy"))
    assert (job.family, job.estimator, job.optimizer) == (Conjugate(), Natural(), None)


def test_the_family_chooses_the_estimator_and_the_batches_the_optimizer():
    meanfield = read_job(DATA + "family: meanfield\n", name="f")
    assert meanfield.estimator == Pathwise()
    assert isinstance(meanfield.resolved(rows=100).optimizer, Adam)
    conjugate = read_job(DATA + "train: {batch_size: 100, holdout: 0.05}\nmoves: null\n", name="f")
    assert isinstance(conjugate.resolved(rows=1000).optimizer, RobbinsMonro)
    # 105 rows less 5 held out are one batch.
    assert isinstance(conjugate.resolved(rows=105).optimizer, Sgd)
    assert isinstance(conjugate.resolved(rows=107).optimizer, RobbinsMonro)


def test_rows_that_the_search_has_seen_are_not_seen_in_batches_again():
    job = read_job(DATA + "train: {batch_size: 100, holdout: 0}\nmoves: {rows: 5000}\n", name="f")
    small, large = (job.resolved(rows=rows) for rows in (5_000, 5_001))
    assert (small.optimizer, small.train.batch_size) == (Sgd(), 5_000)
    assert (large.optimizer, large.train.batch_size) == (RobbinsMonro(delay=50.0), 100)
    assert small.resolved(rows=5_000) == small
    none = read_job(DATA + "moves: null\n", name="f")
    assert none.moves is None
    assert read_job(to_yaml(none), name="f") == none
    # A prior of the components one by one cannot be searched.
    fixed = read_job(DATA + "model: {weights: {concentration: [1, 2], kind: dirichlet}}\n", name="f")
    assert isinstance(fixed.resolved(rows=5_000).optimizer, RobbinsMonro)


def test_what_is_named_is_kept():
    job = read_job(
        DATA + "family: meanfield\nestimator: {num_samples: 3}\noptimizer: sgd\ntrain: {stream: false}\n",
        name="f",
    )
    assert (job.estimator, job.optimizer) == (Pathwise(num_samples=3), Sgd())
    assert job.resolved(rows=10) == job


def test_every_part_can_be_set():
    job = read_job(
        """
data: {path: x.csv, columns: [b, a]}
model:
  num_components: 7
  weights: {kind: dirichlet, concentration: 1e-2}
  covariance: full
  prior: {kind: normal_wishart, mean: [0, 1], scale: 2}
start: {kind: kmeans, lloyd: 3}
train: {batch_size: 64, passes: 2}
seed: 9
dtype: float64
output: {folder: a/b, plots: false}
""",
        name="f",
    )
    assert job.data.columns == ("b", "a")
    assert job.model == Mixture(
        num_components=7,
        weights=Dirichlet(0.01),
        covariance=Full(),
        prior=NormalWishart(mean=(0.0, 1.0), scale=2.0),
    )
    assert job.train == Train(batch_size=64, passes=2)
    assert (job.seed, job.dtype, job.output) == (9, "float64", Output(folder="a/b", plots=False))


def test_empty_sections_are_defaults():
    assert read_job(DATA + "train:\noptimizer: null\n", name="f") == read_job(DATA, name="f")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("start", [NEEDED.get(start, start) for start in STARTS])
def test_every_row_survives_writing_and_reading(family, estimator, optimizer, start):
    text = f"{DATA}family: {family}\nestimator: {estimator}\noptimizer: {optimizer}\nstart: {start}\n"
    try:
        ESTIMATORS[estimator]().check(Mixture(), FAMILIES[family]())
    except SpecError:
        with pytest.raises(ConfigError, match=r"f:2:1: family must be"):
            read_job(text, name="f")
        return
    job = read_job(text, name="f")
    assert read_job(to_yaml(job), name="f") == job
    assert isinstance(job.optimizer, OPTIMIZERS[optimizer])


def test_awkward_values_survive_writing_and_reading():
    job = Job(
        data=DataFile("no", kind="csv", columns=("1e-3", "null", "a: b", "größe")),
        train=Train(tolerance=1e-12, passes=1e20),
        family=MeanField(),
        estimator=Pathwise(),
        output=Output(folder="~"),
    )
    assert read_job(to_yaml(job), name="f") == job


def test_overrides_win_in_order(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(DATA + "train: {passes: 3}\n")
    job = load_job(path, ["train.passes=4", "train.passes=5", "family=meanfield", "estimator.num_samples=2"])
    assert job.train.passes == 5
    assert job.estimator == Pathwise(num_samples=2)


def test_what_goes_with_a_mistake_is_not_blamed():
    """The family suits the estimator that was meant, and not the default that stands in for it."""
    with pytest.raises(ConfigError) as caught:
        read_job(DATA + "family: meanfield\nestimator: {num_samples: 0}\n", name="f")
    assert str(caught.value) == "f:3:13: estimator.num_samples must be >= 1, got 0"


def test_pairs_are_asked_for_in_words():
    text = (
        DATA + "model: {prior: {kind: independent, sd: {name: Gamma, params: {rate: 1}}}}\nfamily: blocks\n"
    )
    with pytest.raises(ConfigError, match=r"sd\.params must be a list of lists \[text, a number\], got"):
        read_job(text, name="f")


def test_every_problem_is_told_at_once_with_its_place():
    text = (
        DATA
        + "model:\n  num_componentz: 3\n  weights: {kind: dirichlet, concentration: -1}\nsead: 1\ndtype: 32\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_job(text, name="job.yaml", overrides=["train.passes=often"])
    assert str(caught.value).splitlines() == [
        "job.yaml:3:3: model.num_componentz: unknown key; did you mean num_components?",
        "job.yaml:4:30: model.weights.concentration must be > 0 and finite, got -1.0",
        "job.yaml:5:1: sead: unknown key; did you mean seed?",
        "job.yaml:6:1: dtype must be 'float32' or 'float64', got 32",
        "--set train.passes=often: train.passes must be a number, got 'often'",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "f: data is missing"),
        ("- a\n", "f: a configuration is made of sections"),
        ("data: {}\n", "f:1:1: data.path is missing"),
        (DATA + "family: normal\n", "f:2:1: family must be one of blocks, conjugate, flow"),
        (DATA + "optimizer: {rate: 1}\n", "f:2:1: optimizer.kind is missing"),
        (DATA + "optimizer: {kind: sgd, clip: 1}\n", "f:2:24: optimizer.clip: unknown key for kind sgd"),
        (DATA + "estimator: natural\nfamily: meanfield\n", "f:3:1: family must be 'conjugate'"),
        (DATA + "seed: -1\n", "f:2:1: seed must be between 0 and"),
        (DATA + "output: {folder: ''}\n", "f:2:10: output.folder must be the path of a folder"),
    ],
)
def test_problems_in_words(text, line):
    with pytest.raises(ConfigError) as caught:
        read_job(text, name="f")
    assert any(found.startswith(line) for found in str(caught.value).splitlines()), str(caught.value)


def test_a_configuration_runs_nothing(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(ConfigError):
        read_job(f"data: !!python/object/apply:os.mkdir ['{target}']\n", name="f")
    assert not target.exists()


def test_path_of_a_field():
    job = dataclasses.replace(Job(data=DataFile("x.npy")), model=Mixture(prior=NormalWishart(dof=2.5)))
    assert path_of(job, "dof", 2.5) == "model.prior.dof"
    assert path_of(job, "kind", None) == "data.kind"
    assert path_of(job, "unheard", 1) == "unheard"
