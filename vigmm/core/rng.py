"""Named streams of random keys, all derived from one root by ``fold_in``.

There is no key state to carry: a stream depends on (root, name) and a step on (stream, step), so a
resumed run draws exactly what the unbroken run would have drawn.
"""

from __future__ import annotations

import zlib

import jax
import numpy as np
from jaxtyping import Array, Int, Key

__all__ = ["at_step", "on_host", "root_key", "stream"]


def root_key(seed: int) -> Key[Array, ""]:
    """The root key of a run, for a non-negative `seed` below 2**32."""
    return jax.random.key(seed)


def stream(root: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The stream called `name`: the root key folded with a CRC-32 of the name.

    Example:
        >>> a, b = stream(root_key(0), "batches"), stream(root_key(0), "noise")
        >>> bool((jax.random.key_data(a) != jax.random.key_data(b)).any())
        True
    """
    # NumPy's: a conversion on the device would be a program to compile.
    return jax.random.fold_in(root, np.uint32(zlib.crc32(name.encode())))


def at_step(key: Key[Array, ""], step: Int[Array, ""] | int) -> Key[Array, ""]:
    """The key of one step of a stream."""
    return jax.random.fold_in(key, np.uint32(step) if isinstance(step, int) else step)


def on_host(key: Key[Array, ""]) -> np.random.Generator:
    """NumPy's generator for what is drawn on the host, seeded with all bits of the key."""
    seed = np.asarray(jax.random.key_data(key), np.uint32).tolist()
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
