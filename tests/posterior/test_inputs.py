"""Which rows fit a model: by number of columns and, where both have names, by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vigmm.core.errors import DataError, SpecError
from vigmm.data.arrays import ArraySource
from vigmm.posterior.inputs import conform

X = np.arange(12.0).reshape(4, 3)


def test_names_decide_the_order():
    source = conform(ArraySource(X, columns=("c", "a", "b")), ("a", "b", "c"))
    assert source.columns == ("a", "b", "c")
    np.testing.assert_array_equal(source[:], X[:, [1, 2, 0]])


@pytest.mark.parametrize("names", [("a", "b", "c"), ("x0", "x1", "x2")])
def test_rows_without_names_are_taken_in_order(names):
    np.testing.assert_array_equal(conform(X, names)[:], X)


def test_a_model_without_names_takes_any():
    source = conform(ArraySource(X, columns=("c", "a", "b")), ("x0", "x1", "x2"))
    np.testing.assert_array_equal(source[:], X)


def test_default_names_in_another_order_are_names():
    source = conform(ArraySource(X, columns=("x2", "x0", "x1")), ("x0", "x1", "x2"))
    np.testing.assert_array_equal(source[:], X[:, [1, 2, 0]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X[:, :2], "x: the model was fitted on 3 columns (a, b, c), the data have 2"),
        (
            ArraySource(X[:, :2], columns=("a", "q"), name="new.csv"),
            "new.csv: the model was fitted on 3 columns (a, b, c), the data have 2 (a, q)",
        ),
        (
            [1.0, 2.0, 3.0],
            "x: the model was fitted on 3 columns (a, b, c), the data have 1. One row needs two dimensions: "
            "x[None, :]",
        ),
        (
            ArraySource(X, columns=("a", "b", "d")),
            "x: the model was fitted on the columns a, b, c, and the data have a, b, d: c is missing. "
            "Rename them, or give the numbers without names in the model's order",
        ),
    ],
)
def test_what_does_not_fit_is_refused(data, message):
    with pytest.raises(DataError) as caught:
        conform(data, ("a", "b", "c"))
    assert str(caught.value) == message


def test_many_columns_are_not_all_listed():
    names = tuple(f"c{i}" for i in range(100))
    with pytest.raises(
        DataError, match=r"100 columns \(c0, .*c19, \.\.\. \(100 in all\)\), the data have 3$"
    ):
        conform(X, names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": np.array([1.0, 0.0])}, "scale must be > 0 and finite"),
        ({"center": np.array([1.0, np.nan])}, "center must be finite"),
        ({"columns": ("a",)}, "center and scale must be 1 values each"),
        ({"dtype": "float16"}, "dtype must be 'float32' or 'float64', got 'float16'"),
        ({"seed": -1}, "seed must be between 0 and"),
    ],
)
def test_a_posterior_that_makes_no_sense_is_refused(conjugate, change, message):
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(conjugate, **change)


def test_a_posterior_prints_as_one_line(posterior):
    assert str(posterior) == (
        f"Posterior({type(posterior.family).__name__}, 3 components, 2 columns (a, b), float32)"
    )


def test_an_iterator_of_chunks():
    source = conform((np.full((n, 2), float(n)) for n in (1, 2)), ("width", "height"))
    assert source[:].tolist() == [[1, 1], [2, 2], [2, 2]]
