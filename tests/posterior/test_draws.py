"""Draws of parameters and rows, and the summaries that are computed from them."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from vigmm.core.errors import SpecError
from vigmm.models import weights as sticks
from vigmm.posterior.draws import draw_blocks
from vigmm.posterior.summary import Spread, Summary

KEY = jax.random.key(5)


def test_draws_have_shapes_units_and_proper_values(posterior):
    draws = posterior.draw(KEY, 40)
    assert len(draws) == 40
    assert draws.weights.shape == (40, 3)
    assert draws.means.shape == (40, 3, 2)
    assert draws.covariances.shape == (40, 3, 2, 2)
    assert {leaf.dtype for leaf in (draws.weights, draws.means, draws.covariances)} == {np.dtype("float64")}
    np.testing.assert_allclose(draws.weights.sum(axis=1), 1.0, atol=1e-12)
    assert (np.linalg.eigvalsh(draws.covariances) > 0).all()


def test_draw_i_depends_on_nothing_but_key_and_i(posterior):
    ten = posterior.draw(KEY, 10)
    np.testing.assert_array_equal(posterior.draw(KEY, 4).means, ten.means[:4])
    with jax.enable_x64(True):
        np.testing.assert_array_equal(posterior.draw(KEY, 10).means, ten.means)
    assert not np.array_equal(posterior.draw(jax.random.key(6), 10).means, ten.means)


def test_blocks_of_draws_do_not_show(rows, make, monkeypatch):
    posterior = make(rows.x, rows.labels, family="meanfield")
    ten = posterior.draw(KEY, 10)
    monkeypatch.setattr("vigmm.posterior.draws._BLOCK_DRAWS", 4)
    assert [first for first, _ in draw_blocks(posterior, KEY, 10)] == [0, 4, 8]
    np.testing.assert_allclose(posterior.draw(KEY, 10).means, ten.means, rtol=1e-12)


def test_draws_have_the_moments_of_the_closed_form(conjugate):
    """Five standard errors, in the units of the data."""
    draws = conjugate.draw(KEY, 4000)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), conjugate.params)
        nw = conjugate.model.covariance.standard(params.components)
        weights, weights_sd = (np.asarray(value) for value in sticks.weight_moments(params.weights))
    loc = conjugate.center + conjugate.scale * np.asarray(nw.loc)
    factor, spread = np.asarray(nw.rate_factor), np.asarray(nw.dof) - 2 - 1
    unit = np.outer(conjugate.scale, conjugate.scale)
    cov = np.einsum("kij,klj->kil", factor, factor) / spread[:, None, None] * unit
    for found, expected in ((draws.weights, weights), (draws.means, loc), (draws.covariances, cov)):
        se = found.std(axis=0, ddof=1) / np.sqrt(len(found))
        assert np.all(np.abs(found.mean(axis=0) - expected) < 5 * se)
    np.testing.assert_allclose(draws.weights.std(axis=0), weights_sd, rtol=0.1)


def test_a_number_of_draws_below_one_is_refused(conjugate):
    for call in (conjugate.draw, conjugate.sample):
        with pytest.raises(SpecError, match="n must be >= 1, got 0"):
            call(KEY, 0)


def test_sampled_rows_have_the_predictive_distribution(double):
    """Mean and covariance of rows, and the share of each component, against the expectations."""
    n = 20_000
    x, labels = double.sample(KEY, n)
    assert x.shape == (n, 2)
    assert labels.dtype == np.int32
    weights, means, covs = double.weights, double.means, double.covariances
    mean = weights @ means
    shift = means - mean
    cov = np.einsum("k,kij->ij", weights, covs + shift[:, :, None] * shift[:, None, :])
    z = (x - mean) / double.scale
    # Rows share 1,024 draws of the parameters, whose own noise adds to that of the rows.
    extra = double.summary().weight.sd.max() * np.abs(shift / double.scale).sum() / np.sqrt(1024)
    assert np.all(np.abs(z.mean(axis=0)) < 5 * (z.std(axis=0) / np.sqrt(n) + extra))
    np.testing.assert_allclose(
        np.cov(z.T), cov / np.outer(double.scale, double.scale), atol=5 * 3 / np.sqrt(n) + 5 * extra
    )
    np.testing.assert_allclose(np.bincount(labels) / n, weights, atol=5 * 0.5 / np.sqrt(n) + 5 * extra)
    for k in range(3):
        np.testing.assert_allclose(z[labels == k].mean(axis=0), shift[k] / double.scale, atol=0.1)


def test_sampled_rows_follow_from_the_key(posterior):
    x, labels = posterior.sample(KEY, 50)
    again, _ = posterior.sample(KEY, 50)
    np.testing.assert_array_equal(x, again)
    assert not np.array_equal(posterior.sample(jax.random.key(6), 50)[0], x)
    # They are rows that the model finds ordinary.
    assert np.mean(posterior.predict(x) == labels) > 0.8


def test_expectations_are_those_of_the_summary(posterior):
    summary = posterior.summary()
    np.testing.assert_allclose(posterior.weights.sum(), 1.0, atol=1e-12)
    np.testing.assert_allclose(posterior.weights[summary.component], summary.weight.mean, rtol=1e-10)
    np.testing.assert_allclose(posterior.means[summary.component], summary.mean.mean, rtol=1e-10)
    assert posterior.covariances.shape == (3, 2, 2)
    assert posterior.weights is not posterior.means


def test_a_summary_is_ordered_and_covers_the_truth(posterior, rows):
    summary = posterior.summary(level=0.99, rows=240)
    assert sorted(summary.component.tolist()) == [0, 1, 2]
    assert (np.diff(summary.weight.mean) <= 0).all()
    np.testing.assert_allclose(summary.expected_rows.sum(), 240)
    for k, number in enumerate(summary.component):
        mine = rows.x[rows.labels == number]
        for spread, truth in ((summary.mean, mine.mean(axis=0)), (summary.sd, mine.std(axis=0))):
            assert (spread.low[k] < truth).all()
            assert (truth < spread.high[k]).all()
        assert summary.weight.low[k] < 1 / 3 < summary.weight.high[k]
    narrow = posterior.summary(level=0.5, num_draws=200)
    assert (narrow.weight.high - narrow.weight.low < summary.weight.high - summary.weight.low).all()
    assert narrow.num_draws == 200
    assert narrow.expected_rows is None


def test_a_summary_is_json_with_names_and_units(conjugate):
    data = json.loads(json.dumps(conjugate.summary(rows=240).to_dict()))
    assert data["level"] == 0.9
    assert data["columns"] == ["a", "b"]
    first = data["components"][0]
    assert first["expected_rows"] == pytest.approx(240 * first["weight"]["mean"])
    feature = first["features"][1]
    assert feature["column"] == "b"
    assert feature["mean"]["low"] < feature["mean"]["mean"] < feature["mean"]["high"]
    assert 999 < feature["mean"]["mean"] < 1001
    assert 0 < feature["sd"]["mean"] < 0.1


def test_a_summary_prints_as_a_table(conjugate):
    lines = str(conjugate.summary(rows=240)).splitlines()
    assert lines[0].split() == ["component", "weight", "90%", "interval", "rows", "a", "b"]
    assert len({len(line) for line in lines[:4]}) == 1
    assert "999.99" in lines[1]
    assert "1000.0" in lines[2]
    assert "its width, not an error" in lines[-1]


def test_a_table_hides_what_is_too_small_or_too_wide():
    def spread(values):
        values = np.asarray(values, np.float64)
        return Spread(mean=values, sd=values, low=values, high=values)

    shape = (4, 9)
    summary = Summary(
        component=np.array([2, 0, 1, 3]),
        weight=spread([0.7, 0.2991, 0.0005, 0.0004]),
        mean=spread(np.full(shape, 81234.5)),
        sd=spread(np.full(shape, 1234.5)),
        columns=tuple(f"c{i}" for i in range(9)),
        level=0.9,
        num_draws=10,
        rows=None,
    )
    text = str(summary)
    assert "2 more components have a weight below 0.1% each, 0.09% together." in text
    assert "3 more columns are not shown." in text
    assert "c5" in text
    assert "c6" not in text
    assert "81230 ± 1230" in text
    one = dataclasses.replace(summary, component=summary.component[:3])
    assert "1 more component has a weight below 0.1%, 0.05%." in str(
        dataclasses.replace(one, weight=spread([0.7, 0.2995, 0.0005]))
    )


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"level": 1.0}, "level must be between 0 and 1"),
        ({"level": float("nan")}, "level must be between 0 and 1"),
        ({"num_draws": 1}, "num_draws must be >= 2"),
        ({"rows": -1}, "rows must be >= 0"),
    ],
)
def test_a_summary_that_makes_no_sense_is_refused(conjugate, choice, message):
    with pytest.raises(SpecError, match=message):
        conjugate.summary(**choice)
