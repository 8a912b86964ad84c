"""A warm start: the rows are divided by a posterior that was fitted before, on these rows or on others.

Statistics are made anew from all rows, so the old posterior may have another family, other priors, other
units of standardisation and fewer components. Or a run goes on exactly where an old one ended.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vigmm.core import rng
from vigmm.core.effort import pass_work, program
from vigmm.core.errors import DataError, SpecError
from vigmm.core.given import Given
from vigmm.core.struct import require, spec
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.sampler import Rows
from vigmm.families import Conjugate, ConjugateParams, Family, row_counts
from vigmm.models import Mixture, Prior
from vigmm.train.starts.base import Origin, Started
from vigmm.train.starts.statistics import Assign, expected_responsibilities, posterior_from

__all__ = ["ModelStart"]

# Draws behind the responsibilities of a family without a closed form.
_NUM_DRAWS = 16


@spec
class ModelStart:
    """A saved posterior: its responsibilities of the rows give the statistics.

    Components beyond its own are empty. What its noise component holds, if it has one, is left out.

    Args:
        path: the folder that it was saved in.
        posterior: or the `Posterior` itself.
        passes: passes of natural-gradient steps over the whole data that follow, for families that are not
            themselves conjugate.
        divide: whether the rows are divided anew in any case. If not, the run starts from its own parameters
            where they mean the same: those of a conjugate posterior of such components, of rows that were
            centred and scaled alike. A model whose covariance is `auto` begins with full matrices, whatever
            the old posterior has: name its covariance to go on with it.
    """

    path: str | None = None
    posterior: Any = None
    passes: float = 1.0
    divide: bool = True

    def __post_init__(self) -> None:
        one = (self.path is None) != (self.posterior is None)
        require(one, "path", "a path, unless posterior is given in its place", self.path)
        require(0 <= self.passes < math.inf, "passes", ">= 0 and finite", self.passes)
        if self.posterior is not None and not isinstance(self.posterior, Given):
            object.__setattr__(self, "posterior", _given(self.posterior))

    def first(
        self, model: Mixture, prior: Prior, data: Rows, key: PRNGKey, origin: Origin | None = None
    ) -> Started:
        """The posterior of the rows, divided by the old one.

        Raises:
            DataError: if the old posterior has another number of columns than the data.
            SpecError: if it has more components than the model.
            ModelFileError: if it cannot be read.
        """
        origin = origin or Origin()
        old = self._read(origin)
        dim = data.x.shape[1]
        if len(old.columns) != dim:
            raise DataError(f"{self._name} was fitted on {len(old.columns)} columns, the data have {dim}")
        found, num = old.model.num_components, model.num_components
        if found > num:
            raise SpecError(
                "model.num_components", f">= {found}, the components of {self._name}: raise it", num
            )
        center, scale = origin.frame(prior)
        dtype = data.x.dtype
        rows = data.x.shape[0]
        if not self.divide and _alike(old, model, center, scale):
            notes = {"components": found, "rows": rows, "divided": False}
            return Started(params=_cast(old.params, dtype), rows_seen=rows, notes=notes)
        # From the rows' units to those of the old posterior: z' = slope z + offset.
        slope = jnp.asarray(scale / old.scale, dtype)
        offset = jnp.asarray((center - old.center) / old.scale, dtype)
        params, held = _divided(
            model, prior, data, old.model, old.family, _cast(old.params, dtype), _cast(old.prior, dtype),
            slope, offset, rng.stream(key, "draws"),
        )  # fmt: skip
        notes = {"components": found, "rows": rows, "held": round(float(held), 6)}
        return Started(params=params, rows_seen=rows, notes=notes)

    @property
    def _name(self) -> str:
        return "the posterior" if self.path is None else self.path

    def _read(self, origin: Origin) -> Any:
        if self.path is None:
            return self.posterior.value
        if origin.load is None:
            raise SpecError("posterior", "given here: nothing can read the path", self.path)
        return origin.load(self.path)


# Two passes over the rows, more where the responsibilities are averages.
@program(
    lambda model, prior, data, *_: 2.0 * pass_work(data.x.shape, model.num_components),
    static_argnames=("model", "old_model", "family"),
)
def _divided(
    model: Mixture,
    prior: Prior,
    data: Rows,
    old_model: Mixture,
    family: Family,
    params: Any,
    old_prior: Prior,
    slope: Float[Array, " D"],
    offset: Float[Array, " D"],
    key: PRNGKey,
) -> tuple[ConjugateParams, Float[Array, ""]]:
    """The posterior of rows divided by the old one, and the share of their weight that it holds."""
    divide = _responsibilities(old_model, family, params, old_prior, key)
    beyond = model.num_components - old_model.num_components

    def assign(x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        resp = divide(x * slope[None] + offset[None])[:, : old_model.num_components]
        return jnp.pad(resp, ((0, 0), (0, beyond)))

    rows = Batch(x=data.x, weight=data.weight)
    new, _ = posterior_from(model, prior, rows, data.x.shape[1], assign)
    held = jnp.sum(row_counts(new.components, prior))
    return new, held / jnp.sum(data.weight)


def _responsibilities(model: Mixture, family: Family, params: Any, prior: Prior, key: PRNGKey) -> Assign:
    """Of coordinate ascent for a conjugate posterior, so that the bound cannot fall; else predictive."""
    if isinstance(family, Conjugate):
        return expected_responsibilities(model, params)

    def assign(x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        joint = family.log_predictive(model, params, prior, x, key, num_draws=_NUM_DRAWS)
        resp: Array = jax.nn.softmax(joint, axis=-1)
        return resp

    return assign


def _alike(old: Any, model: Mixture, center: Float[np.ndarray, " D"], scale: Float[np.ndarray, " D"]) -> bool:
    """Whether the parameters of the old posterior mean the same in the new model and its units."""
    return (
        isinstance(old.family, Conjugate)
        and (old.model.covariance, old.model.num_components) == (model.covariance, model.num_components)
        and type(old.model.weights) is type(model.weights)
        and np.array_equal(old.center, center)
        and np.array_equal(old.scale, scale)
    )


def _cast(tree: Any, dtype: Any) -> Any:
    """Arrays of a posterior in the dtype of the rows."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), tree)


def _given(posterior: Any) -> Given:
    """A posterior as a value that a Spec may hold."""
    fields = ("model", "family", "params", "prior", "center", "scale", "columns")
    good = all(hasattr(posterior, name) for name in fields)
    require(good, "posterior", "a Posterior, such as fit.posterior or what vigmm.load returns", posterior)
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves((posterior.params, posterior.prior))]
    arrays += [np.asarray(posterior.center), np.asarray(posterior.scale)]
    return Given(
        posterior,
        arrays,
        family=type(posterior.family).__name__,
        components=posterior.model.num_components,
        columns=list(posterior.columns),
    )
