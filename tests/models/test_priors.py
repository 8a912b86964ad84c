"""The component prior: what it says in the units of the data, and what it refuses."""

from __future__ import annotations

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vigmm.core.errors import SpecError
from vigmm.core.struct import is_spec
from vigmm.models import DataScale, Full, NormalWishart

MEAN, SD = np.array([10.0, -3.0]), np.array([4.0, 0.02])
CORRELATION = np.array([[1.0, 0.6], [0.6, 1.0]])


def scale_of(mean=MEAN, sd=SD, correlation=CORRELATION, **changes) -> DataScale:
    """Moments of data that is standardised by its own mean and sd."""
    values = {"mean": mean, "cov": correlation * np.outer(sd, sd), "center": mean, "scale": sd}
    return DataScale(**{**values, **changes})


def build(spec=None, data=None, *, k=4, dtype=jnp.float64):
    structure = Full().structure
    return (spec or NormalWishart()).build(
        data or scale_of(), structure=structure, num_components=k, most=k, dtype=dtype
    )


def expected_covariance(built, component=0):
    """E[Lambda^-1] = B / (nu - D - 1), in the standardised space."""
    factor = np.asarray(built.rate_factor[component], np.float64)
    return factor @ factor.T / (float(built.dof[component]) - len(factor) - 1)


def test_default_follows_the_data(x64):
    """K balls tile the data's ellipsoid: covariance / K^(2/D); weak in the mean; D + 2 degrees of freedom."""
    built = build(NormalWishart(shrink=0.0), k=4)
    np.testing.assert_allclose(built.loc, np.zeros((4, 2)), atol=1e-12)
    np.testing.assert_array_equal(built.mean_precision, np.full(4, 0.01))
    np.testing.assert_array_equal(built.dof, np.full(4, 4.0))
    for k in range(4):
        np.testing.assert_allclose(expected_covariance(built, k), CORRELATION / 4, rtol=1e-12)


def test_shrink_takes_from_the_correlations_only(x64):
    found = expected_covariance(build(NormalWishart(shrink=0.5), k=1))
    np.testing.assert_allclose(found, [[1.0, 0.3], [0.3, 1.0]], rtol=1e-12)


def test_expected_covariance_is_what_draws_say(x64):
    """The mean of SciPy's inverse Wishart with these hyperparameters."""
    built = build(NormalWishart(dof=12.0, shrink=0.0), k=1)
    rate = np.asarray(built.rate_factor[0] @ built.rate_factor[0].T)
    np.testing.assert_allclose(stats.invwishart(12.0, rate).mean(), CORRELATION, rtol=1e-10)


def test_given_values_are_in_the_units_of_the_data(x64):
    cov = ((5.0, 0.01), (0.01, 0.003))
    built = build(NormalWishart(mean=(12.0, -2.0), mean_precision=0.5, dof=7.0, covariance=cov, scale=2.0))
    np.testing.assert_allclose(built.loc[0], [0.5, 50.0], rtol=1e-12)
    want = 2.0 * np.array(cov) / np.outer(SD, SD)
    np.testing.assert_allclose(expected_covariance(built), want, rtol=1e-12)
    assert float(built.dof[0]) == 7.0
    assert float(built.mean_precision[0]) == 0.5


def test_units_of_the_data_do_not_matter(x64):
    """Grams or tonnes, the prior in the standardised space is the same."""
    factor = np.array([1e-6, 1e3])
    shifted = scale_of(MEAN * factor + 5.0, SD * factor)
    one, two = build(), build(data=shifted)
    np.testing.assert_allclose(one.rate_factor, two.rate_factor, rtol=1e-10)
    np.testing.assert_allclose(one.loc, two.loc, atol=1e-10)


def test_description_is_in_the_units_of_the_data(x64):
    spec = NormalWishart(shrink=0.0, dof=6.0)
    found = spec.describe(scale_of(), num_components=4)
    json.dumps(found)
    np.testing.assert_allclose(found["mean"], MEAN, rtol=1e-12)
    np.testing.assert_allclose(found["expected_covariance"], CORRELATION * np.outer(SD, SD) / 4, rtol=1e-12)
    assert found["dof"] == 6.0
    assert found["mean_precision"] == 0.01


def test_description_rebuilds_the_prior(x64):
    """What the manifest prints can be typed back in."""
    spec = NormalWishart(scale=1.7)
    built = build(spec)
    said = spec.describe(scale_of(), num_components=4)
    again = NormalWishart(
        mean=tuple(said["mean"]),
        mean_precision=said["mean_precision"],
        dof=said["dof"],
        covariance=tuple(map(tuple, said["expected_covariance"])),
    )
    np.testing.assert_allclose(build(again).rate_factor, built.rate_factor, rtol=1e-9)


@pytest.mark.parametrize(
    "correlation",
    [np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 0.0]]), np.zeros((2, 2))],
    ids=["collinear", "constant column", "all constant"],
)
def test_degenerate_data_still_give_a_proper_prior(dtype, correlation):
    built = build(data=scale_of(correlation=correlation), dtype=dtype)
    factor = np.asarray(built.rate_factor)
    assert np.isfinite(factor).all()
    assert np.diagonal(factor, axis1=1, axis2=2).min() > 0
    assert built.rate_factor.dtype == dtype


def test_every_array_has_the_asked_dtype(dtype):
    for leaf in dataclasses.asdict(build(dtype=dtype)).values():
        assert leaf.dtype == dtype


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mean_precision", 0.0),
        ("mean_precision", np.nan),
        ("scale", -1.0),
        ("scale", np.inf),
        ("dof", 0.0),
        ("dof", np.nan),
        ("shrink", -0.1),
        ("shrink", 1.1),
        ("shrink", np.nan),
    ],
)
def test_values_that_are_refused_at_once(field, value):
    with pytest.raises(SpecError, match=f"^{field} must be"):
        NormalWishart(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dof", 3.0),  # D + 1: no expected covariance
        ("mean", (1.0,)),
        ("mean", (1.0, 2.0, 3.0)),
        ("mean", (np.nan, 1.0)),
        ("mean", (np.inf, 1.0)),
        ("covariance", ((1.0,),)),
        ("covariance", ((1.0, 0.5), (0.0, 1.0))),
        ("covariance", ((1.0, 2.0), (2.0, 1.0))),
        ("covariance", ((1e-9, 5e-10), (0.0, 1e-9))),
        ("covariance", ((np.nan, 0.0), (0.0, 1.0))),
        ("covariance", ((np.inf, 0.0), (0.0, 1.0))),
    ],
)
def test_values_that_are_refused_for_these_data(field, value):
    with pytest.raises(SpecError, match=f"^{field} must be"):
        build(NormalWishart(**{field: value}), dtype=jnp.float32)


def test_a_prior_is_a_spec():
    spec = NormalWishart(mean=(0.0, 1.0), covariance=((1.0, 0.0), (0.0, 1.0)))
    assert is_spec(spec)
    assert hash(spec) == hash(NormalWishart(mean=(0.0, 1.0), covariance=((1.0, 0.0), (0.0, 1.0))))
