"""How a run ended, as a value. A run that met a NaN and could not mend it never ends as converged."""

from __future__ import annotations

import enum

from vigmm.core.struct import spec

__all__ = ["Outcome", "Status"]


class Status(enum.StrEnum):
    """The five ways a run can end."""

    CONVERGED = "converged"
    BUDGET = "budget"
    NONFINITE = "nonfinite"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"


@spec
class Outcome:
    """How a run ended.

    A single step that is not finite is undone and does not end a run, whatever its status: `bad_steps` says
    how many there were.

    Args:
        status: one of `Status`.
        step: number of optimisation steps that are in the returned model.
        message: a few sentences for a person: why the run ended and, if it went wrong, what to do.
        bad_step: first step with a non-finite term, if any.
        bad_term: name of that term (``log_lik``, ``kl``, ``grads``, ...), if any.
        bad_steps: number of steps with a non-finite term; each was undone.
        resets: components that were emptied because they were at fault, in the order in which it happened.
    """

    status: Status
    step: int
    message: str
    bad_step: int | None = None
    bad_term: str | None = None
    bad_steps: int = 0
    resets: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the model is one that the run meant to make (interrupted counts, NaN does not)."""
        return self.status in (Status.CONVERGED, Status.BUDGET, Status.INTERRUPTED)
