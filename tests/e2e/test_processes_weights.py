"""Weights and missing values that several processes share: one result, whoever has which rows."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import free_port, with_programs

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

FIT = """
import json, sys
import jax
import numpy as np

index, count, port, stream = (int(word) for word in sys.argv[1:])
if count > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
import vigmm
from vigmm.core.processes import Group

draw = np.random.default_rng(0)
x = np.concatenate([centre + draw.normal(size=(500, 3)) for centre in draw.normal(size=(4, 3)) * 6])
x[draw.random(x.shape) < 0.15] = np.nan
x[:700, 2] = np.nan  # so that the processes see other patterns, and other means
weight = draw.uniform(0.0, 3.0, len(x))
weight[900:1_100] = 0
edges = np.linspace(0, len(x), count + 1).astype(int)
mine = slice(edges[index], edges[index + 1])
fit = vigmm.fit(
    x[mine], sample_weight=weight[mine], model=vigmm.Mixture(num_components=4, missing=True),
    family=vigmm.MeanField(), start=vigmm.RandomStart(rows=1_000, steps=40, restarts=1), moves=None,
    # All rows in a step, so that a stream has no batches of its own.
    train=vigmm.Train(batch_size=len(x), max_steps=40, min_steps=1, tolerance=0, stream=bool(stream)),
    group=Group(index, count),
)
print(json.dumps({
    "rows": fit.manifest["data"]["rows"], "per_row": fit.elbo.per_row, "elbo": fit.elbo.elbo,
    "holdout": fit.holdout[0], "means": np.sort(fit.posterior.means[:, 0]).tolist(),
}))
"""


def fit(count: int, *, stream: bool) -> list[dict]:
    """What each process found."""
    port = free_port()
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", FIT, str(i), str(count), str(port), str(int(stream))],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=with_programs(),
        )
        for i in range(count)
    ]  # fmt: skip
    told = [process.communicate(timeout=200) for process in begun]
    for process, (_, error) in zip(begun, told, strict=True):
        assert process.returncode == 0, error
    return [json.loads(text.splitlines()[-1]) for text, _ in told]


@pytest.fixture(scope="module")
def alone():
    (found,) = fit(1, stream=False)
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_processes_come_to_the_result_of_one(alone, stream):
    first, second = fit(2, stream=stream)
    assert first == second
    assert first["rows"] == alone["rows"] == 2_000
    # Float32 sums in another order, carried through twenty steps.
    assert first["per_row"] == pytest.approx(alone["per_row"], abs=1e-5)
    # As many rows as they weigh: no weight is lost, or counted twice.
    assert first["elbo"] / first["per_row"] == pytest.approx(alone["elbo"] / alone["per_row"], rel=1e-6)
    assert first["holdout"] == pytest.approx(alone["holdout"], abs=1e-4)
    assert first["means"] == pytest.approx(alone["means"], abs=1e-3)
