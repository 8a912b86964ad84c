"""Figures of a run in the units of the data."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vigmm.reporting import InDataUnits, holdout_density, in_data_units

# Its density of a row is the first number of the row.
POSTERIOR = SimpleNamespace(log_predictive=lambda raw: raw[:, 0])
ROWS = np.random.default_rng(0).normal(size=(50, 2))


def test_the_held_out_density_and_its_error():
    mean, error = holdout_density(POSTERIOR, ROWS, None)
    assert mean == pytest.approx(ROWS[:, 0].mean())
    assert error == pytest.approx(ROWS[:, 0].std(ddof=1) / np.sqrt(50))
    weight = np.repeat([1.0, 0.0, 2.0, 0.0, 1.0], 10)
    weighted, _ = holdout_density(POSTERIOR, ROWS, weight)
    assert weighted == pytest.approx(np.repeat(ROWS[:, 0], weight.astype(int)).mean())
    # A scale of the weights changes nothing.
    assert holdout_density(POSTERIOR, ROWS, 7.0 * weight) == pytest.approx(
        holdout_density(POSTERIOR, ROWS, weight)
    )


def test_no_row_of_weight_has_no_density():
    assert holdout_density(POSTERIOR, ROWS[:0], None) is None
    assert holdout_density(POSTERIOR, ROWS, np.zeros(50)) is None


def test_columns_are_scaled_back():
    """Of rows twice as wide the density is half, in each of three columns."""
    log_scale = 3 * np.log(2.0)
    metrics = {"elbo": np.array([-100.0, -90.0], np.float32), "holdout": np.array([np.nan, -2.0])}
    found = in_data_units(metrics | {"rate": np.ones(2)}, 10.0, log_scale)
    np.testing.assert_allclose(found["elbo"], [-100 - 10 * log_scale, -90 - 10 * log_scale])
    np.testing.assert_allclose(found["elbo_per_row"], found["elbo"] / 10)
    np.testing.assert_allclose(found["holdout"], [np.nan, -2 - log_scale])
    told = []
    inner = SimpleNamespace(update=lambda step, values: told.append((step, values)))
    InDataUnits(inner, 10.0, log_scale).update(3, {"elbo": -90.0, "holdout": -2.0})
    ((step, values),) = told
    assert step == 3
    assert values == pytest.approx({name: found[name][1] for name in ("elbo", "elbo_per_row", "holdout")})
