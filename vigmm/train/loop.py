"""The training loop: launches compiled chunks, reads metrics one chunk late, decides when to stop."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from vigmm.core.outcome import Outcome
from vigmm.core.struct import require, spec
from vigmm.core.typing import PRNGKey
from vigmm.data.sampler import Minibatch, Rows
from vigmm.estimators import Objective
from vigmm.models import Prior
from vigmm.optim import Optimizer
from vigmm.train import memory
from vigmm.train import step as steps
from vigmm.train.interrupt import Interrupt
from vigmm.train.stopping import Progression, shortened

__all__ = ["Progress", "Result", "Silent", "Train", "train"]


_MOST_STEPS = 2**31 - 1


class Progress(Protocol):
    """Whoever wants to see a run advance; called on the host, once per chunk."""

    def start(self, total_steps: int, phase: str) -> None:
        """A phase of `total_steps` steps begins."""
        ...

    def update(self, step: int, values: dict[str, float]) -> None:
        """`step` steps are done; `values` holds the latest metrics by name."""
        ...

    def finish(self) -> None:
        """The phase is over."""
        ...


class Silent:
    """Shows nothing."""

    def start(self, total_steps: int, phase: str) -> None:
        """Nothing."""

    def update(self, step: int, values: dict[str, float]) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


@spec
class Train:
    """Budget, batches and stopping.

    The budget is in passes, steps or seconds, whichever ends first. A run whose ELBO stopped rising ends
    earlier; where the rates of the optimiser decrease they are first brought to their end (see
    `vigmm.train.stopping`).

    Args:
        batch_size: rows per step; at least N makes every step a full pass. More where the optimiser remembers
            its batches (`Optimizer.batches`) and N rows would be too many of them.
        passes: how many times the data may be read.
        min_steps: `passes` is at least this many steps, so that small data get enough of them.
        max_steps: the most steps; None for as many as `passes` and `min_steps` say.
        max_seconds: the most seconds of a phase, compilation included; None for no limit. Rates are brought
            to their end within them. Acts between chunks, and makes results depend on the machine.
        holdout: share of the rows kept aside to measure the predictive density; 0 keeps none.
        holdout_rows: largest number of rows kept aside.
        tolerance: the run has converged when the ELBO rises by less than this, in nats per row and pass, or
            by less than its own standard error; 0 always does the whole budget.
        patience: how many times in a row that must be found.
        chunk_steps: steps per compiled call; metrics and Ctrl-C act between calls.
        num_draws: posterior draws for the held-out density of families without a closed form.
    """

    batch_size: int = 1024
    passes: float = 20.0
    min_steps: int = 1_000
    max_steps: int | None = None
    max_seconds: float | None = None
    holdout: float = 0.05
    holdout_rows: int = 5_000
    tolerance: float = 1e-5
    patience: int = 2
    chunk_steps: int = 50
    num_draws: int = 4

    def __post_init__(self) -> None:
        for name in ("batch_size", "min_steps", "patience", "chunk_steps", "num_draws"):
            require(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        require(0 < self.passes < math.inf, "passes", "> 0 and finite", self.passes)
        counted = self.max_steps is None or 1 <= self.max_steps <= _MOST_STEPS
        require(counted, "max_steps", "between 1 and 2**31 - 1", self.max_steps)
        limited = self.max_seconds is None or 0 < self.max_seconds < math.inf
        require(limited, "max_seconds", "> 0 and finite", self.max_seconds)
        require(0 <= self.holdout < 1, "holdout", "in [0, 1)", self.holdout)
        require(self.holdout_rows >= 0, "holdout_rows", ">= 0", self.holdout_rows)
        require(0 <= self.tolerance < math.inf, "tolerance", ">= 0 and finite", self.tolerance)

    @property
    def sampler(self) -> Minibatch:
        """The sampler of this batch size."""
        return Minibatch(self.batch_size)

    def sized(self, rows: int, batches: int | None) -> Train:
        """The same with batches so large that `rows` rows are no more than `batches` of them.

        Example:
            >>> Train().sized(200_000, 20).batch_size, Train().sized(600, 20).batch_size
            (10000, 1024)
        """
        if batches is None:
            return self
        return dataclasses.replace(self, batch_size=max(self.batch_size, -(-rows // batches)))

    def num_steps(self, rows: int) -> int:
        """Steps in the budget, at least one, and never more than an int32 holds."""
        steps = max(self.min_steps, math.ceil(self.passes * self.sampler.steps_per_epoch(rows)))
        return min(steps, _MOST_STEPS if self.max_steps is None else self.max_steps)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run leaves.

    Args:
        state: the last good state.
        params: what the run ends with: the parameters of `state`, or an average of them.
        metrics: by name, as NumPy arrays.
        outcome: how it ended.
    """

    state: steps.TrainState
    params: Any
    metrics: dict[str, np.ndarray]
    outcome: Outcome


def train(
    objective: Objective,
    optimizer: Optimizer,
    params: Any,
    prior: Prior,
    data: Rows,
    holdout: Rows,
    key: PRNGKey,
    *,
    config: Train,
    progress: Progress | None = None,
    phase: str = "fit",
    interrupt: Interrupt | None = None,
) -> Result:
    """Optimise from `params` until converged, out of budget, interrupted or broken.

    `interrupt` is shared by the phases of a fit, so that a Ctrl-C in one of them ends them all.

    Returns:
        The result; a run that met a non-finite value again and again never ends as converged.
    """
    show = progress or Silent()
    clock = _Clock(config.max_seconds)
    rows = data.x.shape[0]
    memory.check(objective, optimizer)
    remembers = optimizer.batches is not None
    config = config.sized(rows, optimizer.batches)
    # What is remembered of a batch is true of the same rows only.
    sampler = dataclasses.replace(config.sampler, reshuffle=not remembers)
    batches = sampler.steps_per_epoch(rows)
    horizon = config.num_steps(rows)
    # Enough chunks to show progress and to react to Ctrl-C on a short run too.
    length = max(1, min(config.chunk_steps, math.ceil(horizon / 4)))
    names = steps.term_names(_terms(objective, params, prior, data, key))
    progression = Progression(
        steps_per_pass=batches,
        total_weight=data.total_weight(),
        tolerance=config.tolerance,
        patience=config.patience,
        horizon=horizon,
        tail=optimizer.tail,
        terms=names,
        whole=remembers,
    )
    optimizer.check(objective.metric)
    state = steps.init(objective, optimizer, params, key, batches=batches)
    log = _Log(time.perf_counter())
    show.start(horizon, phase)
    pending: tuple[int, Any, Any] | None = None
    done, ending = 0, False
    stopped: str | None = None
    out_of_time: str | None = None
    with interrupt or Interrupt() as request:
        while done < horizon:
            state, metrics, checks = steps.run(
                state, prior, data, holdout, np.asarray(horizon, np.int32),
                objective=objective, optimizer=optimizer, sampler=sampler,
                length=length, num_draws=config.num_draws,
            )  # fmt: skip
            done = min(done + length, horizon)
            # The chunk before this one is read while this one runs: the device never waits for the host.
            for at, values in log.read(pending):
                progression.see(log.last)
                show.update(at, values)
            pending = (done, metrics, checks)
            if request.requested:
                stopped = "stopped by hand; the model is usable as it is"
            if stopped or progression.failed:
                break
            if clock.over(1.0):
                out_of_time = clock.message(early=False)
                break
            late = clock.over(1.0 - optimizer.tail)
            if not ending and (progression.still or late):
                # The horizon is an argument of the program: moving it begins the tail and compiles nothing.
                ending, last = True, shortened(done, optimizer.tail, horizon)
                if last < horizon and not progression.still:
                    out_of_time = clock.message(early=True)
                horizon = last
                progression.tail_begins(done)
        for at, values in log.read(pending):
            progression.see(log.last)
            show.update(at, values)
    show.finish()
    outcome = progression.final(int(state.step), stopped=stopped, out_of_time=out_of_time)
    params = optimizer.result(state.params, state.opt_state)
    return Result(state=state, params=params, metrics=log.arrays(), outcome=outcome)


class _Clock:
    """The limit of seconds, from now on."""

    def __init__(self, limit: float | None) -> None:
        self._limit, self._began = limit, time.perf_counter()

    def over(self, share: float) -> bool:
        """Whether this share of the limit is used up."""
        return self._limit is not None and time.perf_counter() - self._began >= share * self._limit

    def message(self, *, early: bool) -> str:
        """What the limit did: it brought the rate down early, or it ended the run in the middle."""
        text = f"used the {self._limit:g} seconds it was given"
        return text if early else f"{text}, before its rate had come down"


def _terms(objective: Objective, params: Any, prior: Prior, data: Rows, key: PRNGKey) -> dict[str, Any]:
    """Names of the bound's terms, by abstract evaluation: nothing is computed."""
    import jax

    from vigmm.core.typing import Batch

    # Only the shapes of one row; a slice of the rows would be a program to compile.
    def one_row(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype)  # type: ignore[no-untyped-call]

    one = Batch(x=one_row(data.x), weight=one_row(data.weight))
    shapes: dict[str, Any] = jax.eval_shape(objective.value, params, prior, one, key)
    return shapes


class _Log:
    """Metrics of the whole run on the host."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._steps: list[dict[str, np.ndarray]] = []
        self._chunks: list[dict[str, float]] = []
        self._done = 0
        self.last: dict[str, np.ndarray] = {}

    def read(self, pending: tuple[int, Any, Any] | None) -> Iterator[tuple[int, dict[str, float]]]:
        """Fetch one chunk, if there is one; yields the step it ended at and its latest values."""
        if pending is None:
            return
        done, metrics, checks = pending
        count = done - self._done
        fields = ("elbo", "se", "grad_norm", "rate", "bad", "reset")
        self.last = {name: np.asarray(getattr(metrics, name))[:count].copy() for name in fields}
        if int(checks.reset) >= 0:  # found after the last step
            self.last["reset"][-1] = int(checks.reset)
        self.last["step"] = np.arange(self._done, done)
        self._done = done
        self._steps.append(self.last)
        chunk = {
            "chunk_step": float(done),
            "holdout": float(checks.holdout),
            "effective_components": float(checks.effective_components),
            "seconds": time.perf_counter() - self._began,
        }
        self._chunks.append(chunk)
        yield done, {"elbo": float(self.last["elbo"][-1]), "rate": float(self.last["rate"][-1]), **chunk}

    def arrays(self) -> dict[str, np.ndarray]:
        """All metrics: per step (step, elbo, se, grad_norm, rate, bad, reset) and per chunk (the rest)."""
        merged = {name: np.concatenate([one[name] for one in self._steps]) for name in self._steps[0]}
        merged |= {name: np.array([one[name] for one in self._chunks]) for name in self._chunks[0]}
        return merged
