"""What a step does when something is not finite: roll back, tread softly, reset the component at fault.

A bad step changes nothing but the step counter. The steps that follow take half the rate, and half of that
after the next bad one; with every good step the rate creeps back. A component is at fault

- if its own parameters have no finite standard form (its scale matrix is not positive definite to rounding):
  no batch can mend that, so it is reset at once;
- or if its row of the gradient is not finite while another component's is, two steps in a row: once may
  be an unlucky batch.

A conjugate component goes back to the prior, so that it is empty; that of another family goes back to where
the run began. Bad steps are counted, and `vigmm.train.stopping` decides when they are too many.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vigmm.core.struct import state
from vigmm.estimators import Objective
from vigmm.families import ConjugateParams, row_counts
from vigmm.families import factor as factors
from vigmm.models import Prior, sticks

__all__ = ["Caution", "all_finite", "at_fault", "begin", "blocked", "first_of", "replaced", "reset", "tread"]

# A bad step halves the rate, and 50 good ones double it.
_CUT = 0.5
_RECOVERY = 2.0 ** (1.0 / 50.0)
_LEAST = 2.0**-10


@state
class Caution:
    """What a run remembers of its bad steps.

    Args:
        cut: factor of the rate, 1 where nothing happened lately.
        streak: bad steps in a row, up to now.
        home: the components' rows of the first parameters; empty for a conjugate family.
    """

    cut: Float[Array, ""]
    streak: Int[Array, ""]
    home: tuple[Array, ...]


def begin(objective: Objective, params: Any) -> Caution:
    """Before the first step. Copies what it keeps of `params`."""
    home = () if isinstance(params, ConjugateParams) else tuple(map(jnp.copy, _rows(objective, params)))
    return Caution(cut=jnp.ones((), jnp.float32), streak=jnp.zeros((), jnp.int32), home=home)


def tread(caution: Caution, good: Bool[Array, ""]) -> Caution:
    """After a step: the cut is halved by a bad one, and grows towards one with every good one."""
    cut = jnp.where(good, jnp.minimum(caution.cut * _RECOVERY, 1.0), jnp.maximum(caution.cut * _CUT, _LEAST))
    return Caution(cut=cut, streak=jnp.where(good, 0, caution.streak + 1), home=caution.home)


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every number of a pytree is finite."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_and, leaves)


def at_fault(objective: Objective, params: Any, grads: Any, caution: Caution) -> Bool[Array, " K"]:
    """Which components are to be reset, given that the step was bad."""
    wild = _broken(objective, grads)
    return blocked(objective, params) | (wild & ~jnp.all(wild) & (caution.streak > 0))


def blocked(objective: Objective, params: Any) -> Bool[Array, " K"]:
    """Components of a conjugate posterior that have no finite standard form; none of another family's."""
    if not isinstance(params, ConjugateParams):
        return jnp.zeros((objective.model.num_components,), jnp.bool_)
    return _broken(objective, {"components": objective.model.algebra.standard(params.components)})


def reset(objective: Objective, params: Any, prior: Prior, caution: Caution, fault: Bool[Array, " K"]) -> Any:
    """`params` with the components at fault as the prior has them, or as they were when the run began."""
    if not isinstance(params, ConjugateParams):
        return _replace(objective, params, caution.home, fault)
    components = params.components
    counts = jnp.where(fault, 0.0, row_counts(components, prior))
    weights = sticks.update(prior.weights, counts, params.weights)
    some = jnp.any(fault)
    # A component at fault may have spoilt what all share.
    factor = factors.sound(objective.model, params.factor)
    empty = factors.base(objective.model, prior, factor, components.centre)
    return dataclasses.replace(
        params,
        factor=factor,
        weights=jax.tree.map(lambda new, old: jnp.where(some, new, old), weights, params.weights),
        components=replaced(objective, components, empty, fault),
    )


def replaced(objective: Objective, components: Any, empty: Any, fault: Bool[Array, " K"]) -> Any:
    """Additive parameters of conjugate components, those at fault from `empty`."""
    rows = _rows(objective, {"components": empty})
    return _replace(objective, {"components": components}, rows, fault)["components"]


def first_of(fault: Bool[Array, " K"]) -> Int[Array, ""]:
    """Number of the first component at fault, -1 if none is."""
    return jnp.where(jnp.any(fault), jnp.argmax(fault).astype(jnp.int32), -1)


def _has_rows(objective: Objective, path: tuple[Any, ...], leaf: Array) -> bool:
    """Whether a leaf has one row per component: it belongs to the components, and they do not share it."""
    inside = any("components" in (getattr(key, "name", None), getattr(key, "key", None)) for key in path)
    return inside and leaf.shape[:1] == (objective.model.num_components,)


def _rows(objective: Objective, tree: Any) -> tuple[Array, ...]:
    leaves, _ = jax.tree.flatten_with_path(tree)
    return tuple(leaf for path, leaf in leaves if _has_rows(objective, path, leaf))


def _broken(objective: Objective, tree: Any) -> Bool[Array, " K"]:
    found = jnp.zeros((objective.model.num_components,), jnp.bool_)
    for leaf in _rows(objective, tree):
        found = found | ~jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim)))
    return found


def _replace(objective: Objective, tree: Any, rows: tuple[Array, ...], fault: Bool[Array, " K"]) -> Any:
    """The tree with the rows at fault taken from `rows`, which are in the order of `_rows`."""
    others = iter(rows)

    def one(path: tuple[Any, ...], leaf: Array) -> Array:
        if not _has_rows(objective, path, leaf):
            return leaf
        return jnp.where(fault.reshape(-1, *[1] * (leaf.ndim - 1)), next(others), leaf)

    return jax.tree.map_with_path(one, tree)
