"""What a fit of a NumPyro model leaves: draws, how far to trust it, and files.

A saved fit is ``fit.safetensors`` (arrays) and ``fit.json`` (everything else). The model function is not in
it: it is code, and no code is ever read from a file. Whoever loads the fit gives the function again, and it
must say the same of a few numbers as the one that was fitted.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from vigmm import __version__
from vigmm.api import as_source
from vigmm.core import rng
from vigmm.core.arrayfile import check_description, fill, leaves, read_arrays, read_description, write
from vigmm.core.errors import ConfigError, ModelFileError, OutputError, SpecError
from vigmm.core.outcome import Outcome, Status
from vigmm.core.precision import DTYPES, double, precision
from vigmm.core.specdict import from_dict, to_dict
from vigmm.core.struct import require
from vigmm.core.typing import PRNGKey
from vigmm.data.device import to_rows
from vigmm.data.moments import Standardizer
from vigmm.data.sampler import Rows
from vigmm.estimators import ESTIMATORS, Estimator, Objective
from vigmm.families import FAMILIES, Family, Guess
from vigmm.interop.numpyro_model import Example, NumpyroModel, from_numpyro
from vigmm.posterior import Diagnosis, ElboReport
from vigmm.posterior.diagnosis import weighed

__all__ = ["NumpyroFit", "load_numpyro"]

_FORMAT, _SCHEMA = "vigmm numpyro fit", 1
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class NumpyroFit:
    """What a fit of a NumPyro model leaves.

    Args:
        model: the model.
        family: the family of q.
        estimator: how the bound was estimated.
        params: parameters of q, over the unconstrained coordinates of the latent sites.
        example: rows that give the prior's sites their shapes.
        elbo: the final bound of the training rows with its standard error and terms.
        outcome: how the run ended; check `outcome.ok` first.
        metrics: per-step and per-chunk values by name; ``holdout`` is the mean log predictive density.
        dtype: ``float32`` or ``float64``.
        batch_size: rows per step.
        rows: reads the rows that were fitted; None after loading, for rows are not saved.
    """

    model: NumpyroModel
    family: Family
    estimator: Estimator
    params: Any
    example: Example
    elbo: ElboReport
    outcome: Outcome
    metrics: dict[str, np.ndarray]
    dtype: str
    batch_size: int
    rows: Callable[[], Rows] | None = dataclasses.field(default=None, repr=False)

    def draw(self, key: PRNGKey, n: int) -> dict[str, np.ndarray]:
        """`n` draws of every latent site from q, as ``numpyro.infer.Predictive`` takes them."""
        require(n >= 1, "n", ">= 1", n)
        with precision(self.dtype):
            found = _draws(self.model, self.family, self.params, self.example, jax.random.split(key, n))
            return {name: np.asarray(value) for name, value in found.items()}

    def diagnose(
        self, data: Any = None, *, sample_weight: Any = None, num_draws: int | None = None, seed: int = 0
    ) -> Diagnosis:
        """How far to trust the fit: k-hat, bound, evidence, gap and gradient, each with a sentence.

        Args:
            data: the rows that were fitted, for a fit that was loaded; one that was made here knows them.
            sample_weight: their weights, if they had any.
            num_draws: draws for importance weights, each read against all rows; by default what a few
                seconds allow.
            seed: fixes the draws.

        Returns:
            The diagnosis; its ``resample`` gives draws of the sites.

        Raises:
            SpecError: if there are no rows.
        """
        must = "the rows that were fitted: a saved fit has none"
        require(data is not None or self.rows is not None, "data", must, None)
        with precision(self.dtype):
            rows = self._given(data, sample_weight) if data is not None else cast(Any, self.rows)()
            # Estimators and families name the mixture in their types and use only what this model has too.
            model = cast(Any, self.model)
            objective = Objective(model=model, family=self.family, estimator=self.estimator)
            return weighed(
                objective, self.params, cast(Any, self.example), rows, self.elbo, self._sites,
                batch_size=self.batch_size, dtype=self.dtype, num_draws=num_draws, seed=seed,
            )  # fmt: skip

    def _given(self, data: Any, weight: Any) -> Rows:
        source = as_source(data, None)
        return to_rows(source, Standardizer.identity(source.dim), self.dtype, weight=weight)

    def _sites(self, positions: Any) -> dict[str, np.ndarray]:
        """Values of the latent sites at positions with a leading axis, in float64."""
        with jax.enable_x64(True):
            found = _values(self.model, *double((self.example, positions)))
            return {name: np.asarray(value) for name, value in found.items()}

    def save(self, path: str | Path) -> None:
        """Write ``fit.safetensors`` and ``fit.json`` to a folder; `vigmm.load_numpyro` reads them back.

        Raises:
            OutputError: if the files cannot be written there.
        """
        folder = Path(path).expanduser()
        arrays = leaves({"params": self.params, "example": self.example, "metrics": self.metrics})
        description = {
            "format": _FORMAT,
            "schema": _SCHEMA,
            "vigmm": __version__,
            "plate": self.model.plate,
            "family": to_dict(self.family, FAMILIES),
            "estimator": to_dict(self.estimator, ESTIMATORS),
            "elbo": dataclasses.asdict(self.elbo),
            "outcome": dataclasses.asdict(self.outcome),
            "dtype": self.dtype,
            "batch_size": self.batch_size,
            "densities": _densities(self.model, self.example),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write(folder / "fit", arrays, description)
        except OSError as error:
            raise OutputError(
                f"{folder}: the fit cannot be written here: {error.strerror or error}"
            ) from error


def load_numpyro(path: str | Path, model: NumpyroModel | Callable[..., Any]) -> NumpyroFit:
    """The fit that `NumpyroFit.save` wrote, with the model function that was fitted.

    Args:
        path: the folder.
        model: the same model as in `vigmm.fit_numpyro`.

    Raises:
        ModelFileError: if a file is missing or damaged, or if this is another model.
    """
    folder = Path(path).expanduser()
    text, binary = folder / "fit.json", folder / "fit.safetensors"
    described = read_description(text)
    _check(text, described)
    made = model if isinstance(model, NumpyroModel) else from_numpyro(model, plate=described["plate"])
    arrays = read_arrays(binary, text, described)
    names = [name for name in arrays if name.startswith("metrics.")]
    metrics = {name.removeprefix("metrics."): arrays.pop(name) for name in names}
    dtype = described["dtype"]
    try:
        family = from_dict(FAMILIES, described["family"], path="family")
        estimator = from_dict(ESTIMATORS, described["estimator"], path="estimator")
        outcome = {**described["outcome"], "status": Status(described["outcome"]["status"])}
        outcome["resets"] = tuple(outcome["resets"])
        with precision(dtype):
            tree = fill(_like(made, family, arrays, dtype, binary), arrays, str(binary))
        fit = NumpyroFit(
            model=made,
            family=family,
            estimator=estimator,
            params=tree["params"],
            example=tree["example"],
            elbo=ElboReport(**described["elbo"]),
            outcome=Outcome(**outcome),
            metrics=metrics,
            dtype=dtype,
            batch_size=described["batch_size"],
        )
        told, found = described["densities"], _densities(made, fit.example)
        same = np.allclose(found, told, rtol=_ROUNDING, atol=_ROUNDING, equal_nan=True)
    except (ConfigError, SpecError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{text}: this vigmm ({__version__}) cannot read the fit: {error}") from error
    if not same:
        raise ModelFileError(f"{text} was written with another model: prior or likelihood of this one differ")
    return fit


def _check(path: Path, described: dict[str, Any]) -> None:
    parts = ("family", "estimator", "elbo", "outcome", "arrays")
    rules = {
        "plate": isinstance(described.get("plate"), str),
        "dtype": described.get("dtype") in DTYPES,
        "batch_size": type(described.get("batch_size")) is int,
        "densities": isinstance(described.get("densities"), list),
        **{name: isinstance(described.get(name), dict) for name in parts},
    }
    what = "a fit of a NumPyro model"
    check_description(path, described, form=_FORMAT, schema=_SCHEMA, what=what, rules=rules)


def _like(model: NumpyroModel, family: Family, arrays: Any, dtype: str, path: Path) -> Any:
    """Shapes of q's parameters and of the example, made by the model and the family themselves."""
    x = arrays.get("example.x")
    if x is None or x.ndim != 2 or x.dtype != np.dtype(dtype):
        raise ModelFileError(f"{path}: example.x must be rows of type {dtype}")

    def first(x: Any) -> Any:
        loc = jax.tree.map(lambda leaf: leaf.astype(x.dtype), model.start(x, jax.random.key(0)))
        return family.init(cast(Any, model), Guess(loc=loc, scale=loc, conjugate=None))

    example = Example(x=jnp.asarray(x))
    return {"params": jax.eval_shape(first, example.x), "example": jax.eval_shape(lambda: example)}


def _densities(model: NumpyroModel, example: Example) -> list[float]:
    """Log prior and log likelihoods of the example at a fixed position: what tells one model from another."""
    with jax.enable_x64(True):
        example = double(example)
        start = model.start(example.x, rng.root_key(0))
        # Not where a coefficient of 0 may hide what it multiplies, and not the same for all coordinates.
        u = jax.tree.map(lambda leaf: 0.1 + 0.05 * jnp.cos(jnp.arange(leaf.size, dtype=jnp.float64)), start)
        values = model.log_prior(example, u)[None], model.log_lik(model.constrain(example, u), example.x)
        return [float(value) for value in jnp.concatenate(values)]


@functools.partial(jax.jit, static_argnames=("model", "family"))
def _draws(model: NumpyroModel, family: Family, params: Any, example: Example, keys: Any) -> dict[str, Any]:
    def one(key: PRNGKey) -> dict[str, Any]:
        return model.constrain(example, cast(Any, family.sample(cast(Any, model), params, key)[0]))

    return jax.vmap(one)(keys)


@functools.partial(jax.jit, static_argnames=("model",))
def _values(model: NumpyroModel, example: Example, positions: Any) -> dict[str, Any]:
    return jax.vmap(lambda u: model.constrain(example, u))(positions)
