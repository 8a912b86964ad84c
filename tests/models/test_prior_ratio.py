"""A prior whose rate is given: degrees of freedom are free of it, down to D - 1."""

from __future__ import annotations

import numpy as np
import pytest

from vigmm.core.errors import SpecError
from vigmm.models import DataScale, Mixture, NormalWishart
from vigmm.models.covariance import COVARIANCES

COV = ((4.0, 1.0), (1.0, 9.0))
SCALE = DataScale(
    mean=np.zeros(2), cov=np.array([[5.0, 0.0], [0.0, 7.0]]), center=np.zeros(2), scale=np.array([2.0, 3.0])
)


def rate(prior, kind):
    """B in the units of the data, or its diagonal."""
    model = Mixture(num_components=2, covariance=COVARIANCES[kind](), prior=prior)
    built = model.build_prior(SCALE, dtype=np.dtype("float64")).components
    if hasattr(built, "rate_factor"):
        factor = np.asarray(built.rate_factor)[0] * SCALE.scale[:, None]
        return factor @ factor.T
    return 2.0 * np.asarray(built.rate)[0] * SCALE.scale**2


@pytest.mark.parametrize("dof", [1.5, 3.0, 20.0])
@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_the_rate_is_what_was_given_whatever_the_degrees_of_freedom(x64, kind, dof):
    expected = np.asarray(COV) if kind != "diag" else np.diag(COV)
    found = rate(NormalWishart(covariance=COV, dof=dof, ratio=1.0), kind)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(rate(NormalWishart(covariance=COV, dof=dof, ratio=3.0), kind), 3 * expected)


def test_one_more_than_needed_is_the_default(x64):
    np.testing.assert_array_equal(rate(NormalWishart(), "full"), rate(NormalWishart(ratio=1.0), "full"))


def test_the_expected_covariance_is_said_where_there_is_one():
    def expected(dof):
        prior = NormalWishart(covariance=COV, dof=dof, ratio=2.0)
        return prior.describe(SCALE, num_components=2)["expected_covariance"]

    assert expected(3.0) is None
    np.testing.assert_allclose(expected(4.0), 2 * np.asarray(COV))


def test_what_cannot_be_is_refused(x64):
    with pytest.raises(SpecError, match="ratio must be > 0"):
        NormalWishart(ratio=0.0)
    with pytest.raises(SpecError, match="dof must be > D - 1 = 1 for data of 2 columns"):
        rate(NormalWishart(dof=1.0, ratio=1.0), "full")
