"""Arrays of every type and layout, and numbers of rows, columns and components at their ends."""

from __future__ import annotations

import numpy as np
import pytest

import vigmm
from tests.hostile.conftest import DIM, ROWS, fit, floor, healthy, mixed, two_clusters
from vigmm.models.covariance.variances import Diag


def as_strided(x: np.ndarray) -> np.ndarray:
    wide = np.zeros((2 * len(x), 2 * x.shape[1]))
    wide[::2, ::2] = x
    return wide[::2, ::2]


WIDE = vigmm.Train(batch_size=4096, min_steps=50, passes=1, holdout=0.0)

LAYOUTS = {
    "float16": lambda x: x.astype(np.float16),
    "float64": lambda x: x,
    "int32": lambda x: np.round(10 * x).astype(np.int32),
    "int8": lambda x: np.round(5 * x).astype(np.int8),
    "uint16": lambda x: np.round(100 * x + 500).astype(np.uint16),
    "big-endian float64": lambda x: x.astype(">f8"),
    "big-endian int16": lambda x: np.round(100 * x).astype(">i2"),
    "column-major": np.asfortranarray,
    "reversed": lambda x: x[::-1, ::-1],
    "strided": as_strided,
    "read-only": lambda x: np.frombuffer(x.tobytes()).reshape(x.shape),
}


# On every commit one of each kind: few bits, whole numbers, a foreign order of bytes, odd strides.
QUICK = ("float16", "int8", "big-endian float64", "strided")


@pytest.mark.parametrize(
    "layout", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in LAYOUTS]
)
def test_types_and_layouts(layout):
    x, labels = two_clusters()
    given = LAYOUTS[layout](x)
    kept = np.array(given)
    made = fit(given)
    healthy(made, given)
    assert mixed(made, given, labels[::-1] if layout == "reversed" else labels) == 0
    np.testing.assert_array_equal(given, kept)


def test_booleans():
    draw = np.random.default_rng(0)
    labels = np.arange(ROWS) % 2
    x = draw.random((ROWS, DIM)) < np.where(labels[:, None] == 1, 0.999, 0.001)
    made = fit(x)
    healthy(made, x)
    assert mixed(made, x, labels) <= 2


def test_a_single_component():
    x, _ = two_clusters(dim=1)
    made = fit(x, model=vigmm.Mixture(num_components=1))
    healthy(made, x)
    assert made.posterior.weights.tolist() == [1.0]
    # The posterior mean is that of the rows; here it is an average of 1,000 draws, whose sd is sd/sqrt(N).
    np.testing.assert_allclose(
        made.posterior.means[0], x.mean(axis=0), atol=5 * x.std() / np.sqrt(ROWS * 1000)
    )


def test_more_columns_and_more_components_than_rows():
    x, labels = two_clusters(6)
    made = fit(x)
    healthy(made, x)
    assert mixed(made, x, labels) == 0
    # Six rows span five of ten directions; in the others every component is as wide as the prior has it.
    assert (np.linalg.eigvalsh(made.posterior.covariances) > 0.0).all()
    variances = np.diagonal(made.posterior.covariances, axis1=1, axis2=2)
    assert (variances > 0.95 * floor(made, 6)).all()
    new, _ = two_clusters(6, seed=1)
    assert made.posterior.log_predictive(new).min() > made.posterior.log_predictive(new + 100.0).max() + 10.0


@pytest.mark.slow
@pytest.mark.parametrize("apart", [10.0, 1e6])
def test_two_hundred_components_of_150_rows_of_one_column(apart):
    x, labels = two_clusters(150, 1, apart=apart)
    made = fit(x[:, 0], model=vigmm.Mixture(num_components=200))
    healthy(made, x)
    assert mixed(made, x, labels) == 0
    assert len(made.posterior.weights) == 200


def wide(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """2,048 rows of two clusters that are 11 sds apart in 128 dimensions."""
    return two_clusters(2048, 128, apart=1.0, seed=seed)


@pytest.mark.slow
def test_many_columns():
    x, labels = wide(0)
    made = fit(x, model=vigmm.Mixture(num_components=4, covariance=Diag()), train=WIDE)
    healthy(made, x)
    assert mixed(made, x, labels) == 0


@pytest.mark.slow
def test_many_columns_with_covariances():
    """1,024 rows do not pay for the 8,256 numbers of a covariance matrix: one component, and a good density.

    Per row: one Gaussian of unit variances and, across, 1 + 11.3^2/4 has -183.4 nats, and estimating it costs
    8,384 numbers / (2 N) = 2; independent columns of variance 1.25 have -195.9. Halfway is -190.
    """
    x, _ = wide(0)
    made = fit(x, train=WIDE)
    healthy(made, x)
    assert made.posterior.log_predictive(wide(1)[0]).mean() > -190.0


@pytest.mark.slow
def test_skin(refs):
    """245,057 colours of 3 bytes, of which one occurs 1,598 times."""
    with np.load(refs / "large" / "skin_uci.npz") as file:
        x = next(file[name] for name in file.files if file[name].ndim == 2 and file[name].shape[1] >= 3)
    x = x[:, :3]
    assert x.shape == (245_057, 3)
    made = vigmm.fit(x, model=vigmm.Mixture(num_components=20), train=vigmm.Train(passes=5))
    sample = x[::50]
    healthy(made, sample)
    # EM with K = 8 in standardised units: -0.0905 (../shared/refs/README.md, held out).
    volume = np.log(x.astype(np.float64).std(axis=0)).sum()
    assert made.posterior.log_predictive(sample).mean() + volume > -0.0905
    variances = np.diagonal(made.posterior.covariances, axis1=1, axis2=2)
    assert (variances > 0.9 * floor(made, len(x))).all()
