"""A distribution of NumPyro as a Spec: a name and numbers, so that a configuration file can hold it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vigmm.core.errors import SpecError
from vigmm.core.struct import require, spec

__all__ = ["Distribution", "distribution"]


@spec
class Distribution:
    """A distribution of NumPyro by name, with its parameters.

    Only names that ``numpyro.distributions`` exports are looked up, and only numbers are passed on.

    Args:
        name: such as ``Normal``, ``HalfNormal``, ``InverseGamma``, ``LKJ``.
        params: pairs of a parameter's name and its value.

    Example:
        >>> distribution("HalfNormal", scale=2.0)
        Distribution(name='HalfNormal', params=(('scale', 2.0),))
    """

    name: str
    params: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        _class(self.name)
        names = [name for name, _ in self.params]
        require(
            len(set(names)) == len(names), "params", "pairs of a name and a number, each name once", names
        )

    def arrays(self, dtype: Any) -> dict[str, Array]:
        """The parameters as arrays: what is kept in a prior and passed to `build`."""
        return {name: jnp.asarray(value, dtype) for name, value in self.params}

    def build(self, arrays: dict[str, Array], **fixed: int) -> Any:
        """The NumPyro distribution.

        Args:
            arrays: what `arrays` gave.
            fixed: parameters that the data decide, such as the dimension of an LKJ.

        Raises:
            SpecError: if there is no such distribution or it does not take these parameters.
        """
        cls = _class(self.name)
        try:
            with _relaxed():
                return cls(**fixed, **arrays)
        except TypeError as error:
            given = ", ".join(arrays) or "none"
            raise SpecError("params", f"parameters of {self.name}", f"{given} ({error})") from error

    def log_prob(self, arrays: dict[str, Array], value: Array, **fixed: int) -> Array:
        """Log density at `value` of the distribution that `build` makes, with the type of `value`."""
        with _relaxed():
            found: Array = self.build(arrays, **fixed).log_prob(value)
        return found.astype(value.dtype)

    def check(self, field: str, support: str, **fixed: int) -> None:
        """Raise `SpecError` unless the support is one of ``real``, ``positive`` and ``correlation``."""
        from numpyro.distributions import constraints

        allowed = {
            "real": (constraints.real,),
            "positive": (constraints.positive, constraints.softplus_positive),
            "correlation": (constraints.corr_matrix,),
        }[support]
        found = self.build(self.arrays(jnp.float32), **fixed).support
        require(found in allowed, field, f"a distribution of {_WORDS[support]}", self.name)


@contextlib.contextmanager
def _relaxed() -> Iterator[None]:
    """NumPyro mixes types and ranks, which callers with strict settings forbid."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


_WORDS = {
    "real": "a real number, such as Normal or StudentT",
    "positive": "a positive number, such as HalfNormal, InverseGamma or LogNormal",
    "correlation": "a correlation matrix: LKJ",
}


def distribution(name: str, **params: float) -> Distribution:
    """`Distribution` with its parameters by keyword."""
    return Distribution(name=name, params=tuple((key, float(value)) for key, value in params.items()))


@functools.lru_cache(maxsize=64)
def _class(name: str) -> Any:
    import numpyro.distributions as dist

    cls = getattr(dist, name, None) if name in dist.__all__ else None
    known = isinstance(cls, type) and issubclass(cls, dist.Distribution)
    require(known, "name", "the name of a distribution in numpyro.distributions", name)
    return cls
