"""The generator draws from the density it states."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from vigmm.core.errors import SpecError
from vigmm.data.synthetic import gaussian_mixture


def test_density_agrees_with_scipy() -> None:
    data = gaussian_mixture(200, 3, 4, seed=0, dtype=np.float64)
    # The generator's determinants are 1, which would hide a missing log determinant.
    scale = np.array([0.5, 1.0, 2.0, 4.0])[:, None, None]
    data = dataclasses.replace(data, covs=data.covs * scale)
    joint = np.stack(
        [
            np.log(w) + multivariate_normal(m, c).logpdf(data.x)
            for w, m, c in zip(data.weights, data.means, data.covs, strict=True)
        ],
        axis=1,
    )
    np.testing.assert_allclose(data.log_density(data.x), logsumexp(joint, axis=1), rtol=1e-11)
    np.testing.assert_allclose(data.responsibilities(data.x).sum(1), 1, rtol=1e-12)
    far = data.log_density(np.full((1, 3), 1e6))
    assert np.isfinite(far).all()


def test_rows_follow_the_mixture() -> None:
    n = 20_000
    data = gaussian_mixture(n, 2, 3, seed=1)
    assert data.x.dtype == np.float32
    counts = np.bincount(data.labels, minlength=3)
    np.testing.assert_array_less(np.abs(counts / n - data.weights), 5 * np.sqrt(data.weights / n))
    for k in range(3):
        mine = data.x[data.labels == k].astype(np.float64)
        sd = np.sqrt(np.diag(data.covs[k]))
        np.testing.assert_array_less(np.abs(mine.mean(0) - data.means[k]), 5 * sd / np.sqrt(len(mine)))
        # The sample variance of a Gaussian has relative standard deviation sqrt(2 / n).
        np.testing.assert_array_less(np.abs(mine.var(0) / sd**2 - 1), 5 * np.sqrt(2 / len(mine)))
    # Importance check of the normalisation: E[q / p] = 1 for any density q with lighter tails.
    ratio = np.exp(
        multivariate_normal(data.means[0], data.covs[0] / 2).logpdf(data.x) - data.log_density(data.x)
    )
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(n)


def test_covariances_have_the_promised_shape() -> None:
    data = gaussian_mixture(10, 6, 20, seed=2)
    eigenvalues = np.linalg.eigvalsh(data.covs)
    condition = eigenvalues[:, -1] / eigenvalues[:, 0]
    assert (condition >= 10).all()
    assert (condition <= 30).all()
    np.testing.assert_allclose(np.log(eigenvalues).sum(1), 0, atol=1e-10)
    assert data.weights.sum() == pytest.approx(1)


def test_more_rows_of_the_same_mixture() -> None:
    small, large = (gaussian_mixture(n, 3, 4, seed=3) for n in (10, 500))
    np.testing.assert_array_equal(small.covs, large.covs)
    np.testing.assert_array_equal(small.means, large.means)
    again = gaussian_mixture(500, 3, 4, seed=3)
    np.testing.assert_array_equal(again.x, large.x)
    assert not np.array_equal(gaussian_mixture(500, 3, 4, seed=4).x, large.x)


def test_separation_lessens_the_overlap() -> None:
    errors = []
    for separation in (0.3, None, 5.0):
        data = gaussian_mixture(2000, 16, 20, separation=separation, seed=0)
        errors.append(1 - data.responsibilities(data.x).max(1).mean())
    assert errors[0] > errors[1] > errors[2]
    assert 0.02 < errors[1] < 0.2  # moderate by default


def test_one_dimension_and_one_component() -> None:
    data = gaussian_mixture(50, 1, 1, seed=0)
    assert (data.x.shape, data.covs.tolist(), data.weights.tolist()) == ((50, 1), [[[1.0]]], [1.0])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 2, 3), "n must be >= 1"),
        ((5, 0, 3), "dim must be >= 1"),
        ((5, 2, 0), "num_components must be >= 1"),
    ],
)
def test_sizes_are_checked(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        gaussian_mixture(*sizes, seed=0)
    with pytest.raises(SpecError, match="separation must be >= 0"):
        gaussian_mixture(5, 2, 3, separation=float("nan"), seed=0)
