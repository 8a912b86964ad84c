"""How hard the compiler tries: least where a program runs for less time than compiling it well would take.

On a CPU the compiler takes seconds for each of the programs of a fit, and on a small table these run for
milliseconds. Measured with jax 0.9.2 on the contest of starts, coordinate ascent, merges and splits, with
20,000 rows of 4 or 16 columns, as CPU seconds of compilation, and as what a program then takes:

    as it comes            5 to 12    1
    usual (of LLVM, 1)     4 to 10    1 (0.8 to 1.15)
    least                  1 to 2     4 to 13

So a program says how much it has to do in all its calls, and gets the effort that this is worth. The choice
depends on shapes and Specs only, never on a clock: the same fit on the same machine is compiled, and so
rounded, in the same way. Elsewhere than on a CPU nothing is changed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import jax
from jax import lax

__all__ = ["LITTLE", "Program", "once", "pass_work", "program"]

R = TypeVar("R")
T = TypeVar("T")

LITTLE = 5e8
"""Operations in all calls of a program up to which it gets the least effort: half a second."""

# What `once` marks stays apart until kernels are emitted; by itself the compiler forgets it before it fuses.
_MARKS: dict[str, Any] = {"xla_disable_hlo_passes": "cse_barrier_expander"}
# More of LLVM's optimisation makes nothing here faster.
_USUAL: dict[str, Any] = {**_MARKS, "xla_backend_optimization_level": 1}
_LEAST: dict[str, Any] = {
    **_MARKS,
    "xla_backend_optimization_level": 0,
    # Kernels straight from the compiler's own elements instead of by way of MLIR.
    "xla_cpu_use_fusion_emitters": False,
    # One module: what is not optimised is not worth spreading over threads.
    "xla_cpu_parallel_codegen_split_count": 1,
}
_UNKNOWN = re.compile(r"No such compile option: '(\w+)'")
_refused: set[str] = set()
"""Options that this compiler does not know: they come and go with its versions."""


def pass_work(shape: tuple[int, ...], num_components: int) -> float:
    """Operations of one pass over N x D rows: distances, statistics, and an exponential.

    About 1e10 of them are a second on two CPU cores.

    Args:
        shape: of the rows.
        num_components: K.
    """
    rows, dim = shape
    return float(rows) * num_components * (dim * (dim + 1) + 20)


def once(tree: T) -> T:
    """The same values, for small arrays that are long in the making: computed in one place.

    A compiler for CPUs writes whatever is made element by element into every kernel that reads it. A step
    that asks for each array of its state whether a bound has risen would so hold the whole of that bound,
    with its special functions, a dozen times, and be twice as large.

    Args:
        tree: a pytree of arrays.
    """
    kept: T = lax.optimization_barrier(tree)  # type: ignore[no-untyped-call]
    return kept


class Program(Generic[R]):
    """A function under `jax.jit`, compiled with an effort that suits its work.

    Args:
        function: what is compiled.
        work: operations in all calls of the program that a fit makes, from its arguments; see `pass_work`.
        options: of `jax.jit`.
    """

    def __init__(self, function: Callable[..., R], work: Callable[..., float], **options: Any) -> None:
        functools.update_wrapper(self, function)
        self._function, self._work, self._options = function, work, options
        self._made: dict[tuple[tuple[str, Any], ...], Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """Run it, compiled if need be."""
        while True:
            try:
                made: R = self._chosen(*args, **kwargs)(*args, **kwargs)
            except jax.errors.JaxRuntimeError as error:
                # Without an option it takes longer, no more.
                unknown = _UNKNOWN.search(str(error))
                if unknown is None or unknown[1] in _refused:
                    raise
                _refused.add(unknown[1])
            else:
                return made

    def _chosen(self, *args: Any, **kwargs: Any) -> Any:
        if jax.default_backend() != "cpu" or _traced(args, kwargs):
            return self._form({})
        work = self._work(*args, **kwargs)
        return self._form(_LEAST if work <= LITTLE else _USUAL)

    def _form(self, options: Mapping[str, Any]) -> Any:
        """The function under `jax.jit` with those of the options that the compiler knows."""
        known = tuple((name, value) for name, value in options.items() if name not in _refused)
        if known not in self._made:
            self._made[known] = jax.jit(self._function, compiler_options=dict(known) or None, **self._options)
        return self._made[known]

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """What `jax.jit` calls lowering, with the effort that a call would have."""
        return self._chosen(*args, **kwargs).lower(*args, **kwargs)

    def clear_cache(self) -> None:
        """Forget what was compiled."""
        for one in self._made.values():
            one.clear_cache()

    def _cache_size(self) -> int:
        return sum(int(one._cache_size()) for one in self._made.values())


def program(work: Callable[..., float], **options: Any) -> Callable[[Callable[..., R]], Program[R]]:
    """`Program` as a decorator.

    Example:
        >>> import jax.numpy as jnp
        >>> @program(lambda x: 10.0 * x.size)
        ... def doubled(x):
        ...     return 2 * x
        >>> doubled(jnp.arange(3)).tolist()
        [0, 2, 4]
    """
    return lambda function: Program(function, work, **options)


def _traced(args: Any, kwargs: Any) -> bool:
    """Whether a transformation calls: options of the compiler belong to the outermost program only."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs)))
