"""Arrays that somebody chose: what a Spec may hold in their place, and how a manifest describes them.

A Spec is hashable, compares by value and goes into the manifest; an array does none of that. `Given` holds a
read-only copy of it with a digest of its content: two that hold the same numbers are equal.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

__all__ = ["Given"]


class Given:
    """A value that was given from Python, equal to another by the digest of its arrays.

    Args:
        value: what was given.
        arrays: the arrays that make it what it is.
        about: what else the manifest should say of it, JSON-ready.

    Example:
        >>> Given.array([1, 2, 3]) == Given.array(np.array([1, 2, 3]))
        True
        >>> Given.array([[0.5, 1.5]]).describe()["shape"]
        [1, 2]
    """

    def __init__(self, value: Any, arrays: list[np.ndarray], **about: Any) -> None:
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(f"{array.shape}:{array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        self.value, self.about, self.fingerprint = value, about, f"sha256:{digest.hexdigest()}"

    @staticmethod
    def array(values: Any) -> Given:
        """A copy of an array that nobody can write to."""
        copy = np.array(values)
        copy.flags.writeable = False
        return Given(copy, [copy], shape=list(copy.shape), dtype=copy.dtype.name)

    def describe(self) -> dict[str, Any]:
        """What a manifest says in its place."""
        return {**self.about, "fingerprint": self.fingerprint}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given) and other.fingerprint == self.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        words = ", ".join(f"{name}={value}" for name, value in self.about.items())
        return f"Given({words}, {self.fingerprint[:15]})"
