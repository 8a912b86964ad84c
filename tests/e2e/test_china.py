"""The main job on real data: a photograph's pixels against expectation-maximisation at the same K.

Floor: scikit-learn's GaussianMixture (full covariance, reg_covar 1e-6), K = 8, on the pixels of china.jpg.
Columns are z-scored with mean and population sd of all rows; the first 80 % of
``default_rng(0).permutation(N)`` train. Its mean log-likelihood is 0.7364 on train and 0.7481 on test
(`../shared/refs/README.md`, held-out floors).
"""

from __future__ import annotations

import numpy as np
import pytest

import vigmm

FLOOR_TEST = 0.7481


@pytest.fixture(scope="module")
def pixels() -> tuple[np.ndarray, np.ndarray]:
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    source = vigmm.DataFile("pkg://sklearn.datasets.images/china.jpg").open()
    rows = np.asarray(source[0 : len(source)], np.float64)
    assert rows.shape == (273_280, 3)
    z = (rows - rows.mean(0)) / rows.std(0)
    order = np.random.default_rng(0).permutation(len(z))
    cut = int(0.8 * len(z))
    return z[order[:cut]], z[order[cut:]]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_held_out_density_is_at_least_that_of_em(pixels, seed):
    train, test = pixels
    fit = vigmm.fit(train, model=vigmm.Mixture(num_components=8), seed=seed)
    assert fit.outcome.ok
    density = float(fit.posterior.log_predictive(test).astype(np.float64).mean())
    print(f"seed {seed}: held-out {density:.4f}, floor {FLOOR_TEST}")
    assert density >= FLOOR_TEST
