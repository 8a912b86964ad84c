"""Shifting and rescaling the columns changes the numbers, and nothing that they say.

Columns are centred and scaled before anything else, and the default prior follows the data, so that a fit
of s * x + t is the fit of x in other units: the same partition, and densities smaller by prod(s).

**What may differ.** Standardising s * x + t rounds differently: by 1e-16 of the shift in float64, which after
division by the sd is 1e-13 at a shift of 1,000 sds, and then by 6e-8 in float32, where the two may fall on
different sides. Coordinate ascent is a contraction near its optimum, so that this grows little; rows whose
two best components are within one part in a thousand of each other may change sides, and are left out.

**Rotations** are no symmetry of a fit: a standard deviation is a column's, so that rotated data are scaled
otherwise. With the same scale of all columns the full covariance and its prior do not know the axes, but the
k-means of the start, in standardised units, does. So none is tested.
"""

from __future__ import annotations

import functools

import hypothesis
import numpy as np
from hypothesis import strategies

import vigmm

ROWS, DIM = 300, 3
MODEL = vigmm.Mixture(num_components=4)
START = vigmm.KMeansStart(restarts=2, steps=30, batch_size=150)
TRAIN = vigmm.Train(batch_size=ROWS, min_steps=100, passes=1, holdout=0.0, tolerance=0.0)


def rows() -> np.ndarray:
    """Three overlapping clusters of different shapes, columns of different sizes."""
    draw = np.random.default_rng(0)
    labels = draw.integers(3, size=ROWS)
    centres = np.array([[0.0, 0.0, 0.0], [4.0, 1.0, -3.0], [-3.0, 4.0, 2.0]])
    sds = np.array([[1.0, 0.3, 2.0], [0.5, 1.0, 1.0], [1.0, 1.0, 0.2]])
    return centres[labels] + sds[labels] * draw.normal(size=(ROWS, DIM))


def fit(x: np.ndarray) -> vigmm.Fit:
    # Without moves: they would follow the same path, but compile programs for every number of components.
    return vigmm.fit(x, model=MODEL, start=START, train=TRAIN, moves=None)


@functools.cache
def plain() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, gaps between the two largest responsibilities, and log densities of the data as they are."""
    posterior = fit(rows()).posterior
    top = np.sort(posterior.responsibilities(rows()), axis=1)
    return posterior.predict(rows()), top[:, -1] - top[:, -2], posterior.log_predictive(rows())


def permuted(labels: np.ndarray, like: np.ndarray) -> np.ndarray:
    """`labels` renamed by what most of their rows are called in `like`."""
    names = {k: int(np.bincount(like[labels == k]).argmax()) for k in np.unique(labels)}
    assert len(set(names.values())) == len(names), "two components became one"
    return np.array([names[k] for k in labels])


exponents = strategies.lists(strategies.floats(-6.0, 6.0), min_size=DIM, max_size=DIM)
shifts = strategies.lists(strategies.floats(-1000.0, 1000.0), min_size=DIM, max_size=DIM)


@hypothesis.settings(max_examples=12)
@hypothesis.example([-6.0, 0.0, 6.0], [1000.0, -1000.0, 0.0])
@hypothesis.given(exponents, shifts)
def test_scales_and_shifts_leave_the_partition_as_it_is(exponents, shifts):
    x = rows()
    scale = 10.0 ** np.array(exponents)
    moved = scale * (x + np.array(shifts) * x.std(axis=0))
    labels, gap, density = plain()
    posterior = fit(moved).posterior
    clear = gap > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(permuted(posterior.predict(moved), labels)[clear], labels[clear])
    # Densities of size 5 in float32, whose rounding 100 steps of coordinate ascent have passed on: 1e-3 is
    # 2,000 times the rounding of one of them.
    np.testing.assert_allclose(
        posterior.log_predictive(moved) + np.log(scale).sum(), density, atol=1e-3, rtol=0.0
    )
