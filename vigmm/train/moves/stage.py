"""One stage of the search: rounds of moves on a fixed set of rows, driven from the host.

Compiled programs do the work; between them the host reads a bound and a mask, once a move.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from vigmm.core import rng
from vigmm.core.effort import pass_work
from vigmm.core.processes import ALONE, Group
from vigmm.core.struct import require, spec
from vigmm.core.typing import PRNGKey
from vigmm.data.sampler import Rows
from vigmm.families import row_counts_on_host
from vigmm.models import Mixture, Prior
from vigmm.train.interrupt import Interrupt, Preempted
from vigmm.train.loop import Progress
from vigmm.train.moves.merge import Pairs, choose, merge, pairs
from vigmm.train.moves.mixture import Slots, ascend, resize
from vigmm.train.moves.split import WAYS, split

__all__ = ["Moves", "Request", "Stage", "least_gain"]

# In operations of a pass, see `pass_work`: where it takes more, halving it for fewer slots saves more than
# compiling costs.
_WORTH_HALVING = 1e9
_SMALLEST = 32
# In these operations too, half a second on two cores: the most that a pass of a later stage may take.
_DEAR = 5e9
_MERGE_STEPS = 5
_DELETIONS = 3
_TRIALS = 6
_TRIAL_STEPS = 15


@spec
class Moves:
    """How the number of components is searched for.

    Args:
        rows: the most rows that the bound is judged on; fewer where a row is dear, see `stages`.
        first_rows: rows of the first stage, where there are many more.
        rounds: the most split rounds of a stage; a stage ends when every kind of cut has failed in a row.
        split_steps: coordinate steps that halves take before they may merge.
        settle_steps: the most coordinate steps after a round.
        keep: whether components that the search has no use for stay in the model, empty. Else it has those
            only that were found, wherever fewer are the same prior.
        spread: whether the search also finds how large a component is, where the prior's covariance follows
            the data: a factor of at least one is inferred with the components, and kept (empirical Bayes).
    """

    rows: int = 200_000
    first_rows: int = 20_000
    rounds: int = 20
    split_steps: int = 15
    settle_steps: int = 50
    keep: bool = False
    spread: bool = True

    def __post_init__(self) -> None:
        for name in ("rows", "first_rows", "split_steps", "settle_steps"):
            require(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        require(self.rounds >= 0, "rounds", ">= 0", self.rounds)

    def stages(self, rows: int, work: float = 0.0) -> tuple[int, ...]:
        """Rows of each stage, for data of so many rows.

        Few rows show the larger part of the structure, and their bound has fewer places to be stuck in. A
        search makes hundreds of passes, and training makes its own over all rows: where a row is dear, the
        last stage has fewer.

        Args:
            rows: how many there are.
            work: operations of a pass for each row, see `pass_work`.

        Example:
            >>> Moves().stages(5_000), Moves().stages(3_000_000), Moves().stages(3_000_000, work=1e5)
            ((5000,), (20000, 200000), (20000, 50000))
        """
        most = min(rows, self.rows)
        if most <= 2 * self.first_rows:
            return (most,)
        affordable = max(2 * self.first_rows, int(_DEAR / work)) if work else most
        return (self.first_rows, min(most, affordable))


class Request:
    """Whether to stop: by hand, or because time is up.

    Args:
        interrupt: the request by hand, if there can be one.
        seconds: from now on; None for no limit.
        group: processes that do the same search. Each has its own clock, and signals reach them at different
            moments: they stop where the first of them would.
    """

    def __init__(
        self, interrupt: Interrupt | None = None, seconds: float | None = None, group: Group = ALONE
    ) -> None:
        self._interrupt, self._group = interrupt, group
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def stopped(self) -> bool:
        """It is asked for between moves, by all processes at the same ones."""
        hand = self._interrupt
        stopped, preempted = self._group.any_of(
            time.monotonic() > self._end or (hand is not None and hand.requested),
            hand is not None and hand.preempted,
        )
        if preempted:
            raise Preempted("search", 0)
        return stopped


def least_gain(elbo: float, dtype: Any) -> float:
    """What counts as better than a bound: a nat, and well over the rounding of a sum of that size."""
    return max(1.0, 20.0 * float(np.finfo(dtype).eps) * abs(elbo))


class Stage:
    """One stage: a fixed set of rows."""

    def __init__(
        self,
        moves: Moves,
        model: Mixture,
        prior_at: Callable[[int], Prior],
        rows: Rows,
        least: int,
        show: Progress,
        request: Request,
        before: int,
        share: float,
    ) -> None:
        self._moves, self._model, self._prior_at, self._rows = moves, model, prior_at, rows
        self._most, self._least = model.num_components, least
        self._show, self._request = show, request
        self._before, self._share = before, share
        self._sizes = _sizes(self._most, pass_work(rows.x.shape, 1))
        self._total_weight = rows.total_weight()
        self._priors: dict[int, Prior] = {}
        self.notes: dict[str, Any] = {"merges": 0, "deletions": 0, "rounds": 0, "rounds_kept": 0}

    def run(self, slots: Slots, key: PRNGKey) -> Slots:
        """Merges first, then rounds of splits and births, then deletions."""
        start = slots
        slots, elbo = self._settle(start, self._moves.settle_steps)
        if not math.isfinite(elbo):
            self.notes["broken"] = "the bound of the start is not finite"
            return start
        slots, elbo = self._better((slots, elbo), self._join(self._halved(slots), elbo))
        slots, elbo = self._try_merges(slots, elbo)
        failed = number = 0
        while failed < len(WAYS) and number < self._moves.rounds and not self._request.stopped():
            proposal = self._round(slots, rng.at_step(key, number), number % len(WAYS))
            kept, new = slots, self._better((slots, elbo), proposal)
            slots, elbo = new
            failed = 0 if slots is not kept else failed + 1
            number += 1
            self.notes["rounds"] += 1
            self.notes["rounds_kept"] += slots is not kept
            self._tell(number, slots, elbo)
        slots, elbo = self._delete(*self._try_merges(slots, elbo))
        slots, elbo = self._settle(slots, self._moves.settle_steps)
        self.notes |= {"components": self.count(slots), "elbo": elbo}
        return slots

    def count(self, slots: Slots) -> int:
        """Components in use."""
        return int(np.sum(np.asarray(slots.used)))

    def _tell(self, number: int, slots: Slots, elbo: float) -> None:
        """The bound as if all rows were like these."""
        values = {"elbo": elbo * self._share, "effective_components": float(self.count(slots))}
        self._show.update(self._before + number, values)

    # Sizes ----------------------------------------------------------------------------------

    def _size(self, needed: int) -> int:
        return next((size for size in self._sizes if size >= needed), self._sizes[-1])

    def _sized(self, size: int) -> tuple[Mixture, Prior]:
        if size not in self._priors:
            self._priors[size] = self._prior_at(size)
        return dataclasses.replace(self._model, num_components=size), self._priors[size]

    def resized(self, slots: Slots, size: int) -> Slots:
        """In exactly `size` slots."""
        now = slots.used.shape[0]
        if now == size:
            return slots
        model, after = self._sized(size)
        moved: Slots = resize(model, self._sized(now)[1], after, slots)
        return moved

    # Moves ----------------------------------------------------------------------------------

    def _least_gain(self, elbo: float) -> float:
        return least_gain(elbo, self._rows.x.dtype)

    def _settle(self, slots: Slots, steps: int) -> tuple[Slots, float]:
        slots = self.resized(slots, self._size(self.count(slots)))
        model, prior = self._sized(slots.used.shape[0])
        dtype = self._rows.x.dtype
        # A millionth of a nat per row: well below what a move must gain, and above rounding.
        tolerance = np.asarray(max(0.02, 1e-6 * self._total_weight), dtype)
        slots, elbo = ascend(model, prior, slots, self._rows, np.asarray(steps, np.int32), tolerance)
        return slots, float(elbo)

    def _better(self, old: tuple[Slots, float], new: tuple[Slots, float]) -> tuple[Slots, float]:
        # Where the number is the user's, a swap must not trade a cluster for a few outliers, though the bound
        # may prefer one component and those to the clusters that were asked for.
        fair = self._least == 1 or self._smallest(new[0]) >= 0.5 * self._smallest(old[0])
        # Written so that NaN loses.
        return new if fair and new[1] > old[1] + self._least_gain(old[1]) else old

    def _smallest(self, slots: Slots) -> float:
        """Rows of the K-th largest component."""
        prior = self._sized(slots.used.shape[0])[1]
        counts = row_counts_on_host(slots.params.components, prior)
        return float(np.sort(counts)[::-1][self._most - 1]) if len(counts) >= self._most else 0.0

    def _halved(self, slots: Slots) -> Slots:
        """In so many slots that half are spare, where there are: what all but ascent is compiled for."""
        return self.resized(slots, self._size(2 * self.count(slots)))

    def _join(self, slots: Slots, elbo: float) -> tuple[Slots, float]:
        """Merge while the bound rises, and on to the most components that are allowed."""
        while not self._request.stopped():
            slots = self._halved(slots)
            model, prior = self._sized(slots.used.shape[0])
            count = self.count(slots)
            found = pairs(model, prior, slots, self._rows)
            chosen = choose(found, least=self._least_gain(elbo), most=count - self._least)
            forced = not chosen and count > self._most
            if forced:
                chosen = choose(found, least=-math.inf, most=count - self._most)
            if not chosen:
                break
            joined, value = self._settle(self._merged(slots, found, chosen), _MERGE_STEPS)
            if not forced and not value > elbo:
                break
            self.notes["merges"] += len(chosen)
            slots, elbo = joined, value
        return self._settle(slots, self._moves.settle_steps)

    def _merged(self, slots: Slots, found: Pairs, chosen: list[tuple[int, int, float]]) -> Slots:
        """The posterior after the chosen pairs, which are disjoint, have become one each."""
        model, prior = self._sized(slots.used.shape[0])
        group = np.arange(slots.used.shape[0])
        for into, gone, _ in chosen:
            group[gone] = into
        merged: Slots = merge(model, prior, slots, found, group)
        return merged

    def _round(self, slots: Slots, key: PRNGKey, way: int) -> tuple[Slots, float]:
        slots = self._halved(slots)
        model, prior = self._sized(slots.used.shape[0])
        cut = split(model, prior, slots, self._rows, key, np.asarray(way, np.int32))
        return self._join(*self._settle(cut, self._moves.split_steps))

    def _try_merges(self, slots: Slots, elbo: float) -> tuple[Slots, float]:
        """Merges that are judged after coordinate steps.

        Where components share most of their rows, what a merge gains at fixed responsibilities is far below
        what it gains once they have settled: of three that lie on one Gaussian, every pair may seem to lose
        by its merge. So the best pairs are tried, down to a loss of log n / 2 for each coordinate of a
        component.
        """
        rows = self._total_weight
        _, own, shared = self._model.sizes(self._rows.x.shape[1])
        least = -0.5 * (own + shared) * math.log(max(rows, 2.0))
        while self.count(slots) > self._least and not self._request.stopped():
            slots = self._halved(slots)
            model, prior = self._sized(slots.used.shape[0])
            found = pairs(model, prior, slots, self._rows)
            for pair in choose(found, least=least, most=_TRIALS, disjoint=False):
                tried, value = self._settle(self._merged(slots, found, [pair]), _TRIAL_STEPS)
                if elbo - value < value - (elbo + pair[2]):
                    # What is missing is less than what the steps have gained: some more may do it.
                    tried, value = self._settle(tried, self._moves.settle_steps)
                kept = slots
                slots, elbo = self._better((slots, elbo), (tried, value))
                if slots is not kept:
                    self.notes["merges"] += 1
                    break
            else:
                break
        return slots, elbo

    def _delete(self, slots: Slots, elbo: float) -> tuple[Slots, float]:
        """Try to do without each of the smallest components: their rows go to the others."""
        for _ in range(_DELETIONS):
            count = self.count(slots)
            if count <= self._least or count < 2 or self._request.stopped():
                break
            fewer = np.asarray(slots.used).copy()
            fewer[count - 1] = False
            tried = self._settle(dataclasses.replace(slots, used=jnp.asarray(fewer)), self._moves.split_steps)
            kept = slots
            slots, elbo = self._better((slots, elbo), tried)
            if slots is kept:
                break
            self.notes["deletions"] += 1
        return slots, elbo


def _sizes(most: int, work: float) -> list[int]:
    """Numbers of slots that are compiled: twice the most components, and halves of it that are worth it."""
    sizes = [2 * most]
    while sizes[0] // 2 >= _SMALLEST and sizes[0] * work > _WORTH_HALVING:
        sizes.insert(0, 2 * math.ceil(sizes[0] / 4))
    return sizes
