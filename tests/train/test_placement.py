"""Rows over devices: the same batches, the same result to rounding, one large reduction per step."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.conftest import rows
from vigmm.core import rng
from vigmm.core.arrayfile import leaves
from vigmm.core.errors import SpecError
from vigmm.data.arrays import ArraySource
from vigmm.data.moments import Standardizer
from vigmm.data.sampler import Minibatch, Rows
from vigmm.data.stream import Stream
from vigmm.train import step as steps
from vigmm.train import train
from vigmm.train.placement import Spread, over_devices, spread

N = 599
ALL = rows(0, 600)
HEAVY = np.random.default_rng(3).uniform(0.5, 2.0, 600).astype(np.float32)
X, WEIGHT = ALL[:N], HEAVY[:N]


@pytest.fixture(scope="module")
def layout():
    made = over_devices(4)
    assert made is not None, "the tests run with four devices"
    return made


def test_one_device_needs_no_layout_and_too_many_are_refused():
    assert over_devices(None) is None
    assert over_devices(1) is None
    with pytest.raises(SpecError, match=r"devices must be between 1 and 4, the devices, got 5"):
        over_devices(5)


@pytest.mark.parametrize("n", [N, 600, 5])
@pytest.mark.parametrize(("size", "crowded"), [(100, False), (100, True), (1_000, False)])
def test_devices_share_the_batch_of_one_device(layout, n, size, crowded, monkeypatch):
    sampler, key = Minibatch(size), rng.root_key(1)
    placed = layout.place(ALL[:n], HEAVY[:n])
    if crowded:  # room for a fourth of the batch, which some device always has more of
        monkeypatch.setattr(Spread, "room", -(-sampler.rows_per_batch(n) // 4))
    one = Rows(x=jnp.asarray(ALL[:n]), weight=jnp.asarray(HEAVY[:n]))
    pick = placed.where.sampler(sampler).pick

    def share(rows, step):
        batch = pick(rows, key, step)
        # What a reduction would add up: each device's part of sums that tell rows apart.
        return jax.lax.psum(
            (batch.weight @ batch.x, jnp.sum(batch.weight), batch.weight**2 @ batch.x**2), "data"
        )

    shared = jax.jit(spread(share, layout.mesh, rows=0))
    for step in range(min(3, sampler.steps_per_epoch(n))):
        batch = sampler.pick(one, key, step)
        expected = batch.weight @ batch.x, jnp.sum(batch.weight), batch.weight**2 @ batch.x**2
        for found, right in zip(shared(placed.rows, step), expected, strict=True):
            np.testing.assert_allclose(found, right, rtol=2e-5, atol=1e-3)


def test_there_is_room_for_nearly_every_batch(layout):
    """Four standard deviations of a hypergeometric number: less than one batch in a thousand has no room."""
    sampler, counts = Minibatch(400), (1_000, 1_000, 1_000, 997)
    room = Spread(sampler, counts).room
    assert 100 < room <= 140
    steps = np.arange(2_000)
    index, times = jax.jit(jax.vmap(lambda step: sampler.places(3_997, rng.root_key(0), step)))(steps)
    owner = np.searchsorted(np.cumsum(counts), np.asarray(index), side="right")
    taken = np.asarray(times) > 0
    most = np.max([((owner == device) & taken).sum(1) for device in range(4)], axis=0)
    assert most.max() > 115, "the numbers differ by chance"
    assert (most > room).mean() < 2e-3


def test_what_is_placed_is_all_rows(layout):
    placed = layout.place(X, WEIGHT)
    assert (placed.num_rows, placed.dim, placed.dtype) == (N, 2, np.float32)
    np.testing.assert_allclose(placed.total_weight(), WEIGHT.sum(dtype=np.float64))
    pieces = list(placed.pieces())
    weight = np.concatenate([np.asarray(piece.weight) for piece in pieces])
    x = np.concatenate([np.asarray(piece.x) for piece in pieces])
    np.testing.assert_array_equal(x[weight > 0], X)
    np.testing.assert_array_equal(weight[weight > 0], WEIGHT)
    assert np.isfinite(x).all()


@pytest.mark.parametrize(("name", "streamed"), [("natural", True), ("pathwise", False)])
def test_the_number_of_devices_changes_rounding_only(problem, config, layout, name, streamed):
    objective, optimizer, params = problem.setting(name)
    config = dataclasses.replace(config, passes=2)

    def run(placed: bool):
        if streamed:
            options = {"layout": layout} if placed else {}
            source, standard = ArraySource(X), Standardizer.identity(2)
            data = Stream(source, standard, np.dtype("float32"), 300, weight=WEIGHT.astype(float), **options)
        else:
            data = layout.place(X, WEIGHT) if placed else Rows(x=jnp.asarray(X), weight=jnp.asarray(WEIGHT))
        return train(
            objective, optimizer, params, problem.prior, data, problem.holdout, rng.root_key(7), config=config
        )

    one, four = run(False), run(True)
    # Float32 sums of 100 rows in another order, carried through twelve steps.
    for a, b in zip(leaves(one.params).values(), leaves(four.params).values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * np.max(np.abs(a), initial=1.0))
    np.testing.assert_allclose(one.metrics["elbo"], four.metrics["elbo"], rtol=1e-5)
    np.testing.assert_allclose(one.metrics["holdout"], four.metrics["holdout"], atol=1e-5)
    assert len(jax.tree.leaves(four.params)[0].sharding.device_set) == 1, "free to go to any device"


def test_a_step_has_one_reduction_of_the_size_of_the_statistics(problem, config, layout):
    objective, optimizer, params = problem.setting("natural")
    placed = layout.place(X, WEIGHT)
    state = steps.init(objective, optimizer, params, problem.prior, rng.root_key(0))
    text = steps.run.lower(
        state, problem.prior, placed.rows, problem.holdout, np.int32(4),
        objective=objective, optimizer=optimizer, sampler=placed.where.sampler(config.sampler),
        length=config.chunk_steps, num_draws=1, mesh=layout.mesh,
    ).compile().as_text()  # fmt: skip
    # No device is ever given all rows.
    assert "all-gather" not in text
    assert "all-to-all" not in text
    sizes = [_numbers(line) for line in text.splitlines() if re.search(r"= .* all-reduce(-start)?\(", line)]
    large = [size for size in sizes if size > 4]
    # One in each of the two forms of the pass, of which one is run.
    assert 1 <= len(large) <= 2, sizes


def _numbers(line: str) -> int:
    """Numbers in the result of an instruction."""
    result = line.split(" all-reduce")[0].split("=", 1)[1]
    shapes = re.findall(r"\w\d+\[([\d,]*)\]", result)
    return sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes)
