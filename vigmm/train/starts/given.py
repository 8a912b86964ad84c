"""Starts that are told where clusters are: by labels of the rows, or by means.

Their statistics are those of all rows, tile by tile.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vigmm.core.errors import DataError, SpecError
from vigmm.core.given import Given
from vigmm.core.struct import require, spec
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.sampler import Rows
from vigmm.data.sources import DataFile, open_source
from vigmm.families import ConjugateParams
from vigmm.models import Mixture, Prior
from vigmm.train.starts.base import Origin, Started
from vigmm.train.starts.statistics import (
    expected_responsibilities,
    posterior_from,
    posterior_of_labels,
    with_columns,
)

__all__ = ["LabelsStart", "MeansStart"]


@spec
class LabelsStart:
    """A partition that is given: one label for each row of the data, held-out rows included.

    Labels are whole numbers, each value a cluster, in any order; -1 stands for a row that has none. Such rows
    are divided by the posterior of those that have one.

    Args:
        path: a file with one column of labels, of any kind that data may be.
        labels: or the labels themselves.
        passes: passes of natural-gradient steps over the whole data that follow, for families that are not
            themselves conjugate.

    Example:
        >>> LabelsStart(labels=[0, 0, 1, -1]) == LabelsStart(labels=np.array([0, 0, 1, -1]))
        True
    """

    path: str | None = None
    labels: Any = None
    passes: float = 1.0

    def __post_init__(self) -> None:
        _either(self, "labels")
        require(0 <= self.passes < math.inf, "passes", ">= 0 and finite", self.passes)
        if self.labels is not None and not isinstance(self.labels, Given):
            array = np.asarray(self.labels)
            good = array.ndim == 1 and array.dtype.kind in "iuf"
            require(good, "labels", "a whole number for each row", self.labels)
            object.__setattr__(self, "labels", Given.array(_whole(array, "labels")))

    def first(
        self, model: Mixture, prior: Prior, data: Rows, key: PRNGKey, origin: Origin | None = None
    ) -> Started:
        """The posterior of the partition.

        Raises:
            DataError: if there is not one label for each row, or no row has one.
            SpecError: if there are more clusters than components.
        """
        labels = self._read(origin or Origin(), data.x.shape[0])
        held = labels >= 0
        if not held.any():
            raise DataError(f"{self._name}: no row that is fitted has a label")
        names, place = np.unique(labels[held], return_inverse=True)
        _enough(model, len(names), self._name)
        full = np.zeros(len(labels), np.int32)
        full[held] = place
        rows, keep = Batch(x=data.x, weight=data.weight), jnp.asarray(held, data.x.dtype)
        params, order = posterior_of_labels(model, prior, rows, jnp.asarray(full), keep)
        if not held.all():
            params = _spread(model, prior, rows, jnp.asarray(np.where(held, full, -1)), params, order)
        notes = {"clusters": len(names), "rows": len(labels), "unassigned": int(np.sum(~held))}
        return Started(params=params, rows_seen=len(labels), notes=notes)

    @property
    def _name(self) -> str:
        return "labels" if self.path is None else self.path

    def _read(self, origin: Origin, rows: int) -> Int[np.ndarray, " n"]:
        """Labels of the rows that are fitted."""
        expected = rows if origin.num_rows is None else origin.num_rows
        if self.path is None:
            labels: Int[np.ndarray, " N"] = self.labels.value
        else:
            source = open_source(DataFile(self.path))
            if source.dim != 1:
                raise DataError(f"{self.path} has {source.dim} columns; labels are one column")
            labels = _whole(np.asarray(source[:])[:, 0], self.path)
        if len(labels) != expected:
            raise DataError(
                f"{self._name}: there are {len(labels)} labels for {expected} rows; give one for each row of "
                f"the data, and -1 where there is none"
            )
        return labels if origin.index is None else labels[origin.index]


@spec
class MeansStart:
    """Means that are given, at most K: rows go to the nearest, in standardised units.

    Args:
        means: the means, in the units of the data: a list of lists of D numbers; from Python also an array.
        passes: passes of natural-gradient steps over the whole data that follow, for families that are not
            themselves conjugate.

    Example:
        >>> MeansStart(means=np.eye(2)).means
        ((1.0, 0.0), (0.0, 1.0))
    """

    means: tuple[tuple[float, ...], ...]
    passes: float = 1.0

    def __post_init__(self) -> None:
        try:
            array = np.asarray(self.means, np.float64)
        except (TypeError, ValueError):
            array = np.zeros(0)
        good = array.ndim == 2 and array.size > 0 and bool(np.isfinite(array).all())
        require(good, "means", "lists of finite numbers, one for each mean and equally long", self.means)
        object.__setattr__(self, "means", tuple(tuple(row) for row in array.tolist()))
        require(0 <= self.passes < math.inf, "passes", ">= 0 and finite", self.passes)

    def first(
        self, model: Mixture, prior: Prior, data: Rows, key: PRNGKey, origin: Origin | None = None
    ) -> Started:
        """The posterior of the partition of rows by the nearest mean.

        Raises:
            DataError: if the means have another number of columns than the data.
            SpecError: if there are more of them than components.
        """
        means = np.asarray(self.means)
        dim = data.x.shape[1]
        if means.shape[1] != dim:
            raise DataError(f"start.means have {means.shape[1]} columns, the data have {dim}")
        _enough(model, len(means), "means")
        center, scale = (origin or Origin()).frame(prior)
        inside = jnp.asarray((means - center) / scale, data.x.dtype)
        rows = Batch(x=data.x, weight=data.weight)
        params = _by_nearest(model, prior, rows, inside)
        return Started(params=params, rows_seen=data.x.shape[0], notes={"clusters": len(means)})


@functools.partial(jax.jit, static_argnames=("model",))
def _by_nearest(model: Mixture, prior: Prior, rows: Batch, means: Float[Array, "M D"]) -> ConjugateParams:
    """The posterior of rows divided by the nearest of M <= K means."""

    def assign(x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        # Differences: a matrix product would lose the digits of means that lie close together.
        square = jnp.sum((x[:, None, :] - means[None]) ** 2, axis=-1)
        hot: Array = jax.nn.one_hot(jnp.argmin(square, axis=-1), model.num_components, dtype=x.dtype)
        return hot

    return posterior_from(model, prior, rows, rows.x.shape[1], assign)[0]


@functools.partial(jax.jit, static_argnames=("model",))
def _spread(
    model: Mixture,
    prior: Prior,
    rows: Batch,
    labels: Int[Array, " B"],
    params: ConjugateParams,
    order: Int[Array, " K"],
) -> ConjugateParams:
    """The posterior of a partition, its rows without label (-1) divided by `params`.

    Component k of `params` is the group ``order[k]`` of the labels.
    """
    dim, num = rows.x.shape[1], model.num_components
    divide = expected_responsibilities(model, params)
    place = jnp.argsort(order)

    def assign(x: Float[Array, "B E"]) -> Float[Array, "B K"]:
        label = x[:, -1].astype(jnp.int32)
        hot = jax.nn.one_hot(place[label], num, dtype=x.dtype)
        return jnp.where(label[:, None] < 0, divide(x[:, :dim]), hot)

    return posterior_from(model, prior, with_columns(rows, labels), dim, assign)[0]


def _whole(array: np.ndarray, name: str) -> Int[np.ndarray, " N"]:
    """Labels as int64, checked."""
    bad = ~((array >= -1) & (array < 2**31) & (array == np.floor(array)))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{name}: the label of row {row} is {array[row]}; labels are whole numbers from 0, or -1 for none"
        )
    return array.astype(np.int64)


def _either(start: Any, name: str) -> None:
    """One of a path and a value."""
    one = (start.path is None) != (getattr(start, name) is None)
    require(one, "path", f"a path, unless {name} is given in its place", start.path)


def _enough(model: Mixture, found: int, name: str) -> None:
    if found > model.num_components:
        raise SpecError(
            "model.num_components",
            f">= {found}, the clusters that {name} hold: raise it",
            model.num_components,
        )
