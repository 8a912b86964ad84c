"""Columns of one unit are scaled alike."""

from __future__ import annotations

import numpy as np

from vigmm.data.arrays import ArraySource
from vigmm.data.moments import Standardizer, compute_moments

ROWS = np.random.default_rng(0).normal(size=(500, 3)) * [1.0, 3.0, 0.0]


def test_columns_of_one_unit_have_one_scale():
    source = ArraySource(ROWS)
    alone = Standardizer.from_moments(compute_moments(source))
    source.one_unit = True
    moments = compute_moments(source)
    alike = Standardizer.from_moments(moments)
    np.testing.assert_allclose(alone.scale, [*ROWS[:, :2].std(axis=0), 1.0], rtol=1e-12)
    # The mean variance of the columns that vary.
    np.testing.assert_allclose(alike.scale, np.sqrt(ROWS[:, :2].var(axis=0).mean()), rtol=1e-12)
    np.testing.assert_array_equal(alike.center, alone.center)
    assert moments.typical(np.float32).one_unit
