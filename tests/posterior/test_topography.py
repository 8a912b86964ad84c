"""Peaks and valleys against what is known of mixtures of two Gaussians, and against derivatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vigmm.models import Gaussian, StudentT
from vigmm.posterior import Draws
from vigmm.posterior.topography import Topography, ways

PAIR = np.array([[0, 1]])


def mixture(weights, means, covariances, likelihood=None, own=None):
    num = len(weights)
    draws = Draws(
        weights=np.asarray(weights, np.float64)[None],
        means=np.asarray(means, np.float64)[None],
        covariances=np.asarray(covariances, np.float64)[None],
        own=np.zeros((1, num, 0)) if own is None else np.asarray(own, np.float64)[None],
        noise=np.zeros(1),
    )
    return Topography(likelihood or Gaussian(), draws)


def bumps(separation):
    """Two equal Gaussians of unit variance in one column: two peaks from a separation of 2 on."""
    return mixture([0.5, 0.5], [[0.0], [separation]], np.ones((2, 1, 1)))


def along(surface, *, line=True, ridge=True):
    peaks, metric = surface.climb(surface.draws.means[0])
    return ways(peaks, metric, PAIR)[:, [0] * line + [1] * ridge]


def skewed(likelihood=None, own=None):
    """Three columns, nothing symmetric."""
    rng = np.random.default_rng(3)
    root = rng.normal(size=(4, 3, 3))
    covariances = root @ np.swapaxes(root, 1, 2) + 0.3 * np.eye(3)
    return mixture([0.4, 0.3, 0.2, 0.1], 2.0 * rng.normal(size=(4, 3)), covariances, likelihood, own)


def test_the_height_is_the_log_density():
    surface = skewed()
    x = np.random.default_rng(0).normal(size=(5, 7, 3))
    one = surface.draws
    parts = [
        w * stats.multivariate_normal(m, c).pdf(x)
        for w, m, c in zip(one.weights[0], one.means[0], one.covariances[0], strict=True)
    ]
    np.testing.assert_allclose(surface.heights(x)[0], np.log(np.sum(parts, axis=0)), rtol=1e-12)


def test_the_height_of_student_components_is_the_log_density():
    own = np.log([[3.0], [8.0], [20.0], [1.0]])
    surface = skewed(StudentT(), own)
    x = np.random.default_rng(0).normal(size=(9, 3))
    one = surface.draws
    parts = [
        w * stats.multivariate_t(m, c, df=np.exp(nu[0])).pdf(x)
        for w, m, c, nu in zip(one.weights[0], one.means[0], one.covariances[0], own, strict=True)
    ]
    np.testing.assert_allclose(surface.heights(x)[0], np.log(np.sum(parts, axis=0)), rtol=1e-11)


@pytest.mark.parametrize(("separation", "peaks"), [(1.9, 1), (2.1, 2)])
def test_two_equal_bumps_have_two_peaks_from_two_standard_deviations_on(separation, peaks):
    surface = bumps(separation)
    tops, _ = surface.climb(surface.draws.means[0])
    assert (abs(tops[1, 0] - tops[0, 0]) > 0.1) == (peaks == 2)
    assert (surface.depths(along(surface))[0, 0] > 1e-6) == (peaks == 2)


def test_the_depth_is_from_the_lower_peak_to_the_bottom():
    surface = mixture([0.7, 0.3], [[0.0], [4.0]], [[[1.0]], [[0.5]]])
    grid = np.linspace(-1, 5, 200_001)
    height = np.log(0.7 * stats.norm(0, 1).pdf(grid) + 0.3 * stats.norm(4, 0.5**0.5).pdf(grid))
    bottom = height[(grid > 1) & (grid < 4)].min()
    right = height[grid > 3].max()
    # 48 places on 4 units: the bottom is at most 0.05 from one of them, where the curve has risen by 0.003.
    assert surface.depths(along(surface))[0, 0] == pytest.approx(right - bottom, abs=0.003)


@pytest.mark.parametrize("likelihood", ["gaussian", "student_t"])
def test_a_climb_goes_up_and_ends_where_the_slope_is_zero(likelihood):
    surface = skewed() if likelihood == "gaussian" else skewed(StudentT(), np.log([[3.0], [8], [20], [2]]))
    start = surface.draws.means[0] + 0.5
    tops, metric = surface.climb(start)
    assert (surface.heights(tops)[0] >= surface.heights(start)[0]).all()
    step = 1e-5 * np.eye(3)
    slope = (surface.heights(tops[:, None] + step) - surface.heights(tops[:, None] - step))[0] / 2e-5
    # In standard deviations, and from differences that are right to about 1e-9.
    assert np.abs(np.einsum("bd,bde,be->b", slope, np.linalg.inv(metric), slope)).max() < 1e-10


def test_a_ridge_goes_around_the_valley_of_a_straight_line():
    # The arms of an L: the density falls on the line between their centres, and hardly along the arms.
    surface = mixture([0.5, 0.5], [[3.0, 0.0], [0.0, 3.0]], [np.diag([4.0, 0.1]), np.diag([0.1, 4.0])])
    straight = surface.depths(along(surface, ridge=False))[0, 0]
    bent = surface.depths(along(surface, line=False))[0, 0]
    assert straight > bent + 1.0
    assert surface.depths(along(surface))[0, 0] == bent


def test_heights_do_not_depend_on_how_many_are_asked_for():
    surface = skewed()
    x = np.random.default_rng(1).normal(size=(300, 3))
    whole = surface.heights(x)[0]
    assert np.array_equal(whole[:5], surface.heights(x[:5])[0])


def test_a_weight_of_zero_has_no_density():
    surface = mixture([1.0, 0.0], [[0.0], [9.0]], np.ones((2, 1, 1)))
    tops, _ = surface.climb(surface.draws.means[0])
    np.testing.assert_allclose(tops, 0.0, atol=1e-6)


def test_nothing_is_left_in_double_precision():
    bumps(3.0).heights(np.zeros((1, 1)))
    assert jnp.zeros(()).dtype == jnp.float32
    assert not jax.config.jax_enable_x64
