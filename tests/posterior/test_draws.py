"""Draws of parameters and rows, and the summaries that are computed from them."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from scipy import stats

from vigmm.core.errors import SpecError
from vigmm.models import sticks
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
        nw = conjugate.model.algebra.standard(params.components)
        weights, weights_sd = (np.asarray(value) for value in sticks.weight_moments(params.weights, 3))
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


def test_sampled_rows_have_the_predictive_distribution(rows, make):
    """Kolmogorov and Smirnov's test of each column. Few rows were seen, so much is due to the parameters."""
    few = np.concatenate([np.flatnonzero(rows.labels == k)[:n] for k, n in enumerate((9, 4, 2))])
    posterior = make(rows.x[few], rows.labels[few])
    x, labels = posterior.sample(KEY, 1024)  # so many that each has a draw of the parameters of its own
    assert x.shape == (1024, 2)
    assert labels.dtype == np.int32
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), posterior.params)
        nw = posterior.model.algebra.standard(params.components)
        weights = np.asarray(sticks.expected_weights(params.weights, 3))
    kappa, df = np.asarray(nw.mean_precision), np.asarray(nw.dof) - 1
    spread = np.einsum("kij,kij->ki", nw.rate_factor, nw.rate_factor) * ((kappa + 1) / (kappa * df))[:, None]
    z = (x - posterior.center) / posterior.scale

    def cdf(values, d):
        shift = (values[:, None] - np.asarray(nw.loc)[:, d]) / np.sqrt(spread[:, d])
        return stats.t.cdf(shift, df) @ weights

    for d in range(2):
        assert stats.kstest(z[:, d], lambda values, d=d: cdf(values, d)).pvalue > 1e-4
    share = np.bincount(labels, minlength=3) / 1024
    assert np.all(np.abs(share - weights) < 5 * np.sqrt(weights * (1 - weights) / 1024))


def test_many_sampled_rows_share_draws_and_belong_to_their_components(posterior):
    n = 20_000
    x, labels = posterior.sample(KEY, n)
    np.testing.assert_allclose(np.bincount(labels) / n, posterior.weights, atol=0.03)
    z, means = ((value - posterior.center) / posterior.scale for value in (x, posterior.means))
    covs = posterior.covariances / np.outer(posterior.scale, posterior.scale)
    for k in range(3):
        mine = z[labels == k]
        np.testing.assert_allclose(mine.mean(axis=0), means[k], atol=0.05)
        # A standard error of 2 %, and 1 % more than the expectation because the means vary.
        np.testing.assert_allclose(mine.var(axis=0), np.diagonal(covs[k]), rtol=0.12)
        assert abs(np.cov(mine.T)[0, 1] - covs[k, 0, 1]) < 0.12 * np.sqrt(np.diagonal(covs[k]).prod())


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


def test_intervals_hold_what_they_say(posterior):
    """Shares of other draws below and above each interval, 5 standard errors."""
    summary, draws = posterior.summary(num_draws=4000), posterior.draw(KEY, 4000)
    order = summary.component
    sds = np.sqrt(np.diagonal(draws.covariances, axis1=-2, axis2=-1))
    bound = 5 * np.sqrt(2 * 0.05 * 0.95 / 4000)
    for spread, values in ((summary.weight, draws.weights), (summary.mean, draws.means), (summary.sd, sds)):
        values = values[:, order]
        for outside in (values < spread.low, values > spread.high):
            np.testing.assert_allclose(outside.mean(axis=0), 0.05, atol=bound)
        np.testing.assert_allclose(spread.sd, values.std(axis=0), rtol=0.12)


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
