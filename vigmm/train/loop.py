"""The training loop: launches compiled chunks, reads metrics one chunk late, decides when to stop."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from vigmm.core.outcome import Outcome, Status
from vigmm.core.struct import require, spec
from vigmm.core.typing import PRNGKey
from vigmm.data.sampler import Minibatch, Rows
from vigmm.estimators import Objective
from vigmm.models import Prior
from vigmm.optim import Optimizer
from vigmm.train import step as steps
from vigmm.train.interrupt import Interrupt
from vigmm.train.stopping import Progression

__all__ = ["Progress", "Result", "Silent", "Train", "train"]


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

    Args:
        batch_size: rows per step; at least N makes every step a full pass.
        passes: how many times the data may be read.
        min_steps: the budget is at least this many steps, so that small data get enough of them.
        holdout: share of the rows kept aside to measure the predictive density; 0 keeps none.
        holdout_rows: largest number of rows kept aside.
        tolerance: the run has converged when the ELBO per row, averaged over a pass, changes by less.
        patience: number of passes in a row for which it must change by less.
        chunk_steps: steps per compiled call; metrics and Ctrl-C act between calls.
        num_draws: posterior draws for the held-out density of families without a closed form.
    """

    batch_size: int = 1024
    passes: float = 20.0
    min_steps: int = 1_000
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
        require(0 <= self.holdout < 1, "holdout", "in [0, 1)", self.holdout)
        require(self.holdout_rows >= 0, "holdout_rows", ">= 0", self.holdout_rows)
        require(0 <= self.tolerance < math.inf, "tolerance", ">= 0 and finite", self.tolerance)

    @property
    def sampler(self) -> Minibatch:
        """The sampler of this batch size."""
        return Minibatch(self.batch_size)

    def num_steps(self, rows: int) -> int:
        """Steps in the budget, at least one."""
        return max(self.min_steps, math.ceil(self.passes * self.sampler.steps_per_epoch(rows)))


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
        The result; a run that met a non-finite value never ends as converged.
    """
    show = progress or Silent()
    rows = data.x.shape[0]
    horizon = config.num_steps(rows)
    # Enough chunks to show progress and to react to Ctrl-C on a short run too.
    length = max(1, min(config.chunk_steps, math.ceil(horizon / 4)))
    names = steps.term_names(_terms(objective, params, prior, data, key))
    progression = Progression(
        steps_per_pass=config.sampler.steps_per_epoch(rows),
        total_weight=float(jnp.sum(data.weight)),
        tolerance=config.tolerance,
        patience=config.patience,
        terms=names,
    )
    optimizer.check(objective.metric)
    state = steps.init(objective, optimizer, params, key)
    log = _Log(time.perf_counter())
    show.start(horizon, phase)
    pending: tuple[int, Any, Any] | None = None
    outcome: Outcome | None = None
    with interrupt or Interrupt() as request:
        for start in range(0, horizon, length):
            state, metrics, checks = steps.run(
                state, prior, data, holdout, jnp.asarray(horizon, jnp.int32),
                objective=objective, optimizer=optimizer, sampler=config.sampler,
                length=length, num_draws=config.num_draws,
            )  # fmt: skip
            done = min(start + length, horizon)
            # The chunk before this one is read while this one runs: the device never waits for the host.
            for at, values in log.read(pending):
                progression.see(log.last)
                show.update(at, values)
            pending = (done, metrics, checks)
            outcome = progression.verdict()
            if outcome is None and request.requested:
                outcome = Outcome(Status.INTERRUPTED, done, "stopped by hand; the model is usable as it is")
            if outcome is not None:
                break
        for at, values in log.read(pending):
            progression.see(log.last)
            show.update(at, values)
    show.finish()
    done = int(state.step)
    outcome = progression.final(outcome, done)
    params = optimizer.result(state.params, state.opt_state)
    return Result(state=state, params=params, metrics=log.arrays(), outcome=outcome)


def _terms(objective: Objective, params: Any, prior: Prior, data: Rows, key: PRNGKey) -> dict[str, Any]:
    """Names of the bound's terms, by abstract evaluation: nothing is computed."""
    import jax

    from vigmm.core.typing import Batch

    one = Batch(x=data.x[:1], weight=data.weight[:1])
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
        fields = ("elbo", "grad_norm", "rate", "bad")
        self.last = {name: np.asarray(getattr(metrics, name))[:count] for name in fields}
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
        """All metrics: per step (step, elbo, grad_norm, rate, bad) and per chunk (the rest)."""
        merged = {name: np.concatenate([one[name] for one in self._steps]) for name in self._steps[0]}
        merged |= {name: np.array([one[name] for one in self._chunks]) for name in self._chunks[0]}
        return merged
