"""Minibatches: every epoch exact, a function of (key, step) alone, weights respected, one compilation."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.core.errors import SpecError
from vigmm.core.struct import is_spec
from vigmm.data.sampler import Minibatch, Rows, Sampler

KEY = jax.random.key(7)
pick = jax.jit(Minibatch.pick, static_argnums=0)


def numbered(n: int, dtype: str = "float32") -> Rows:
    """Row i holds the number i, so that a batch tells which rows it has."""
    return Rows(x=jnp.arange(n, dtype=dtype)[:, None], weight=jnp.ones(n, dtype))


def epoch(
    sampler: Minibatch, data: Rows, number: int, key: jax.Array = KEY
) -> list[tuple[np.ndarray, np.ndarray]]:
    steps = sampler.steps_per_epoch(len(data.weight))
    batches = (pick(sampler, data, key, jnp.asarray(number * steps + part)) for part in range(steps))
    return [(np.asarray(batch.x[:, 0]).astype(int), np.asarray(batch.weight)) for batch in batches]


@pytest.mark.parametrize(("n", "size"), [(1, 1), (2, 1), (10, 3), (10, 5), (11, 3), (1000, 64), (1001, 1000)])
@pytest.mark.parametrize("number", [0, 3])
def test_an_epoch_holds_every_row_once(n: int, size: int, number: int) -> None:
    sampler, data = Minibatch(size), numbered(n)
    steps = sampler.steps_per_epoch(n)
    batches = epoch(sampler, data, number)
    rows, weights = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert sorted(rows[weights > 0].tolist()) == list(range(n))
    # Integers: the mean over steps of the weighted sum is exactly the full sum.
    assert (rows * weights).sum() / steps == n * (n - 1) / 2
    assert set(weights.tolist()) <= {0.0, float(steps)}
    # Batches are level, and never larger than asked.
    filled = [int((weight > 0).sum()) for _, weight in batches]
    assert max(filled) - min(filled) <= 1
    assert {len(rows) for rows, _ in batches} == {sampler.rows_per_batch(n)}
    assert sampler.rows_per_batch(n) <= size


def test_without_reshuffling_a_batch_is_the_same_rows_in_every_epoch() -> None:
    sampler, data = Minibatch(3, reshuffle=False), numbered(11)
    first, later = (epoch(sampler, data, number) for number in (0, 5))
    for (rows, weights), (others, same) in zip(first, later, strict=True):
        np.testing.assert_array_equal(rows, others)
        np.testing.assert_array_equal(weights, same)
    rows, weights = (np.concatenate(part) for part in zip(*first, strict=True))
    assert sorted(rows[weights > 0].tolist()) == list(range(11))


@pytest.mark.parametrize("size", [6, 7, 100])
def test_full_batch_is_the_data_itself(size: int) -> None:
    data = Rows(x=jnp.arange(12.0).reshape(6, 2), weight=jnp.arange(6.0))
    batch = Minibatch(size).pick(data, KEY, 5)
    assert batch.x is data.x
    assert batch.weight is data.weight


def test_a_batch_depends_on_key_and_step_only() -> None:
    sampler, data = Minibatch(5), numbered(11)
    forward = [pick(sampler, data, KEY, jnp.asarray(t)) for t in range(20)]
    for t in (19, 3, 0, 11):  # asked for out of order, and with a Python integer
        chex.assert_trees_all_equal(forward[t], pick(sampler, data, KEY, t))
    chex.assert_trees_all_equal(forward[7], sampler.pick(data, KEY, 7))  # eagerly
    scanned = jax.lax.scan(lambda carry, t: (carry, sampler.pick(data, KEY, t)), 0, jnp.arange(20))[1]
    np.testing.assert_array_equal(scanned.x, np.stack([batch.x for batch in forward]))


def test_epochs_and_keys_differ() -> None:
    sampler, data = Minibatch(64), numbered(1000)
    first, second, other = (
        np.concatenate([rows for rows, _ in epoch(sampler, data, number, key)])
        for number, key in ((0, KEY), (1, KEY), (0, jax.random.key(8)))
    )
    # Agreements of two random orders are Poisson with mean 1: P(more than 10) < 1e-7.
    assert (first == second).sum() <= 10
    assert (first == other).sum() <= 10


def test_unbiased_on_sorted_data() -> None:
    # Mean of one batch of sorted rows, over many keys, against the true mean.
    n, size, draws = 500, 50, 2000
    data = Rows(x=jnp.sort(jax.random.normal(jax.random.key(1), (n, 1)), axis=0), weight=jnp.ones(n))
    keys = jax.random.split(jax.random.key(2), draws)

    def total(key: jax.Array) -> jax.Array:
        batch = Minibatch(size).pick(data, key, 0)
        return batch.weight @ batch.x[:, 0]

    totals = np.asarray(jax.jit(jax.vmap(total))(keys), np.float64)
    truth = np.asarray(data.x, np.float64).sum()
    assert abs(totals.mean() - truth) < 5 * totals.std() / np.sqrt(draws)
    # Sampling without replacement: variance (N/B)^2 B s^2 (1 - B/N); the ratio has sd sqrt(2 / draws).
    expected = n**2 / size * np.asarray(data.x, np.float64).var(ddof=1) * (1 - size / n)
    assert abs(totals.var() / expected - 1) < 5 * np.sqrt(2 / draws)


def test_sample_weights_stay_with_their_rows() -> None:
    n = 23
    data = Rows(
        x=jnp.arange(n, dtype=jnp.float32)[:, None],
        weight=jnp.asarray(2.0 ** (np.arange(n) % 5), jnp.float32),
    )
    sampler = Minibatch(5)
    rows, weights = (np.concatenate(part) for part in zip(*epoch(sampler, data, 1), strict=True))
    real = weights > 0
    np.testing.assert_array_equal(weights[real], sampler.steps_per_epoch(n) * 2.0 ** (rows[real] % 5))
    full = (np.arange(n) * 2.0 ** (np.arange(n) % 5)).sum()
    assert (rows * weights).sum() / sampler.steps_per_epoch(n) == full


def test_types_follow_the_data(dtype: np.dtype) -> None:
    batch = pick(Minibatch(3), numbered(10, dtype.name), KEY, 2)
    assert batch.x.dtype == batch.weight.dtype == dtype


def test_no_retrace_over_steps_keys_and_equal_specs() -> None:
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def rows(sampler: Minibatch, data: Rows, key: jax.Array, step: jax.Array) -> jax.Array:
        return sampler.pick(data, key, step).x

    counted = jax.jit(rows, static_argnums=0)
    for t in range(4):
        counted(Minibatch(8), numbered(50), jax.random.key(t), jnp.asarray(t))


@pytest.mark.parametrize("size", [0, -3, 2.5, float("nan"), True, "4"])
def test_batch_size_is_checked(size: object) -> None:
    with pytest.raises(SpecError, match="batch_size must be an integer >= 1"):
        Minibatch(size)


def test_is_a_spec_and_a_sampler() -> None:
    sampler: Sampler = Minibatch(4)
    assert is_spec(sampler)
    assert hash(sampler) == hash(Minibatch(batch_size=4))
