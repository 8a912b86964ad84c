"""What a method is given, what it gives back, and the clock between the two.

Only NumPy is imported here: a method's process must hold no library but the method's own, or the peak
memory and the import time would be somebody else's. Some peers need an old Python: this file, `worker`,
`gaussians`, `scores`, `methods` and whatever they import at their top must load under Python 3.8.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = ["Array", "Clock", "Cost", "Fitted", "LogDensity", "Method", "Point", "Problem", "Unfit"]

if TYPE_CHECKING:
    Array: TypeAlias = NDArray[Any]
    LogDensity: TypeAlias = Callable[[Array], Array]
else:
    Array = LogDensity = Any


class Unfit(Exception):
    """A method cannot do what a case asks; the message says what."""


@dataclass(frozen=True)
class Problem:
    """What every method is given.

    Args:
        x: training rows, float32, as they are: a method that wants them scaled does it on the clock.
        k_max: how many components the method may use.
        batch_size: rows of a minibatch, for methods that have one.
        seed: of the method; the data do not change with it.
        covariance: of the components, ``full`` or ``diag``.
        iterations: how many passes to make, no more and no fewer, where a case compares the time of a fixed
            number; None to end by the method's own rule.
        deadline: seconds after which a method that can stop in the middle does so, with what it has.
        path: the same rows in a ``.npy`` file, for methods that read by themselves.
    """

    x: Array
    k_max: int
    batch_size: int
    seed: int
    covariance: str = "full"
    iterations: int | None = None
    deadline: float | None = None
    path: str | None = None

    def overdue(self, clock: Clock) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and clock.lap().seconds > self.deadline


@dataclass(frozen=True)
class Cost:
    """Wall and CPU seconds; CPU counts all threads of the process."""

    seconds: float
    cpu_seconds: float

    def to_dict(self) -> dict[str, float]:
        return {"seconds": round(self.seconds, 4), "cpu_seconds": round(self.cpu_seconds, 4)}


class Clock:
    """Wall and CPU time since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self) -> Cost:
        """Cost so far."""
        return Cost(time.perf_counter() - self._wall, time.process_time() - self._cpu)


@dataclass(frozen=True)
class Point:
    """A model on the way: after so many passes, at such a cost."""

    cost: Cost
    passes: float
    log_density: LogDensity


@dataclass(frozen=True)
class Fitted:
    """What a fit ends with; everything in it is computed, nothing is pending on a device.

    Args:
        log_density: predictive log density of rows in the units of `Problem.x`, nats; called off the clock.
        weights: gives the mixture weights; called off the clock.
        passes: how often every training row was read, the start not counted.
        trace: models on the way, evaluated off the clock.
        notes: whatever else a reader should know, as plain JSON.
        predict: most probable component of rows, where the method tells.
    """

    log_density: LogDensity
    weights: Callable[[], Array]
    passes: float
    trace: tuple[Point, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    predict: Callable[[Array], Array] | None = None


class Overdue(Exception):
    """Raised inside a library's fit, where it calls back, to end it at the deadline."""


class Method(Protocol):
    """One way to fit a mixture: a frozen dataclass, whose fields are the settings that are recorded."""

    @property
    def budgets(self) -> tuple[float, ...]:
        """Passes of the main run, then of further runs that show quality against time; may be only one."""
        ...

    @property
    def reruns(self) -> bool:
        """Whether something is compiled, so that a second fit in the same process costs less."""
        ...

    @property
    def environment(self) -> str | None:
        """Whose requirements in ``baselines/NAME.txt`` it runs with; None for vigmm's own environment."""
        ...

    @property
    def costly(self) -> bool:
        """Whether the default benchmark runs it only once and at its main budget only."""
        ...

    def load(self) -> None:
        """Import the library, so that the import is timed apart."""
        ...

    def tune(self, problem: Problem) -> Method:
        """Itself as a careful user would set it up once for this machine; off the clock, mostly a no-op."""
        ...

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        """Fit within `passes` passes; `clock` was started just before the call."""
        ...
