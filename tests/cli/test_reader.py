"""YAML is read by the core schema of YAML 1.2, safely, with places."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vigmm.config.load import _Dumper
from vigmm.config.reader import Document, parse, parse_override
from vigmm.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1E+2", -100.0),
        ("12", 12),
        ("+3", 3),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("2026-01-01", "2026-01-01"),
        ("'no'", "no"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("[a, 2, [true]]", ["a", 2, [True]]),
        ("{kind: adam, rate: 1e-2}", {"kind": "adam", "rate": 0.01}),
    ],
)
def test_scalars(text, value):
    found = parse(f"key: {text}", "f").values["key"]
    assert found == value
    assert type(found) is type(value)
    assert parse_override(text, "") == value


def test_nan_is_a_number():
    assert math.isnan(parse("key: .nan", "f").values["key"])


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: 2\na: 3", "f:3:1", "'a' occurs twice (first at f:1:1)"),
        ("a: &x [1]\nb: *x", "f:1:4", "aliases"),
        ("a: &x [*x]", "f:1:4", "aliases"),
        ("a: !!python/object/apply:os.system [ls]", "f:1:4", "tag !!python/object/apply:os.system"),
        ("a: !mine 3", "f:1:4", "tag !mine"),
        ("a: !!int x", "f:1:4", "no int"),
        ("a: [1", "f:1:6", "not valid YAML"),
        ("a:\tb: 1", "f:1:3", "not valid YAML"),
        ("a: b: c", "f:1:5", "not valid YAML"),
        ("? [1]\n: 2", "f:1:3", "a key must be a word"),
        ("a: 1\n---\nb: 2", "f:2:1", "single document"),
        ("a: \x00", "f", "not valid YAML"),
        ("[" * 5000, "f", "too deeply"),
        (f"a: {'9' * 5000}", "f:1:4", "too long"),
    ],
)
def test_what_is_refused_says_where(text, place, words):
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    assert str(caught.value).startswith(f"{place}: ")
    assert words in str(caught.value)


def test_places_are_of_keys_and_items():
    document = parse("a:\n  b: 1\n  c: [x,\n    y]\n", "f")
    assert document.place(("a", "b")) == "f:2:3"
    assert document.place(("a", "c", 1)) == "f:4:5"
    assert document.place(("a", "missing")) == "f:1:1"
    assert document.place(("nowhere",)) == "f"


def test_overrides_make_sections_and_keep_places():
    document = parse("estimator: pathwise\ntrain: {passes: 3}\n", "f")
    for text in (
        "estimator.num_samples=4",
        "train.passes=1e-1",
        "model.prior.scale=2",
        "data.columns=[a, b]",
    ):
        document.override(text)
    assert document.values == {
        "estimator": {"kind": "pathwise", "num_samples": 4},
        "train": {"passes": 0.1},
        "model": {"prior": {"scale": 2}},
        "data": {"columns": ["a", "b"]},
    }
    assert document.place(("train", "passes")) == "--set train.passes=1e-1"
    assert document.place(("model", "prior", "wrong")) == "--set model.prior.scale=2"
    assert document.place(("estimator", "wrong")) == "f:1:1"


def test_an_override_of_a_section_forgets_the_places_in_it():
    document = parse("train: {passes: 3}\n", "f")
    document.override("train={batch_size: 2}")
    assert document.place(("train", "passes")) == "--set train={batch_size: 2}"


@pytest.mark.parametrize("text", ["train.passes", "=3", "a..b=1", "a=[1", "a=*x", "train.passes.deep=1"])
def test_bad_overrides_name_themselves(text):
    document = Document(values={"train": {"passes": 3}}, name="f")
    with pytest.raises(ConfigError, match="--set") as caught:
        document.override(text)
    assert f"--set {text}" in str(caught.value)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.lists(scalars, max_size=3) | scalars, max_size=4))
def test_what_is_written_is_read_back(values):
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True)
    assert parse(text, "f").values == (values or {})


@pytest.mark.parametrize(
    "word", ["1e-3", "no", "0o17", "017", "1_000", "~", "", "2026-01-01", "1:30", ".inf", "<<"]
)
def test_words_that_look_like_something_else_are_quoted(word):
    text = yaml.dump({"key": word}, Dumper=_Dumper)
    assert parse(text, "f").values == {"key": word}
    assert yaml.safe_load(text) == {"key": word}
