"""A keyed permutation of ``range(n)`` that is computed one index at a time.

Shuffling n rows costs O(n) time and memory per epoch and a state that a checkpoint must carry. A
cipher costs O(1) per index and its state is the key: `permute` sends each position of an epoch to a
row, so any step of any epoch can be asked for directly and a resumed run needs nothing.

The construction is the generalised Feistel network of Black and Rogaway (2002) on Z_a x Z_b with
a = ceil(sqrt n) and b = ceil(n / a), made exact on ``range(n)`` by cycle walking. It is a shuffle, not
cryptography: the round function mixes well but resists nobody.

References:
    J. Black and P. Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002, section 5.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, Key, UInt32

__all__ = ["MAX_LENGTH", "ROUNDS", "permute"]

MAX_LENGTH = 2**31 - 1
"""Longest range that can be permuted: a * b and every intermediate then fit 32 unsigned bits."""

ROUNDS = 12
"""Feistel rounds. Six are uniform for n in the thousands; at n = 10 the joint law of two neighbours still
shows a bias after eight (chi-square, 400,000 keys) and none after twelve, at 0.04 ms per 2,048 indices."""

_Words: TypeAlias = UInt32[Array, " B"]


def permute(index: Int[Array, " B"], n: int, key: Key[Array, ""]) -> Int[Array, " B"]:
    """Send each index to its place under the permutation of ``range(n)`` that `key` chooses.

    For a fixed key the map is a bijection of ``range(n)``; over keys every index is uniformly distributed
    (up to a modulo bias below 2e-5). Expected cost is less than two passes of `ROUNDS` rounds per index.

    Args:
        index: positions in ``[0, n)``; others are clamped into it, as a JAX gather does.
        n: length of the range, static, ``1 <= n < 2**31``.
        key: chooses the permutation.

    Returns:
        The image of every index, in ``[0, n)``, in the integer type of `index`.

    Raises:
        ValueError: if `n` is out of range.

    Example:
        >>> sorted(permute(jnp.arange(5), 5, jax.random.key(0)).tolist())
        [0, 1, 2, 3, 4]
    """
    if not 1 <= n <= MAX_LENGTH:
        raise ValueError(f"n must be between 1 and {MAX_LENGTH}, got {n}")
    rows = math.isqrt(n - 1) + 1  # a = ceil(sqrt n)
    cols = -(-n // rows)  # b = ceil(n / a)
    subkeys = jax.random.bits(key, (ROUNDS, 2), jnp.uint32)
    # Clamping also guards the walk below: an index outside could sit on a cycle that never enters.
    place = _encipher(jnp.clip(index.astype(jnp.int32), 0, n - 1).astype(jnp.uint32), rows, cols, subkeys)
    if rows * cols > n:
        # Cycle walking: an image in [n, a b) is enciphered again until it falls inside. The cycle it is
        # on contains the index we came from, so this ends; fewer than a of the a b places are outside.
        place = lax.while_loop(
            lambda walked: jnp.any(walked >= n),
            lambda walked: jnp.where(walked >= n, _encipher(walked, rows, cols, subkeys), walked),
            place,
        )
    image: Array = place.astype(index.dtype)
    return image


def _encipher(index: _Words, rows: int, cols: int, subkeys: UInt32[Array, "rounds 2"]) -> _Words:
    """The Feistel network: a bijection of ``range(rows * cols)``."""
    left, right = index % rows, index // rows
    for step in range(0, ROUNDS, 2):
        left = (left + _mix(right, subkeys[step]) % rows) % rows
        right = (right + _mix(left, subkeys[step + 1]) % cols) % cols
    image: Array = right * rows + left
    return image


def _mix(half: _Words, subkey: UInt32[Array, " 2"]) -> _Words:
    """A keyed 32-bit mixing function: xor-shift and multiply, twice, with a key word before each multiply.

    The odd multipliers (Wellons' low-bias pair) make every input bit reach every output bit.
    """
    word = half ^ subkey[0]
    word = (word ^ (word >> 16)) * jnp.uint32(0x7FEB352D)
    word = word + subkey[1]
    word = (word ^ (word >> 15)) * jnp.uint32(0x846CA68B)
    mixed: Array = word ^ (word >> 16)
    return mixed
