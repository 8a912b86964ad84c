"""Components that are one cluster, and those that are not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vigmm.core.errors import SpecError
from vigmm.math.partitions import adjusted_rand
from vigmm.models import Mixture, Noise


def pair(n, separation, seed=0):
    """Two unit Gaussians in two columns, in equal parts."""
    labels = np.arange(n) % 2
    x = np.random.default_rng(seed).normal(size=(n, 2))
    x[:, 0] += separation * labels
    return x, labels


def heavy(n=1200, seed=1):
    """Two clusters, each a narrow Gaussian within a wide one: four components."""
    rng = np.random.default_rng(seed)
    cluster, wide = np.arange(n) % 2, np.arange(n) // 2 % 2
    x = rng.normal(size=(n, 2)) * np.where(wide, 3.0, 0.7)[:, None]
    x[:, 0] += 20.0 * cluster
    return x, cluster, 2 * cluster + wide


@pytest.fixture(scope="module")
def tails(make):
    x, truth, labels = heavy()
    return x, truth, make(x, labels, model=Mixture(num_components=4))


def test_a_cluster_with_heavy_tails_is_one(tails):
    x, truth, posterior = tails
    found = posterior.clusters()
    assert len(found) == 2
    assert found.component.tolist() == [found.component[0]] * 2 + [found.component[2]] * 2
    assert adjusted_rand(truth, found.predict(x)) > 0.99
    assert adjusted_rand(truth, posterior.predict(x)) < 0.6


def test_what_is_told_of_clusters(tails):
    x, truth, posterior = tails
    found = posterior.clusters()
    assert repr(found) == "Clusters(2 of 4 components)"
    np.testing.assert_allclose(found.weights.sum(), 1.0, rtol=1e-6)
    assert found.weights[0] >= found.weights[1]
    assert (found.apart >= found.level).all()
    # A peak is where its narrow half is: within five standard errors of the centre.
    centre = np.array([x[truth == t].mean(axis=0) for t in (0, 1)])
    nearest = [np.abs(found.peaks - one).max(axis=1).min() for one in centre]
    assert max(nearest) < 5 * 3.0 / np.sqrt(300)


def test_responsibilities_are_sums_over_components(tails):
    x, _, posterior = tails
    found = posterior.clusters()
    shares, parts = found.responsibilities(x[:50]), posterior.responsibilities(x[:50])
    for c in range(2):
        np.testing.assert_allclose(
            shares[:, c], parts[:, found.component == c].sum(axis=1), rtol=1e-5, atol=1e-7
        )
    assert np.array_equal(found.predict(x[:50]), shares.argmax(axis=1))


@pytest.mark.parametrize(("n", "separation", "clusters"), [(40, 2.3, 1), (4000, 2.3, 2), (4000, 1.7, 1)])
def test_two_peaks_are_two_clusters_where_the_data_show_it(make, n, separation, clusters):
    # Equal Gaussians have two peaks from a separation of 2 on, which n rows know to (4 / n)^(1/2): 0.3 is one
    # standard deviation of that with 40 rows, and ten with 4,000.
    x, labels = pair(n, separation)
    posterior = make(x, labels, model=Mixture(num_components=2))
    assert len(posterior.clusters()) == clusters


def test_a_lower_level_believes_more(make):
    # The rows of the case above whose valley not enough draws have.
    x, labels = pair(40, 2.3)
    posterior = make(x, labels, model=Mixture(num_components=2))
    assert len(posterior.clusters(level=0.5)) == 2


def test_units_do_not_matter(make):
    x, _, labels = heavy()
    model = Mixture(num_components=4)
    plain, moved = make(x, labels, model=model), make(1000.0 + [1e-3, 1e5] * x, labels, model=model)
    one, other = plain.clusters(), moved.clusters()
    assert np.array_equal(one.component, other.component)
    # The models were made in float32 of the same standardised rows.
    np.testing.assert_allclose(1000.0 + [1e-3, 1e5] * one.peaks, other.peaks, rtol=1e-4)


def test_the_same_every_time(tails):
    _, _, posterior = tails
    one, other = posterior.clusters(), posterior.clusters()
    assert np.array_equal(one.peaks, other.peaks)
    assert np.array_equal(one.apart, other.apart)


@pytest.mark.parametrize("family", ["conjugate", "meanfield"])
def test_every_family_has_clusters(make, rows, family):
    assert len(make(rows.x, rows.labels, family=family).clusters(num_draws=50)) == 3


def test_one_component_is_one_cluster(make, rows):
    posterior = make(rows.x, np.zeros(len(rows.x), int), model=Mixture(num_components=1))
    found = posterior.clusters(num_draws=20)
    assert (len(found), found.apart.tolist(), found.predict(rows.x[:3]).tolist()) == (1, [1.0], [0, 0, 0])


def test_noise_is_no_cluster(make, rows):
    noisy = Mixture(num_components=3, noise=Noise())
    posterior = make(rows.x, rows.labels, family="meanfield")
    u = posterior.params
    # The same components, with a share of noise beside them.
    params = dataclasses.replace(
        u,
        loc=dataclasses.replace(u.loc, shared=np.append(u.loc.shared, np.float32(-2.0))),
        log_scale=dataclasses.replace(u.log_scale, shared=np.append(u.log_scale.shared, np.float32(-3.0))),
    )
    found = dataclasses.replace(posterior, model=noisy, params=params).clusters(num_draws=20)
    far = rows.x[:1] + 4.5 * np.ptp(rows.x, axis=0)
    shares = found.responsibilities(np.concatenate([rows.x[:4], far]))
    assert shares.shape == (5, 4)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)
    assert found.predict(far).tolist() == [-1]


@pytest.mark.parametrize(
    ("choice", "words"),
    [({"level": 1.0}, "level"), ({"level": 0.3}, "level"), ({"num_draws": 5}, "num_draws")],
)
def test_choices_that_cannot_be(tails, choice, words):
    with pytest.raises(SpecError, match=words):
        tails[2].clusters(**choice)
