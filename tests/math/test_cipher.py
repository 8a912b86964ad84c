"""The index cipher: exact bijections, uniform over keys, no overflow, one compilation."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.math import cipher
from vigmm.math.cipher import MAX_LENGTH, ROUNDS, permute

KEY = jax.random.key(0)
run = jax.jit(permute, static_argnums=1)


def images(n: int, num_keys: int, seed: int = 0) -> np.ndarray:
    """The whole permutation under each of many keys."""
    keys = jax.random.split(jax.random.key(seed), num_keys)
    return np.asarray(jax.jit(jax.vmap(lambda key: permute(jnp.arange(n), n, key)))(keys))


def chi_square_excess(counts: np.ndarray, df: int) -> float:
    """How many standard deviations the chi-square statistic of equal expectations is above its mean."""
    expected = counts.sum() / counts.size
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float((statistic - df) / math.sqrt(2 * df))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 64, 65, 100, 1000, 4097, 273_280])
def test_is_a_bijection(n: int) -> None:
    for seed in range(5):
        image = np.asarray(run(jnp.arange(n), n, jax.random.key(seed)))
        np.testing.assert_array_equal(np.sort(image), np.arange(n))


@pytest.mark.parametrize("n", [8, 10, 17])
def test_each_position_is_uniform_over_keys(n: int) -> None:
    image = images(n, num_keys=40_000)
    counts = np.stack([np.bincount(image[:, i], minlength=n) for i in range(n)])
    assert chi_square_excess(counts, df=(n - 1) ** 2) < 5


@pytest.mark.parametrize("n", [10, 30])
def test_neighbours_are_jointly_uniform_over_keys(n: int) -> None:
    image = images(n, num_keys=100_000)
    counts = np.bincount(image[:, 0] * n + image[:, 1], minlength=n * n).reshape(n, n)
    pairs = counts[~np.eye(n, dtype=bool)]
    assert chi_square_excess(pairs, df=n * (n - 1) - 1) < 5


def test_one_permutation_looks_random() -> None:
    n = 100_000
    # Correlations of a random permutation have mean about 0 and standard deviation about 1 / sqrt(n).
    image = np.asarray(run(jnp.arange(n), n, KEY)).astype(float)
    for lag in (1, 2, math.isqrt(n), math.isqrt(n - 1) + 1):
        assert abs(np.corrcoef(image[:-lag], image[lag:])[0, 1]) < 5 / math.sqrt(n)
    assert abs(np.corrcoef(np.arange(n), image)[0, 1]) < 5 / math.sqrt(n)
    # The first tenth of the positions falls evenly into a hundred slots (hypergeometric, below Poisson).
    slots = np.bincount((image[: n // 10] * 100 / n).astype(int), minlength=100)
    assert chi_square_excess(slots, df=99) < 5
    # A random permutation has one fixed point on average, Poisson distributed: P(more than 10) < 1e-7.
    assert (image == np.arange(n)).sum() <= 10


def test_keys_choose_different_permutations() -> None:
    n = 1000
    first, second = (np.asarray(run(jnp.arange(n), n, jax.random.key(seed))) for seed in (0, 1))
    # Agreements of two random permutations are Poisson with mean 1: P(more than 10) < 1e-7.
    assert (first == second).sum() <= 10
    np.testing.assert_array_equal(first, np.asarray(run(jnp.arange(n), n, jax.random.key(0))))


def python_permute(index: int, n: int, key: jax.Array) -> int:
    """The same network on Python integers, which cannot overflow by accident."""
    mask = 2**32 - 1
    words = np.asarray(jax.random.bits(key, (ROUNDS, 2), jnp.uint32)).tolist()

    def mix(half: int, subkey: list[int]) -> int:
        word = half ^ subkey[0]
        word = ((word ^ (word >> 16)) * 0x7FEB352D) & mask
        word = (word + subkey[1]) & mask
        word = ((word ^ (word >> 15)) * 0x846CA68B) & mask
        return word ^ (word >> 16)

    rows = math.isqrt(n - 1) + 1
    cols = -(-n // rows)
    while True:
        left, right = index % rows, index // rows
        for step in range(0, ROUNDS, 2):
            left = (left + mix(right, words[step])) % rows
            right = (right + mix(left, words[step + 1])) % cols
        index = right * rows + left
        if index < n:
            return index


@pytest.mark.parametrize("n", [5, 1000, 2**30 + 3, MAX_LENGTH])
def test_agrees_with_arbitrary_precision_integers(n: int) -> None:
    index = np.unique([*np.random.default_rng(0).integers(0, n, 50).tolist(), 0, n - 1])
    got = np.asarray(run(jnp.asarray(index, jnp.int32), n, KEY))
    assert got.tolist() == [python_permute(int(i), n, KEY) for i in index]


def test_index_type_is_kept_and_outsiders_are_clamped(x64: None) -> None:
    for dtype in (jnp.int32, jnp.int64):
        inside = run(jnp.asarray([0, 9], dtype), 10, KEY)
        assert inside.dtype == dtype
    outside = run(jnp.asarray([-5, 10, 2**31 - 1], jnp.int32), 10, KEY)
    np.testing.assert_array_equal(outside, jnp.stack([inside[0], inside[1], inside[1]]))


@pytest.mark.parametrize("n", [0, -1, 2**31])
def test_range_is_checked(n: int) -> None:
    with pytest.raises(ValueError, match=f"n must be between 1 and {MAX_LENGTH}, got {n}"):
        permute(jnp.arange(1), n, KEY)


def test_new_keys_and_indices_do_not_retrace() -> None:
    chex.clear_trace_counter()
    counted = jax.jit(chex.assert_max_traces(cipher.permute, n=1), static_argnums=1)
    for seed in range(3):
        counted(jnp.arange(seed, seed + 4), 1000, jax.random.key(seed))
