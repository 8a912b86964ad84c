"""Three clusters, a fit of them and given priors, shared by the tests of the scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def clusters() -> np.ndarray:
    """250 rows in two columns, shuffled: three clusters so far apart that no row is between two.

    At most 256 rows are one shape to the compiler, so that parts of these share its programs.
    """
    draw = np.random.default_rng(7)
    sizes, means = (125, 80, 45), [[0.0, 0.0], [30.0, 5.0], [-10.0, 40.0]]
    parts = [mean + draw.normal(size=(n, 2)) * [1.0, 2.0] for n, mean in zip(sizes, means, strict=True)]
    rows: np.ndarray = draw.permutation(np.concatenate(parts))
    return rows


@pytest.fixture(scope="session")
def fitted(clusters):
    """A fit of them."""
    from vigmm.sklearn import BayesianGaussianMixture

    return BayesianGaussianMixture(n_components=3, random_state=0).fit(clusters)


@pytest.fixture(scope="session")
def given() -> dict[str, Any]:
    """Every prior, so that none follows the rows."""
    return {
        "n_components": 3,
        "weight_concentration_prior_type": "dirichlet_distribution",
        "weight_concentration_prior": 0.7,
        "mean_precision_prior": 0.3,
        "mean_prior": [1.0, 2.0],
        "degrees_of_freedom_prior": 4.5,
        "covariance_prior": [[3.0, 1.0], [1.0, 2.0]],
    }
