"""Predictions and summaries as tables of the library that the rows came from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from vigmm.posterior.prediction import Assignments
from vigmm.posterior.tables import assignment_columns


@pytest.fixture(scope="module")
def frame(rows):
    """The rows in another order of columns, with a text between them and an index of their own."""
    frame = pd.DataFrame({"b": rows.x[:, 1], "city": "Rome", "a": rows.x[:, 0]})
    return frame.set_index(pd.Index(range(1000, 1000 + len(frame)), name="id"))


def test_a_pandas_frame_keeps_its_index(conjugate, rows, frame):
    table = conjugate.predict_table(frame)
    ours = conjugate.assign(rows.x)
    assert isinstance(table, pd.DataFrame)
    assert table.index.equals(frame.index)
    assert list(table.columns) == ["component", "probability", "log_density"]
    np.testing.assert_array_equal(table["component"], ours.component)
    np.testing.assert_allclose(table["log_density"], ours.log_density, rtol=1e-6)
    joined = frame.join(table)
    assert len(joined) == len(frame)
    assert not joined.isna().any().any()
    part = conjugate.predict_table(frame[frame["a"] > 0])
    np.testing.assert_array_equal(part["component"], table["component"][frame["a"] > 0])


def test_polars_and_arrow(conjugate, rows, frame):
    ours = conjugate.responsibilities(rows.x)
    polars = conjugate.predict_table(pl.from_pandas(frame), full=True)
    assert isinstance(polars, pl.DataFrame)
    assert polars.columns == ["component", "probability", "log_density", "p0", "p1", "p2"]
    np.testing.assert_allclose(polars.select("p0", "p1", "p2").to_numpy(), ours, atol=1e-6)
    arrow = conjugate.predict_table(pa.Table.from_pandas(frame, preserve_index=False))
    assert isinstance(arrow, pa.Table)
    assert arrow.column("component").to_pylist() == polars["component"].to_list()
    assert isinstance(conjugate.predict_table(rows.x), pa.Table)


def test_the_noise_has_its_column():
    one = np.ones(2)
    found = Assignments(np.array([0, -1]), one, one, np.array([[0.9, 0.0, 0.1], [0.0, 0.2, 0.8]]))
    assert list(assignment_columns(found, noise=True))[3:] == ["p0", "p1", "p_noise"]
    assert list(assignment_columns(found, noise=False))[3:] == ["p0", "p1", "p2"]
    assert list(assignment_columns(dataclasses.replace(found, responsibilities=None), noise=True))[3:] == []


def test_a_summary_as_a_table(conjugate):
    summary = conjugate.summary(rows=240)
    table = summary.to_arrow()
    assert table.num_rows == 6
    row = table.to_pylist()[3]
    assert (row["component"], row["column"]) == (int(summary.component[1]), "b")
    assert row["mean"] == summary.mean.mean[1, 1]
    assert row["sd_high"] == summary.sd.high[1, 1]
    assert row["weight_low"] == summary.weight.low[1]
    assert row["expected_rows"] == pytest.approx(240 * row["weight"])
