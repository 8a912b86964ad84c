"""`partial_fit`: chunks of rows, each seen once."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone

from vigmm.core.errors import ConfigError, DataError
from vigmm.families import MeanField
from vigmm.sklearn import BayesianGaussianMixture


@pytest.fixture(scope="module")
def streamed(clusters, given):
    """Everything remembered."""
    made = BayesianGaussianMixture(**given, random_state=0, forgetting=1.0)
    for chunk in np.array_split(clusters, 5):
        made.partial_fit(chunk)
    return made


def test_nothing_forgotten_is_everything_known(streamed, clusters, given):
    """Where no row is between clusters, chunk by chunk is all at once."""
    whole = BayesianGaussianMixture(**given, random_state=0).fit(clusters)
    a, b = np.argsort(streamed.means_[:, 0]), np.argsort(whole.means_[:, 0])
    for name in ("means_", "covariances_", "mean_precision_", "degrees_of_freedom_"):
        np.testing.assert_allclose(
            getattr(streamed, name)[a], getattr(whole, name)[b], rtol=1e-8, err_msg=name
        )
    assert streamed.n_samples_seen_ == 250
    assert len(streamed.lower_bounds_) == streamed.n_iter_


def test_the_posterior_is_one_of_as_many_rows_as_were_seen(clusters, given):
    made = BayesianGaussianMixture(**given, random_state=0, forgetting=0.7)
    for i, chunk in enumerate(np.array_split(clusters, 5), 1):
        made.partial_fit(chunk)
        assert made.mean_precision_.sum() - 3 * 0.3 == pytest.approx(50 * i, rel=1e-9)


def test_a_known_total_is_what_the_posterior_stands_for(clusters, given):
    made = BayesianGaussianMixture(**given, random_state=0, total_rows=250)
    for _ in range(2):
        for chunk in np.array_split(clusters, 5):
            made.partial_fit(chunk)
            assert made.mean_precision_.sum() - 3 * 0.3 == pytest.approx(250, rel=1e-9)
    assert made.n_samples_seen_ == 500
    sizes = np.sort(made.mean_precision_ - 0.3)
    np.testing.assert_allclose(sizes, [45, 80, 125], atol=12)


def test_old_chunks_are_forgotten_when_asked(clusters):
    """The second half of the rows has moved; who forgets follows it further."""
    near, far = clusters[:125], clusters[125:] + 100.0
    shift = {}
    for forgetting in (1.0, 0.6):
        made = BayesianGaussianMixture(n_components=1, forgetting=forgetting)
        shift[forgetting] = made.partial_fit(near).partial_fit(far).means_[0, 0] - near[:, 0].mean()
    assert shift[1.0] == pytest.approx((far[:, 0].mean() - near[:, 0].mean()) / 2, rel=1e-3)
    assert shift[0.6] / shift[1.0] == pytest.approx(2 * 0.5**0.6, rel=1e-3)


def test_the_bound_of_a_stream_is_that_of_its_rows(streamed, clusters, given):
    """The last estimate is from a fifth of the rows, scaled up: within what fifths differ by."""
    whole = BayesianGaussianMixture(**given, random_state=0).fit(clusters)
    assert abs(streamed.lower_bound_ - whole.lower_bound_) < 0.05 * abs(whole.lower_bound_)


def test_a_stream_goes_on_from_a_fit_and_drops_it(clusters, given):
    made = BayesianGaussianMixture(**given, random_state=0).fit(clusters[:150])
    assert hasattr(made, "fit_")
    made.partial_fit(clusters[150:])
    assert not hasattr(made, "fit_")
    assert made.n_samples_seen_ == 250


def test_rows_that_break_the_model_leave_it_as_it_was(streamed, clusters):
    before = {name: np.copy(getattr(streamed, name)) for name in ("means_", "covariances_")}
    with pytest.raises(DataError, match="left as it was"):
        streamed.partial_fit(np.full((100, 2), 1e200))
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(streamed, name), value)
    assert streamed.n_samples_seen_ == 250


def test_a_family_without_natural_parameters_is_refused(clusters):
    made = BayesianGaussianMixture(family="meanfield")
    with pytest.raises(ConfigError, match="partial_fit needs family='conjugate', not 'meanfield'"):
        clone(made).partial_fit(clusters)


def test_a_stream_does_not_go_on_from_a_posterior_without_natural_parameters(clusters, fitted):
    made = copy.deepcopy(fitted)
    made.posterior_ = dataclasses.replace(made.posterior_, family=MeanField())
    with pytest.raises(ConfigError, match="cannot go on from a posterior that was fitted with another"):
        made.partial_fit(clusters)
    assert made.n_samples_seen_ == 250
