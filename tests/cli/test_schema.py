"""The JSON Schema of configurations against the reader: what one takes the other takes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from vigmm.config import Job, read_job, to_yaml
from vigmm.config.reader import parse
from vigmm.config.schema import schema
from vigmm.core.errors import ConfigError
from vigmm.data.sources import DataFile

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
DATA = "data: {path: x.npy}\n"


@pytest.fixture(scope="module")
def validator():
    found = schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def valid(validator, text):
    return validator.is_valid(parse(text, "f").values)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_that_is_shipped(validator, path):
    validator.validate(parse(path.read_text(), path.name).values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "train:\nmodel:\n",
        "seed: 3\ntrain: {tolerance: 1e-6, max_seconds: 60}\n",
        "model: {weights: {kind: dirichlet, concentration: [1, 2.5]}, noise: {a: 2}}\n",
        "model: {weights: {concentration: 0.5}}\n",
        "model: {prior: {kind: independent, sd: 3}, covariance: diag}\nfamily: blocks\n",
        "model: {prior: {kind: independent, sd: {name: Gamma, params: [[concentration, 2], [rate, 1]]}}}\n"
        "family: blocks\n",
        "family: meanfield\nestimator: {num_samples: 3}\noptimizer: {kind: averaged, rule: {rate: 0.1}}\n",
        "start: {kind: means, means: [[0.0, 1.0], [2, 3e1]]}\n",
        "start: {kind: labels, path: labels.npy}\n",
        "track: tensorboard\n",
        "track: [tensorboard, {kind: mlflow, experiment: plants}]\n",
        "moves: null\n",
    ],
)
def test_what_is_right(validator, text):
    read_job(DATA + text, name="f")
    assert valid(validator, DATA + text)


def test_what_the_run_folder_holds(validator):
    job = Job(data=DataFile("x.npy"))
    assert valid(validator, to_yaml(job))
    assert valid(validator, to_yaml(job.resolved(rows=1000)))


@pytest.mark.parametrize(
    "text",
    [
        "seed: 1\n",
        DATA + "seeed: 1\n",
        DATA + "seed: one\n",
        DATA + "seed: 1.5\n",
        DATA + "dtype: float16\n",
        DATA + "data2: {path: x}\n",
        "data: x.npy\n",
        "data: {path: x.npy, colums: [a]}\n",
        "data: {path: x.npy, columns: a}\n",
        DATA + "family: conjugat\n",
        DATA + "family: {rank: 3}\n",
        DATA + "family: {kind: lowrank, rank: much}\n",
        DATA + "optimizer: {rate: 0.1}\n",
        DATA + "optimizer: {kind: sgd, momentum: 0.9}\n",
        DATA + "start: means\n",
        DATA + "start: {kind: means}\n",
        DATA + "model: {prior: {kind: independent, mean: {params: []}}}\n",
        DATA + "track: [tensorbord]\n",
        DATA + "cache: maybe\n",
    ],
)
def test_what_is_wrong(validator, text):
    with pytest.raises(ConfigError):
        read_job(text, name="f")
    assert not valid(validator, text)


def test_every_key_has_a_meaning():
    found = schema()
    nodes = {"": found, **found["$defs"]}
    keys = [(name, key, about) for name, node in nodes.items() for key, about in node["properties"].items()]
    assert len(keys) > 100
    assert [(name, key) for name, key, about in keys if not about["description"]] == []


def test_the_command_prints_it(vigmm):
    done = vigmm("schema")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == json.loads(json.dumps(schema()))
