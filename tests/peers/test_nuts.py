"""Posterior means and sds against NUTS on the exported model, which shares no density with the engine.

What was measured (two chains of 1,500 to 2,500 draws, whose sds are known to about 2 %; the whole table is in
benchmarks/results/nuts.json). Smallest sd ratio (q / NUTS) and largest shift of a mean in NUTS sds:

| case       | full rank      | blocks         | coordinate ascent |
|------------|----------------|----------------|-------------------|
| overlap_1d | 0.963 (0.03)   | 0.763 (0.07)   | 0.626 (0.10)      |
| faithful   | 0.971 (0.03)   | 0.962 (0.03)   | 0.931 (0.04)      |
| iris       | 0.846 (0.14)   | 0.562 (0.76)   | 0.527 (0.88)      |
| overlap_5d | 0.752 (0.14)   | 0.464 (0.39)   | 0.400 (0.66)      |

So where components overlap, mean-field assignments understate the uncertainty most, and blocks miss the
dependence of weights and components on each other. What full rank still misses, a Gaussian over the position
cannot have: four times the steps change nothing (overlap_5d: sd of a weight 0.0460 and 0.0462, NUTS 0.061).
Every miss of 10 % is an expected failure here, with its number.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from benchmarks import nuts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def compared():
    """`compare` for a case by name, run once."""

    @functools.cache
    def one(name):
        case = nuts.CASES[name]
        if case.refs and not nuts.REFS.is_dir():
            pytest.skip("needs the reference data in ../shared/refs beside the checkout")
        found = nuts.compare(case)
        print(nuts.table({name: found}))
        return found

    return one


def miss(case: str, family: str, ratio: float, shift: float | None = None, *, close: bool = False):
    """A case that a family cannot meet, with what was measured; `close`: so near that rounding decides."""
    reason = f"smallest sd ratio {ratio}" + ("" if shift is None else f", largest shift {shift} sd")
    mark = pytest.mark.xfail(reason=reason, raises=AssertionError, strict=not close)
    return pytest.param(case, family, marks=mark)


@pytest.mark.parametrize("case", ["overlap_1d", "faithful", "iris", "overlap_5d"])
def test_nuts_itself_is_sound(compared, case):
    found = compared(case)
    assert found.divergences == 0
    assert found.rhat < 1.02
    assert found.se.max() < 0.06


@pytest.mark.parametrize(
    ("case", "family"),
    [
        ("overlap_1d", "fullrank"),
        ("overlap_1d", "blocks"),
        ("faithful", "fullrank"),
        ("faithful", "blocks"),
        ("iris", "fullrank"),
        miss("iris", "blocks", 0.562, 0.755),
        ("overlap_5d", "fullrank"),
        # The limit is 0.39 with the error of NUTS: 0.386 and 0.391 were seen.
        miss("overlap_5d", "blocks", 0.464, 0.391, close=True),
    ],
)
def test_means(compared, case, family):
    found = compared(case)
    assert (np.abs(found.shift[family]) < 0.15 + 5 * found.se).all(), found.shift[family]


@pytest.mark.parametrize(
    ("case", "family"),
    [
        ("overlap_1d", "fullrank"),
        miss("overlap_1d", "blocks", 0.763),
        ("faithful", "fullrank"),
        ("faithful", "blocks"),
        miss("iris", "fullrank", 0.846),
        miss("iris", "blocks", 0.562),
        miss("overlap_5d", "fullrank", 0.752),
        miss("overlap_5d", "blocks", 0.464),
    ],
)
def test_standard_deviations_are_within_ten_percent(compared, case, family):
    ratio = compared(case).ratio[family]
    assert (np.abs(ratio - 1) < 0.1).all(), ratio


@pytest.mark.parametrize("case", ["overlap_1d", "iris", "overlap_5d"])
def test_less_of_the_dependence_means_smaller_standard_deviations(compared, case):
    """The families' order, by their worst quantity."""
    ratio = compared(case).ratio
    assert ratio["conjugate"].min() < ratio["blocks"].min() < ratio["fullrank"].min()


def test_mean_field_assignments_understate_every_sd_where_components_overlap(compared):
    """Measured: 0.63 to 0.80."""
    assert compared("overlap_1d").ratio["conjugate"].max() < 0.9
