"""Weight priors: Specs that say what the sticks of `vigmm.models.sticks` are before data.

A new prior is one class with these methods and one row of `WEIGHTS`.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vigmm.core.struct import require, spec
from vigmm.models.sticks import Sticks

__all__ = ["WEIGHTS", "Dirichlet", "DirichletProcess", "Gamma", "PitmanYor", "WeightPrior"]


@spec
class Gamma:
    """Gamma hyperprior of a positive number: mean shape/rate, variance shape/rate^2.

    Args:
        shape: how sure it is: the sd over the mean is 1/sqrt(shape).
        rate: shape over the mean.
    """

    shape: float = 1.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        for name in ("shape", "rate"):
            require(0 < getattr(self, name) < math.inf, name, "> 0 and finite", getattr(self, name))

    def log_prob(self, log_value: Float[Array, ""]) -> Float[Array, ""]:
        """Log density of the logarithm."""
        constant = self.shape * math.log(self.rate) - math.lgamma(self.shape)
        return constant + self.shape * log_value - self.rate * jnp.exp(log_value)


class WeightPrior(Protocol):
    """Anything that says what the sticks are before data."""

    def prior(self, num_components: int, dtype: jnp.dtype) -> Sticks:
        """Prior parameters for `num_components` components."""
        ...

    def spare(self, num_components: int, slots: int, dtype: jnp.dtype) -> Sticks:
        """The prior of `num_components` components in another number of exchangeable slots."""
        ...

    def fewest(self, num_components: int) -> int | None:
        """The fewest components that may be in use: all of them where their number is not in question.

        None where components differ from each other before data, so that none stands for another.
        """
        ...

    def truncates(self) -> bool:
        """Whether fewer components are the same prior, truncated earlier."""
        ...

    def num_sticks(self, num_components: int) -> int:
        """J: K - 1, or K where the last stick is free."""
        ...

    def num_hyper(self) -> int:
        """H: coordinates of an inferred concentration, 0 or 1."""
        ...

    def refusal(self) -> str | None:
        """Why there is no conjugate algebra, or None where there is one."""
        ...


def _fixed(a: Float[Array, " J"], b: Float[Array, " J"]) -> Sticks:
    """Sticks whose concentration is known."""
    empty = jnp.asarray(np.zeros((0,), a.dtype))
    slope = jnp.asarray(np.zeros((0, a.shape[0]), a.dtype))
    return Sticks(a=a, b=b, a_slope=slope, b_slope=slope, shape=empty, rate=empty)


def _inferred(
    hyper: Gamma,
    *,
    a: Float[Array, " J"],
    b: Float[Array, " J"],
    a_slope: Float[Array, " J"],
    b_slope: Float[Array, " J"],
) -> Sticks:
    """Sticks whose parameters are affine in an inferred concentration: equation (3)."""
    return Sticks(
        a=a,
        b=b,
        a_slope=a_slope[None],
        b_slope=b_slope[None],
        shape=jnp.full((1,), hyper.shape, a.dtype),
        rate=jnp.full((1,), hyper.rate, a.dtype),
    )


# The share of a component's concentration that a slot has which the model does not.
_SPARE = 1e-3


def _dirichlet(every: Float[np.ndarray, " K"], dtype: jnp.dtype) -> Sticks:
    """a_j = c_j, b_j = sum_{l>j} c_l."""
    beyond = np.cumsum(every[::-1])[::-1]
    return _fixed(*(jnp.asarray(np.asarray(one, dtype)) for one in (every[:-1], beyond[1:])))


@spec
class Dirichlet:
    """Finite Dirichlet: pi ~ Dirichlet(c_1, ..., c_K).

    Args:
        concentration: c of every component, or one for each; ``None`` means 1/K. Below half the free
            parameters of a component, components that are not needed empty out (Rousseau and Mengersen 2011).
        hyper: infers a common concentration instead: c ~ Gamma. For families that are not conjugate.
    """

    concentration: float | tuple[float, ...] | None = None
    hyper: Gamma | None = None

    def __post_init__(self) -> None:
        value = self.concentration
        many = value if isinstance(value, tuple) else () if value is None else (value,)
        require(all(0 < c < math.inf for c in many), "concentration", "> 0 and finite", value)
        require(
            value is None or self.hyper is None, "hyper", "left out where concentration is given", self.hyper
        )

    def prior(self, num_components: int, dtype: jnp.dtype) -> Sticks:
        """a_j = c_j, b_j = sum_{l>j} c_l."""
        if self.hyper is not None:
            rest = jnp.arange(num_components - 1, 0, -1, dtype=dtype)
            zero, one = jnp.zeros_like(rest), jnp.ones_like(rest)
            return _inferred(self.hyper, a=zero, b=zero, a_slope=one, b_slope=rest)
        if isinstance(self.concentration, tuple):
            fits = len(self.concentration) == num_components
            must = f"one number, or one for each of the {num_components} components"
            require(fits, "weights.concentration", must, self.concentration)
        even = 1.0 / num_components if self.concentration is None else self.concentration
        every = np.broadcast_to(np.asarray(even, np.float64), (num_components,))
        return _dirichlet(every, dtype)

    def spare(self, num_components: int, slots: int, dtype: jnp.dtype) -> Sticks:
        """Slots beyond K have next to no weight; the last of fewer than K has that of all left out."""
        if slots == num_components or self.hyper is not None or isinstance(self.concentration, tuple):
            return self.prior(slots, dtype)
        even = 1.0 / num_components if self.concentration is None else self.concentration
        every = np.full(slots, even, np.float64)
        every[num_components:] *= _SPARE
        every[-1] *= max(num_components - slots, 0) + 1
        return _dirichlet(every, dtype)

    def fewest(self, num_components: int) -> int | None:
        """1 where the concentration is below one, which leaves components empty; else K, or None."""
        if isinstance(self.concentration, tuple):
            return None
        return 1 if self.concentration is None or self.concentration < 1 else num_components

    def truncates(self) -> bool:
        """No: the weights of fewer components have another prior."""
        return False

    def num_sticks(self, num_components: int) -> int:
        """K - 1."""
        return num_components - 1

    def num_hyper(self) -> int:
        """1 where the concentration is inferred."""
        return int(self.hyper is not None)

    def refusal(self) -> str | None:
        """An inferred Dirichlet concentration has no conjugate prior."""
        return None if self.hyper is None else "an inferred Dirichlet concentration has no conjugate form"


@spec
class DirichletProcess:
    """Stick-breaking Dirichlet process truncated at K.

    Args:
        concentration: gamma. A priori about gamma log(N / gamma) clusters appear in N rows.
        hyper: infers gamma instead, from this Gamma prior.
        last_stick: ``one``: the last stick is fixed to one and the weights sum to one; ``free``: it is a
            stick like the others, and the mass beyond the truncation is lost.
    """

    concentration: float = 1.0
    hyper: Gamma | None = None
    last_stick: Literal["one", "free"] = "one"

    def __post_init__(self) -> None:
        value = self.concentration
        require(0 < value < math.inf, "concentration", "> 0 and finite", value)
        require(self.last_stick in ("one", "free"), "last_stick", "'one' or 'free'", self.last_stick)

    def prior(self, num_components: int, dtype: jnp.dtype) -> Sticks:
        """a_j = 1, b_j = gamma."""
        ones = jnp.asarray(np.ones((self.num_sticks(num_components),), dtype))
        if self.hyper is None:
            return _fixed(ones, jnp.asarray(np.full(ones.shape, self.concentration, dtype)))
        zero = jnp.zeros_like(ones)
        return _inferred(self.hyper, a=ones, b=zero, a_slope=zero, b_slope=ones)

    def spare(self, num_components: int, slots: int, dtype: jnp.dtype) -> Sticks:
        """The process truncated at `slots`."""
        return self.prior(slots, dtype)

    def fewest(self, num_components: int) -> int | None:
        """1: sticks are in order of size, whichever component that is."""
        return 1

    def truncates(self) -> bool:
        """Yes."""
        return True

    def num_sticks(self, num_components: int) -> int:
        """K - 1, or K where the last stick is free."""
        return num_components - (self.last_stick == "one")

    def num_hyper(self) -> int:
        """1 where gamma is inferred."""
        return int(self.hyper is not None)

    def refusal(self) -> str | None:
        """None: conjugate, also with gamma inferred."""
        return None


@spec
class PitmanYor:
    """Pitman-Yor process truncated at K, its last stick fixed to one: cluster sizes with a power-law tail.

    v_j ~ Beta(1 - d, gamma + j d): a priori about N^d clusters appear in N rows; d = 0 is a Dirichlet
    process.

    Args:
        concentration: gamma > -d.
        discount: d in [0, 1).
    """

    concentration: float = 1.0
    discount: float = 0.25

    def __post_init__(self) -> None:
        require(0 <= self.discount < 1, "discount", "in [0, 1)", self.discount)
        value = self.concentration
        require(-self.discount < value < math.inf, "concentration", "> -discount and finite", value)

    def prior(self, num_components: int, dtype: jnp.dtype) -> Sticks:
        """a_j = 1 - d, b_j = gamma + j d, for j = 1, ..., K - 1."""
        index = jnp.arange(1, num_components, dtype=dtype)
        return _fixed(jnp.full_like(index, 1.0 - self.discount), self.concentration + self.discount * index)

    def spare(self, num_components: int, slots: int, dtype: jnp.dtype) -> Sticks:
        """The process truncated at `slots`."""
        return self.prior(slots, dtype)

    def fewest(self, num_components: int) -> int | None:
        """1: sticks are in order of size, whichever component that is."""
        return 1

    def truncates(self) -> bool:
        """Yes."""
        return True

    def num_sticks(self, num_components: int) -> int:
        """K - 1."""
        return num_components - 1

    def num_hyper(self) -> int:
        """0."""
        return 0

    def refusal(self) -> str | None:
        """None: conjugate."""
        return None


WEIGHTS: dict[str, type[WeightPrior]] = {
    "dirichlet": Dirichlet,
    "dirichlet_process": DirichletProcess,
    "pitman_yor": PitmanYor,
}
