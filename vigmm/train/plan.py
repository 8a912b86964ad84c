"""What a run does that its user left open: optimiser, batches, and whether rows stay on the device.

Decided from the number of rows, before anything is computed, so that a run folder can say it in advance.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from vigmm.core.errors import SpecError
from vigmm.data.device import fits
from vigmm.estimators import Objective
from vigmm.families import Implicit
from vigmm.optim import OPTIMIZERS, Automatic, Fisher, Optimizer, RobbinsMonro, Sgd
from vigmm.train.loop import Train
from vigmm.train.moves import Moves

__all__ = ["budget", "default_optimizer", "movable", "plan", "sample_size"]

# Passes between looks at the bound of coordinate ascent: fewer where a pass takes long.
_FEW_ROWS, _PASSES, _LONG_PASSES = 100_000, 10, 3


def default_optimizer(objective: Objective, *, full_batch: bool) -> Optimizer:
    """The optimiser of a user who names none; a full batch has no noise to average away."""
    return OPTIMIZERS[objective.default_optimizer[full_batch]]()


def movable(objective: Objective, moves: Moves | None) -> Moves | None:
    """The moves, where the model has a conjugate posterior of exchangeable components; else None."""
    model = objective.model
    alike = model.weights.fewest(model.num_components) is not None
    return moves if model.refusal() is None and alike else None


def plan(
    objective: Objective,
    optimizer: Optimizer | None,
    config: Train,
    moves: Moves | None,
    *,
    rows: int,
    dim: int = 1,
    dtype: Any = "float32",
) -> tuple[Optimizer, Train]:
    """The optimiser, the batches, and whether rows stay on the device.

    A conjugate posterior that the search has shown every row goes on by coordinate ascent: noisy steps would
    only lead away and back. One that has seen some of them goes on at rates that do not forget those.

    Args:
        objective: model, family and estimator.
        optimizer: what the user chose; None to choose for them.
        config: what the user chose.
        moves: the search that comes before, if any.
        rows: N, held-out rows not counted.
        dim: D.
        dtype: float type of the rows on the device.

    Raises:
        SpecError: for what a stream cannot do.
    """
    if config.stream is None:
        config = dataclasses.replace(config, stream=not fits(rows, dim, dtype))
    if optimizer is not None:
        _check(objective, optimizer)
        if config.stream and optimizer.batches is not None:
            raise SpecError("train.stream", "false with an optimiser that remembers batches", config.stream)
        return optimizer, budget(optimizer, config).sized(rows, optimizer.batches)
    full_batch = config.sampler.steps_per_epoch(rows) == 1
    usual = default_optimizer(objective, full_batch=full_batch)
    able = movable(objective, moves)
    if able is None or not objective.estimator.natural or full_batch:
        return usual, config
    seen = sample_size(config, able, rows=rows, dim=dim, dtype=dtype)
    if seen < rows or config.stream:
        return RobbinsMonro(delay=max(RobbinsMonro().delay, seen / config.batch_size)), config
    chunk = min(config.chunk_steps, _PASSES if rows < _FEW_ROWS else _LONG_PASSES)
    return Sgd(), dataclasses.replace(config, batch_size=rows, chunk_steps=chunk)


def _check(objective: Objective, optimizer: Optimizer) -> None:
    """Pseudo-counts and rate matrices must stay positive, which a plain step does not know.

    Natural gradients of them need no rate to be found.
    """
    rule = getattr(optimizer, "rule", optimizer)
    additive = isinstance(objective.family, Implicit) and not objective.estimator.natural
    if additive and not isinstance(rule, Fisher):
        got = type(rule).__name__.lower()
        raise SpecError("optimizer", "'fisher' for gradients of pseudo-counts, which must stay positive", got)
    if isinstance(optimizer, Automatic) and objective.estimator.natural:
        raise SpecError("optimizer", "another than 'automatic' for natural gradients", "automatic")


def budget(optimizer: Optimizer, config: Train) -> Train:
    """The budget, with as many steps as a rule may take that ends by itself."""
    if not isinstance(optimizer, Automatic):
        return config
    return dataclasses.replace(config, min_steps=max(config.min_steps, optimizer.steps))


def sample_size(config: Train, moves: Moves | None, *, rows: int, dim: int, dtype: Any) -> int:
    """Rows that a run looks at before it trains: of a stream, no more than a portion."""
    most = (moves or Moves()).rows
    return min(rows, most, config.portion(dim, dtype)) if config.stream else min(rows, most)
