"""Natural gradients at rate 1 on the full batch are coordinate ascent: golden bounds, and never a fall.

The golden numbers are complete bounds (all constants), the best of at least 12 restarts, on which two
independent programs agree to 1e-9 (`golden_shared.json`).
"""

from __future__ import annotations

import numpy as np
import pytest

from vigmm.models import Dirichlet, DirichletProcess

pytestmark = pytest.mark.usefixtures("x64")

RTOL = 1e-8


def best(problem, starts, steps):
    return max(float(problem.ascend(start, steps)[1][-1]) for start in starts)


def by_size(problem, params):
    """Start anew from the hard assignment, components in order of size: what a DP's sticks expect."""
    labels = problem.labels(params)
    size = np.bincount(labels, minlength=problem.num_components)
    place = np.empty_like(size)
    place[np.argsort(-size, kind="stable")] = np.arange(problem.num_components)
    return problem.start(np.eye(problem.num_components)[place[labels]])


@pytest.mark.parametrize("num_components", [1, 2, 3])
def test_faithful(exact, golden, faithful_z, num_components):
    problem = exact.Problem(faithful_z, num_components=num_components)
    found = best(problem, [problem.random_start(seed) for seed in range(3)], 400)
    np.testing.assert_allclose(found, golden["elbo"][f"faithful_z_K{num_components}"], rtol=RTOL)


@pytest.mark.parametrize(
    ("weights", "group", "name"),
    [
        (Dirichlet(1.0), "elbo", "asterisk_K8"),
        (DirichletProcess(1.0), "dp_elbo_last_stick_1", "asterisk_K8_sorted"),
    ],
    ids=["dirichlet", "process"],
)
def test_asterisk(exact, golden, asterisk, weights, group, name):
    x, labels = asterisk
    problem = exact.Problem(x, num_components=8, weights=weights, rate=0.1)
    params, trace = problem.ascend(problem.start(np.eye(8)[labels]), 150)
    if name.endswith("sorted"):
        _, trace = problem.ascend(by_size(problem, params), 150)
    np.testing.assert_allclose(trace[-1], golden[group][name], rtol=RTOL)


@pytest.mark.parametrize("num_components", [2, 6])
def test_faithful_process(exact, golden, faithful_z, num_components):
    problem = exact.Problem(faithful_z, num_components=num_components, weights=DirichletProcess(1.0))
    found = -np.inf
    for seed in range(4):
        params, _ = problem.ascend(problem.random_start(seed), 300)
        found = max(found, best(problem, [by_size(problem, params)], 300))
    np.testing.assert_allclose(
        found, golden["dp_elbo_last_stick_1"][f"faithful_z_K{num_components}"], rtol=RTOL
    )


@pytest.mark.parametrize("weights", [Dirichlet(0.1), Dirichlet(1.0), DirichletProcess(1.0)], ids=str)
def test_never_falls(exact, weights):
    """Also with more components than clusters, outliers, and fractional weights of the rows."""
    rng = np.random.default_rng(2)
    blobs = np.concatenate(
        [rng.normal(size=(60, 2)) * s + c for s, c in ((0.1, -2.0), (1.0, 0.0), (0.3, 3.0))]
    )
    heavy = rng.standard_t(2.0, size=(180, 2))
    for x in (blobs, heavy):
        problem = exact.Problem(x, num_components=6, weights=weights, sample_weight=rng.uniform(0, 3, len(x)))
        for seed in range(3):
            _, trace = problem.ascend(problem.random_start(seed), 120)
            # Rounding: sums of 180 terms below 1e3 nats.
            assert np.diff(trace).min() > -1e-10 * np.abs(trace[-1])
            assert trace[-1] > trace[0] + 1.0
