"""Specs as dictionaries: the round trip for every row of every table, and what is said of mistakes."""

from __future__ import annotations

import dataclasses
import json
from typing import Literal

import pytest
import yaml

from vigmm.core.errors import ConfigError, Problem
from vigmm.core.specdict import from_dict, to_dict
from vigmm.core.struct import part, require, spec
from vigmm.data.sources import DataFile
from vigmm.estimators import ESTIMATORS, Pathwise
from vigmm.families import FAMILIES
from vigmm.models import COVARIANCES, PRIORS, WEIGHTS, Dirichlet, Mixture, NormalWishart
from vigmm.optim import OPTIMIZERS, Adam
from vigmm.train import STARTS, Train

TABLES = {
    "covariances": COVARIANCES,
    "estimators": ESTIMATORS,
    "families": FAMILIES,
    "optimizers": OPTIMIZERS,
    "priors": PRIORS,
    "starts": STARTS,
    "weights": WEIGHTS,
}
# What rows without a default for every field need.
NEEDED = {
    "labels": {"path": "labels.npy"},
    "means": {"means": [[0.0, 1.0], [2.0, 3.0]]},
    "model": {"path": "model"},
}
ROWS = [pytest.param(table, kind, id=f"{name}-{kind}") for name, table in TABLES.items() for kind in table]


@spec
class Round:
    radius: float = 1.0

    def __post_init__(self):
        require(self.radius > 0, "radius", "> 0", self.radius)


@spec
class Box:
    sides: tuple[float, ...] = (1.0, 2.0)
    corners: tuple[tuple[int, int], ...] | None = None
    look: Literal["solid", "wire"] = "solid"


SHAPES = {"round": Round, "box": Box}


@spec
class Scene:
    name: str
    count: int = 1
    limit: int | None = None
    bright: bool = False
    shape: object = part(SHAPES, "round")
    inner: Round = dataclasses.field(default_factory=Round)
    spare: Round | None = None
    least: int = 1

    def __post_init__(self):
        require(self.count >= 1, "count", ">= 1", self.count)
        require(not self.bright or self.count < 100, "count", "< 100 if bright", self.count)
        require(self.count >= self.least, "count", ">= least", self.count)


def problems(cls, data, **kwargs):
    with pytest.raises(ConfigError) as caught:
        from_dict(cls, data, **kwargs)
    assert str(caught.value) == "\n".join(problem.message for problem in caught.value.problems)
    return {problem.path: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize(("table", "kind"), ROWS)
def test_every_row_of_every_table_comes_back_equal(table, kind):
    needed = NEEDED.get(kind, {})
    made = table[kind](**needed)
    data = to_dict(made, table)
    assert data["kind"] == kind
    assert from_dict(table, json.loads(json.dumps(data))) == made
    assert from_dict(table, yaml.safe_load(yaml.safe_dump(data))) == made
    assert from_dict(table, needed, default=kind) == made
    assert needed or from_dict(table, kind) == made
    assert hash(from_dict(table, data)) == hash(made)


@pytest.mark.parametrize(
    "made",
    [
        Mixture(
            num_components=7,
            weights=Dirichlet(concentration=1e-3),
            prior=NormalWishart(mean=(1.0, -2.5), covariance=((2.0, 0.5), (0.5, 1.0)), dof=9.0),
        ),
        Pathwise(num_samples=4, entropy="stl", tile=128),
        Adam(rate=1e-5, clip=3.0),
        Train(),
        DataFile("a.npz", columns=("r", "g"), key="pixels"),
        Scene(name="x", shape=Box(corners=((1, 2), (3, 4))), spare=Round(2.0)),
    ],
    ids=lambda made: type(made).__name__,
)
def test_other_values_than_the_defaults_come_back_equal(made):
    for data in (
        to_dict(made),
        json.loads(json.dumps(to_dict(made))),
        yaml.safe_load(yaml.safe_dump(to_dict(made))),
    ):
        assert from_dict(type(made), data) == made


def test_what_is_left_out_has_its_default():
    assert from_dict(Mixture, {}) == Mixture()
    assert from_dict(Mixture, {"weights": {"concentration": 2.0}}).weights.concentration == 2.0
    assert from_dict(Mixture, {"weights": "dirichlet"}).weights == Dirichlet()
    assert from_dict(Scene, {"name": "x", "inner": {"radius": 2}}).inner == Round(2.0)


def test_a_dictionary_holds_kinds_only_where_there_is_a_table():
    data = to_dict(Scene(name="x"))
    assert data["shape"] == {"kind": "round", "radius": 1.0}
    assert data["inner"] == {"radius": 1.0}
    assert data["spare"] is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": 3}, "name must be text, got 3"),
        ({"name": "x", "count": "abc"}, "count must be an integer, got 'abc'"),
        ({"name": "x", "count": 1.5}, "count must be an integer, got 1.5"),
        ({"name": "x", "count": True}, "count must be an integer, got True"),
        ({"name": "x", "count": None}, "count must be an integer, got None"),
        ({"name": "x", "count": "1e3"}, "count must be an integer, got '1e3'"),
        ({"name": "x", "limit": "no"}, "limit must be an integer or null, got 'no'"),
        ({"name": "x", "bright": 1}, "bright must be true or false, got 1"),
        ({"name": "x", "bright": "yes"}, "bright must be true or false, got 'yes'"),
        ({"name": "x", "inner": {"radius": True}}, "inner.radius must be a number, got True"),
        ({"name": "x", "inner": {"radius": "1"}}, "inner.radius must be a number, got '1'"),
        (
            {"name": "x", "inner": 4},
            "inner must be a section with keys such as radius, got 4",
        ),
        (
            {"name": "x", "shape": {"kind": "box", "sides": [1, "two"]}},
            "shape.sides must be a list of numbers, got [1, 'two']",
        ),
        (
            {"name": "x", "shape": {"kind": "box", "corners": 5}},
            "shape.corners must be a list of lists of integers or null, got 5",
        ),
        (
            {"name": "x", "shape": {"kind": "box", "look": "woire"}},
            "shape.look must be 'solid' or 'wire', got 'woire'",
        ),
        (
            {"name": "x", "shape": "bix"},
            "shape must be one of round, box, got 'bix'; did you mean box?",
        ),
        (
            {"name": "x", "shape": {"kind": "cube"}},
            "shape.kind must be one of round, box, got 'cube'",
        ),
        (
            {"name": "x", "shape": ["box"]},
            "shape must be one of round, box, or a section with a kind, got ['box']",
        ),
        ({"name": "x", "conut": 3}, "conut: unknown key; did you mean count?"),
        (
            {"name": "x", "shape": {"sides": [1]}},
            "shape.sides: unknown key for kind round; kind box has it",
        ),
        (
            {"name": "x", "inner": {"qqq": 1}},
            "inner.qqq: unknown key; the keys are radius",
        ),
        (
            {"name": "x", 3: 4},
            "3: unknown key; the keys are name, count, limit, bright, shape, inner, spare, least",
        ),
        ({}, "name is missing"),
        ({"name": "x", "count": 0}, "count must be >= 1, got 0"),
        ({"name": "x", "spare": {"radius": -1}}, "spare.radius must be > 0, got -1.0"),
        ({"name": "x", "inner": {"radius": float("nan")}}, "inner.radius must be > 0, got nan"),
    ],
)
def test_a_mistake_is_named_with_its_path(data, message):
    path = tuple(message.split()[0].rstrip(":").split("."))
    assert problems(Scene, data) == {path: message}


def test_the_path_of_the_whole_comes_first():
    assert problems(ESTIMATORS, {"kind": "pathwise", "num_samples": 0}, path="job.estimator") == {
        ("job", "estimator", "num_samples"): "job.estimator.num_samples must be >= 1, got 0"
    }
    assert problems(ESTIMATORS, {"num_samples": 1}, path="estimator") == {
        ("estimator", "kind"): f"estimator.kind is missing; it is one of {', '.join(ESTIMATORS)}"
    }


def test_exponents_without_a_dot_are_numbers_where_a_number_is_asked_for():
    """YAML 1.1 reads them as text."""
    assert from_dict(Adam, {"rate": "1e-3"}).rate == 1e-3
    assert from_dict(Box, {"sides": ["1e2", 3, "+2.5E1"]}).sides == (100.0, 3.0, 25.0)
    assert from_dict(Scene, {"name": "1e-3"}).name == "1e-3"
    assert isinstance(from_dict(Adam, {"rate": 1}).rate, float)


def test_everything_that_is_wrong_is_said_at_once():
    found = problems(
        Scene,
        {
            "nmae": "x",
            "count": 0,
            "bright": "no",
            "shape": {"kind": "box", "look": 1, "sides": ["a"]},
            "inner": {"radius": -1},
        },
    )
    assert set(found) == {
        ("nmae",),
        ("name",),
        ("bright",),
        ("shape", "look"),
        ("shape", "sides"),
        ("inner", "radius"),
    }
    assert set(problems(Adam, {"rate": -1, "warmup": 2, "b1": "x"})) == {("rate",), ("warmup",), ("b1",)}


def test_a_mistake_elsewhere_is_not_blamed_on_a_good_value():
    """`count: 200` is wrong only together with `bright`, whose value here is not known."""
    assert set(problems(Scene, {"name": "x", "count": 200, "bright": "maybe"})) == {("bright",)}
    assert set(problems(Scene, {"name": "x", "count": 200, "bright": True})) == {("count",)}
    assert set(problems(Scene, {"name": "x", "least": 5, "bright": "maybe"})) == {("bright",)}
    assert set(problems(Scene, {"name": "x", "least": 5, "count": "many"})) == {("count",)}


@pytest.mark.parametrize("kind", ["os.system", "vigmm.models.Full", "__import__('os')", "Full", ""])
def test_only_rows_of_the_table_are_kinds(kind):
    assert ("kind",) in problems(COVARIANCES, {"kind": kind})


def test_a_spec_of_another_table_is_refused():
    with pytest.raises(TypeError, match="Pathwise is no row of the table"):
        to_dict(Pathwise(), FAMILIES)


def test_a_long_value_is_cut_short():
    (message,) = problems(Scene, {"name": ["x" * 500]}).values()
    assert len(message) < 120


def test_a_config_error_can_be_a_plain_sentence():
    assert str(ConfigError("no such file")) == "no such file"
    assert ConfigError("no such file").problems == ()
    assert str(Problem(path=("a", 0), message="a.0 must be text")) == "a.0 must be text"


@spec
class Shelf:
    things: tuple[object, ...] = dataclasses.field(default=(), metadata={"table": SHAPES})


def test_a_list_of_rows_of_a_table():
    shelf = Shelf(things=(Round(2.0), Box(), Round()))
    told = to_dict(shelf)
    assert [one["kind"] for one in told["things"]] == ["round", "box", "round"]
    assert from_dict(Shelf, told) == shelf
    assert from_dict(Shelf, json.loads(json.dumps(told))) == shelf
    assert from_dict(Shelf, {"things": ["round", {"kind": "box", "look": "wire"}]}).things[1].look == "wire"
    assert from_dict(Shelf, {"things": "box"}) == from_dict(Shelf, {"things": ["box"]}) == Shelf((Box(),))
    assert from_dict(Shelf, {"things": []}) == from_dict(Shelf, {}) == Shelf()
    found = problems(Shelf, {"things": ["rund", {"kind": "round", "radius": -1.0}, {"sides": []}, 3]})
    assert list(found) == [
        ("things", 0), ("things", 1, "radius"), ("things", 2, "kind"), ("things", 3)
    ]  # fmt: skip
    assert found["things", 0] == "things.0 must be one of round, box, got 'rund'; did you mean round?"
