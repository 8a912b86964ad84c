"""What processes find out together is what one would find out, whoever has which rows."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from vigmm.core.errors import DataError
from vigmm.core.processes import ALONE, Group
from vigmm.data.arrays import ArraySource
from vigmm.data.feed import OneDevice
from vigmm.data.intake import survey, take_in
from vigmm.data.missing import observed_moments
from vigmm.data.moments import Moments, compute_moments
from vigmm.data.shares import fingerprint_of, weighed_fingerprint
from vigmm.data.stream import Stream

DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(300, 3)) @ [[1, 0.9, 0], [0, 1, 0], [0, 0, 1e-3]] + [1e6, 0, 5]
WEIGHT = DRAW.uniform(0.5, 2.0, len(ROWS))
CUTS = (0, 40, 41, 300)


@dataclasses.dataclass(frozen=True)
class Threads(Group):
    """Processes as threads of this one; what they tell each other goes the way of bytes as ever."""

    meeting: Any = None
    board: Any = None

    def _gather_bytes(self, content: bytes) -> list[bytes]:
        self.board[self.index] = content
        self.meeting.wait(timeout=20)
        found = list(self.board)
        self.meeting.wait(timeout=20)
        return found


def together(does: Callable[[slice, Threads], Any]) -> list[Any]:
    """What each of some processes comes to, given its rows."""
    shares = [slice(*pair) for pair in itertools.pairwise(CUTS)]
    meeting, board = threading.Barrier(len(shares)), [b""] * len(shares)
    groups = [Threads(i, len(shares), meeting, board) for i in range(len(shares))]
    with concurrent.futures.ThreadPoolExecutor(len(shares)) as pool:
        futures = [pool.submit(does, mine, group) for mine, group in zip(shares, groups, strict=True)]
        return [future.result() for future in futures]


def agree(found: Moments, whole: Moments) -> None:
    for field in dataclasses.fields(Moments):
        values = getattr(found, field.name), getattr(whole, field.name)
        np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-13, err_msg=field.name)


def light(mine: slice) -> np.ndarray:
    """Weights of all rows, of which those of a share are zero."""
    weight = WEIGHT.copy()
    weight[mine] = 0
    return weight


@pytest.mark.parametrize("weight", [None, WEIGHT, light(slice(0, 40)), light(slice(41, 300))])
def test_moments(weight: np.ndarray | None) -> None:
    whole = compute_moments(ArraySource(ROWS), weight=weight)

    def does(mine: slice, group: Group) -> Moments:
        share = None if weight is None else weight[mine]
        return compute_moments(ArraySource(ROWS[mine]), weight=share, group=group, chunk=16)

    for found in together(does):
        agree(found, whole)


@pytest.mark.parametrize("weight", [None, WEIGHT, light(slice(0, 40))])
def test_moments_and_patterns_of_what_is_observed(weight: np.ndarray | None) -> None:
    x = ROWS.copy()
    x[DRAW.random(x.shape) < 0.2] = np.nan
    x[:41, 1] = np.nan  # two of three processes have nothing of a column
    whole, patterns = observed_moments(ArraySource(x), weight=weight)

    def does(mine: slice, group: Group) -> tuple[Moments, np.ndarray]:
        share = None if weight is None else weight[mine]
        return observed_moments(ArraySource(x[mine]), weight=share, group=group, chunk=16)

    for found, seen in together(does):
        agree(found, whole)
        np.testing.assert_array_equal(seen, patterns)


def test_what_no_process_has_is_refused_by_all() -> None:
    gone = np.where([[True, False, True]], ROWS, np.nan)

    def does(mine: slice, group: Group) -> list[str]:
        share, said = ArraySource(ROWS[mine]), []
        for call in (
            lambda: compute_moments(share, weight=np.zeros(len(share)), group=group),
            lambda: observed_moments(share, weight=np.zeros(len(share)), group=group),
            lambda: observed_moments(ArraySource(gone[mine]), group=group),
        ):
            with pytest.raises(DataError) as caught:
                call()
            said.append(str(caught.value))
        return said

    for zero, zero_too, column in together(does):
        assert zero == zero_too == "x: all sample weights are zero, so there is nothing to fit"
        assert column == "x: column 'x1' has no value in any row; leave it out"


@pytest.mark.parametrize("portion", [None, 90])
@pytest.mark.parametrize("missing", [False, True])
def test_rows_and_weights_are_taken_in_alike(missing: bool, portion: int | None) -> None:
    """Sample and held-out rows are the same for all, and no weight is lost."""
    x = ROWS.copy()
    x[DRAW.random(x.shape) < 0.2] = np.nan if missing else 1.0
    weight = light(slice(0, 40))

    def does(mine: slice, group: Group) -> Any:
        source, share = ArraySource(x[mine]), weight[mine]
        seen = survey(source, share, missing=missing, dtype="float32", group=group)
        taken = take_in(
            source, seen, dtype=np.float32, holdout=0.1, most_held=100, portion=portion, sample=50,
            key=jax.random.key(3), weight=share, layout=OneDevice(group=group),
        )  # fmt: skip
        data = taken.data
        # Past the cache, whose lock is one for all threads in Python 3.11.
        return taken, Stream._weight.func(data) if isinstance(data, Stream) else data.total_weight()

    whole, _ = does(slice(None), Group())
    found = together(does)
    for one, _ in found:
        np.testing.assert_array_equal(one.index, whole.index)
        for name in ("raw", "weight"):
            np.testing.assert_array_equal(getattr(one.held, name), getattr(whole.held, name))
        for name in ("x", "weight"):
            mine, all_of_it = getattr(one.sample, name), getattr(whole.sample, name)
            np.testing.assert_allclose(mine, all_of_it, rtol=1e-5, atol=1e-5)
    trained = weight.sum() - whole.held.weight.sum()
    totals = [total for _, total in found]
    if portion is None:  # of the rows that this one device of a process has
        totals = [sum(totals)]
    assert totals == pytest.approx([trained] * len(totals), rel=1e-6)


def test_a_run_goes_on_with_the_same_weights_only():
    source, weight = ArraySource(np.eye(3)), np.array([1.0, 2.0, 0.0])

    def of(heavy):
        return weighed_fingerprint(fingerprint_of(source, ALONE), heavy, source, ALONE)

    found = {fingerprint_of(source, ALONE), of(weight)}
    assert of(None) in found
    assert len(found | {of(weight[::-1])}) == 3
    assert of(weight.astype(np.float32)) in found
    with pytest.raises(DataError, match="row 1"):
        of(np.array([1.0, -2.0, 0.0]))
