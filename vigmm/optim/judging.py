"""What the loop asks of a rule that needs no other judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int

__all__ = ["SelfJudging"]


@runtime_checkable
class SelfJudging(Protocol):
    """A rule that finds its rates itself, and says when it is done: no other evidence ends its run."""

    def rate_in(self, opt_state: Any, horizon: Int[Array, ""]) -> Float[Array, ""]:
        """Step size of the step that follows `opt_state`."""
        ...

    def accident(self, params: Any, opt_state: Any, cut: Float[Array, ""]) -> tuple[Any, Any]:
        """Where to go on after a step that was not finite and was undone; `cut` as before that step."""
        ...

    def findings(self, opt_state: Any) -> dict[str, Float[Array, ""]]:
        """What it judges by, for the run's record; ``done`` is 1 when its parameters are the result."""
        ...

    def words(self, found: Mapping[str, float]) -> str:
        """The findings for a person."""
        ...
