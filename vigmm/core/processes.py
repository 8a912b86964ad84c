"""Several processes that do one piece of work: what they tell each other, as arrays on the host.

Each has its own share of the rows. What must be known to all, such as moments, samples and counts, is
gathered here, once; in the training loop only sums over devices go between them (`vigmm.train.placement`).
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

__all__ = ["ALONE", "Group"]


@dataclasses.dataclass(frozen=True)
class Group:
    """The processes, seen by one of them; every method must be called by all of them alike.

    Args:
        index: which of them this is, from 0.
        count: how many they are.

    Example:
        >>> group = Group(0, 1)
        >>> group.total(np.array([1.0, 2.0])).tolist(), group.gather_facts({"rows": 3})
        ([1.0, 2.0], [{'rows': 3}])
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.index == 0

    def gather(self, array: np.ndarray) -> list[np.ndarray]:
        """The arrays of all processes, in order; they may differ in length and in nothing else."""
        if self.count == 1:
            return [array]
        raw = self._gather_bytes(np.ascontiguousarray(array).tobytes())
        rest = array.shape[1:]
        return [np.frombuffer(one, array.dtype).reshape(-1, *rest) for one in raw]

    def counts(self, rows: int) -> list[int]:
        """How many rows each process has, in order."""
        return [int(one[0]) for one in self.gather(np.array([rows]))]

    def gather_facts(self, facts: Any) -> list[Any]:
        """What all processes have to say, in order; JSON-ready."""
        if self.count == 1:
            return [facts]
        return [json.loads(one) for one in self._gather_bytes(json.dumps(facts).encode())]

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum over processes, in float64."""
        found: np.ndarray = np.sum(self.gather(np.asarray(values, np.float64)[None]), axis=0)[0]
        return found

    def joined(self, array: np.ndarray) -> np.ndarray:
        """The arrays of all processes, one after the other."""
        return array if self.count == 1 else np.concatenate(self.gather(array))

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag whether it is raised in any process."""
        if self.count == 1:
            return flags
        return tuple(bool(flag) for flag in np.max(self.gather(np.array([flags])), axis=0)[0])

    def _gather_bytes(self, content: bytes) -> list[bytes]:
        """Bytes go as bytes: no number changes its type on the way."""
        from jax.experimental.multihost_utils import process_allgather

        sizes = np.asarray(process_allgather(np.array([len(content)], np.int32)))[:, 0]
        padded = np.zeros(max(int(sizes.max()), 1), np.uint8)
        padded[: len(content)] = np.frombuffer(content, np.uint8)
        rows = np.asarray(process_allgather(padded))
        return [row[:size].tobytes() for row, size in zip(rows, sizes.tolist(), strict=True)]


ALONE = Group()
