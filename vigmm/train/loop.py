"""The training loop: launches compiled chunks, reads metrics one chunk late, decides when to stop."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import numpy as np

from vigmm.core import rng
from vigmm.core.outcome import Outcome
from vigmm.core.struct import require, spec
from vigmm.core.typing import PRNGKey
from vigmm.data.device import holdout_size
from vigmm.data.feed import Feed, Portion, TrainingData, open_feed
from vigmm.data.sampler import Minibatch, Rows
from vigmm.estimators import Objective
from vigmm.models import Prior
from vigmm.optim import Optimizer, SelfJudging
from vigmm.train import memory
from vigmm.train import step as steps
from vigmm.train.checkpoint import Checkpoints, Saved, Snapshot
from vigmm.train.interrupt import Interrupt, Preempted
from vigmm.train.log import Log, Pending
from vigmm.train.placement import everywhere, on_host
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
        stream: whether rows are read again in every pass instead of being kept on the device; None where they
            would take more than a quarter of its memory (see `vigmm.data.stream`).
        devices: how many devices share the rows; None for all accelerators, and one CPU.
        portion_mb: MiB of rows that a stream puts on the device at a time, and that batches are drawn from:
            the more, the better they are mixed. The host holds four times as much.
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
    stream: bool | None = None
    portion_mb: float = 64.0
    devices: int | None = None

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
        require(self.devices is None or self.devices >= 1, "devices", ">= 1", self.devices)
        require(0 < self.portion_mb < math.inf, "portion_mb", "> 0 and finite", self.portion_mb)

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

    def fitted(self, rows: int) -> int:
        """How many of so many rows are not held out, at least one."""
        return max(rows - holdout_size(rows, self.holdout, self.holdout_rows), 1)

    def portion(self, dim: int, dtype: Any) -> int:
        """Rows of a stream's portion: what `portion_mb` holds, and at least a batch.

        Example:
            >>> Train().portion(15, "float32")
            1048576
        """
        width = (dim + 1) * np.dtype(dtype).itemsize
        return max(self.batch_size, int(self.portion_mb * 2**20 / width))

    def steps_per_pass(self, rows: int, dim: int, dtype: Any) -> int:
        """Steps in which each of so many rows is read once, on the device or in a stream."""
        if not self.stream:
            return self.sampler.steps_per_epoch(rows)
        portions = -(-rows // self.portion(dim, dtype))
        return portions * self.sampler.steps_per_epoch(-(-rows // portions))

    def num_steps(self, steps_per_pass: int) -> int:
        """Steps in the budget, at least one, and never more than an int32 holds."""
        steps = max(self.min_steps, math.ceil(self.passes * steps_per_pass))
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
    data: TrainingData,
    holdout: Rows,
    key: PRNGKey,
    *,
    config: Train,
    progress: Progress | None = None,
    phase: str = "fit",
    interrupt: Interrupt | None = None,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """Optimise from `params` until converged, out of budget, interrupted or broken.

    Args:
        objective: model, family and estimator.
        optimizer: makes updates of gradients.
        params: where the run begins.
        prior: hyperparameters.
        data: rows on the device, or a stream of them.
        holdout: rows on the device whose density is watched.
        key: decides batches and draws.
        config: budget, batches and stopping.
        progress: told how the run advances.
        phase: what the run is called.
        interrupt: shared by the phases of a fit, so that a Ctrl-C in one of them ends them all.
        checkpoints: where the run is saved from time to time. One that was saved there goes on, and ends with
            the bits of a run that was never broken.

    Returns:
        The result; a run that met a non-finite value again and again never ends as converged.
    """
    memory.check(objective, optimizer)
    optimizer.check(objective.metric)
    config = config.sized(data.num_rows, optimizer.batches)
    # What is remembered of a batch is true of the same rows only.
    sampler = dataclasses.replace(config.sampler, reshuffle=optimizer.batches is None)
    show = progress or Silent()
    with interrupt or Interrupt() as request, open_feed(data, sampler, rng.stream(key, "blocks")) as feed:
        run = _Run(objective, optimizer, params, prior, data, holdout, key, config, feed)
        saved = None if checkpoints is None else checkpoints.latest(phase)
        if saved is not None:
            run.restore(saved)
        show.start(run.horizon, phase)
        while run.goes_on:
            run.launch(feed.at(run.done))
            # The chunk before this one is read while this one runs: the device never waits for the host.
            run.read(show)
            # Processes that share the rows must come to the same decisions.
            stopped, preempted, out, late = data.group.any_of(
                request.requested, request.preempted, run.used(1.0), run.used(1.0 - optimizer.tail)
            )
            if stopped:
                run.stopped = "stopped by hand; the model is usable as it is"
            run.judge(out_of_time=out, late=late)
            if checkpoints is not None and (checkpoints.due or preempted):
                checkpoints.save(phase, run.snapshot())
            if preempted:
                raise Preempted(phase, run.done)
        run.read(show)
    show.finish()
    return run.result()


class _Run:
    """A run between two chunks of steps; what changes is in `snapshot`."""

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        params: Any,
        prior: Prior,
        data: TrainingData,
        holdout: Rows,
        key: PRNGKey,
        config: Train,
        feed: Feed,
    ) -> None:
        self._objective, self._optimizer, self._feed = objective, optimizer, feed
        self._prior, self._holdout = everywhere(prior, feed.mesh), everywhere(holdout, feed.mesh)
        batches = feed.steps_per_pass
        self.horizon = config.num_steps(batches)
        # Enough chunks to show progress and to react to Ctrl-C on a short run too.
        length = max(1, min(config.chunk_steps, math.ceil(self.horizon / 4)))
        remembers = optimizer.batches is not None
        self._options = {"length": length, "num_draws": config.num_draws}
        self._progression = Progression(
            steps_per_pass=batches,
            total_weight=data.total_weight(),
            tolerance=0.0 if isinstance(optimizer, SelfJudging) else config.tolerance,
            patience=config.patience,
            horizon=self.horizon,
            tail=optimizer.tail,
            terms=steps.term_names(_terms(objective, params, prior, data, key)),
            whole=remembers,
        )
        state = steps.init(objective, optimizer, params, prior, key, batches=batches)
        self._state = everywhere(state, feed.mesh)
        self._log, self._limit = Log(), config.max_seconds
        self._pending: Pending | None = None
        self._launched: Pending | None = None
        self._ending, self._over = False, False
        self._out_of_time: str | None = None
        self.done = 0
        self.stopped: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether there is a chunk left to do."""
        return not self._over and self.done < self.horizon

    def launch(self, portion: Portion) -> None:
        """Start the next chunk of steps."""
        last = min(self.horizon, portion.until)
        self._state, metrics, checks = steps.run(
            self._state, self._prior, portion.rows, self._holdout,
            np.asarray(self.horizon, np.int32), np.asarray(last, np.int32),
            objective=self._objective, optimizer=self._optimizer, sampler=self._feed.sampler,
            mesh=self._feed.mesh, **self._options,
        )  # fmt: skip
        self.done = min(self.done + self._options["length"], last)
        self._launched = Pending.of(self.done, metrics, checks, self._feed.waited)

    def read(self, show: Progress) -> None:
        """Take in the metrics of the chunk before the one that was launched last."""
        for at, values in self._log.read(self._pending):
            self._progression.see(self._log.last)
            show.update(at, values)
            if isinstance(self._optimizer, SelfJudging):
                self._over = self._log.found["done"] > 0
                self._progression.judge_by(self._optimizer.words(self._log.found), done=self._over)
        self._pending, self._launched = self._launched, None

    def judge(self, *, out_of_time: bool, late: bool) -> None:
        """Whether the run is over, or its rates are to come down.

        Args:
            out_of_time: whether the limit of seconds is used up.
            late: whether what is left of it is for the tail.
        """
        if self.stopped or self._progression.failed:
            self._over = True
        elif out_of_time:
            self._over, self._out_of_time = True, self._time_message(early=False)
        elif not self._ending and (self._progression.still or late):
            # The horizon is an argument of the program: moving it begins the tail and compiles nothing.
            self._ending, last = True, shortened(self.done, self._optimizer.tail, self.horizon)
            if last < self.horizon and not self._progression.still:
                self._out_of_time = self._time_message(early=True)
            self.horizon = last
            self._progression.tail_begins(self.done)

    def result(self) -> Result:
        """What the run leaves."""
        outcome = self._progression.final(
            int(self._state.step), stopped=self.stopped, out_of_time=self._out_of_time
        )
        params = on_host(self._optimizer.result(self._state.params, self._state.opt_state), self._feed.mesh)
        return Result(state=self._state, params=params, metrics=self._log.arrays(), outcome=outcome)

    def snapshot(self) -> Snapshot:
        """All that changes; waits for the chunk that is running."""
        pending = {} if self._pending is None else self._pending.arrays()
        facts = {
            "done": self.done,
            "horizon": self.horizon,
            "ending": self._ending,
            # One that was stopped by hand may go on.
            "over": self._over and self.stopped is None,
            "out_of_time": self._out_of_time,
            "seconds": self._log.seconds,
            "holdout": float(pending.get("checks.holdout", math.nan)),
            "progression": self._progression.snapshot(),
        }
        return Snapshot(
            state=self._state, arrays={"pending": pending, "log": self._log.arrays()}, facts=facts
        )

    def restore(self, saved: Saved) -> None:
        """Go on where `snapshot` was made."""
        self._state = everywhere(saved.fill(self._state), self._feed.mesh)
        facts = saved.facts
        self.done, self.horizon = facts["done"], facts["horizon"]
        self._ending, self._over, self._out_of_time = (facts[it] for it in ("ending", "over", "out_of_time"))
        self._log.restore(saved.arrays["log"], facts["seconds"])
        self._progression.restore(facts["progression"])
        if saved.arrays["pending"]:
            self._pending = Pending(self.done, saved.arrays["pending"], 0.0)

    def used(self, share: float) -> bool:
        """Whether this share of the limit of seconds is used up."""
        return self._limit is not None and self._log.seconds >= share * self._limit

    def _time_message(self, *, early: bool) -> str:
        """What the limit did: it brought the rate down early, or it ended the run in the middle."""
        text = f"used the {self._limit:g} seconds it was given"
        return text if early else f"{text}, before its rate had come down"


def _terms(
    objective: Objective, params: Any, prior: Prior, data: TrainingData, key: PRNGKey
) -> dict[str, Any]:
    """Names of the bound's terms, by abstract evaluation: nothing is computed."""
    import jax

    from vigmm.core.typing import Batch

    # Only the shapes of one row; a slice of the rows would be a program to compile.
    def one_row(*rest: int) -> Any:
        return jax.ShapeDtypeStruct((1, *rest), np.dtype(data.dtype))  # type: ignore[no-untyped-call]

    one = Batch(x=one_row(data.dim), weight=one_row())
    shapes: dict[str, Any] = jax.eval_shape(objective.value, params, prior, one, key)
    return shapes
