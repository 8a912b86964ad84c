"""A posterior as two files: ``model.safetensors`` (arrays) and ``model.json`` (everything else).

Nothing is pickled and nothing that a file says is ever imported or called: Specs are rebuilt from the tables
of rows that this version knows, and arrays are put into the shapes that those Specs imply. A file that does
not fit is refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vigmm import __version__
from vigmm.core.arrayfile import check_description, fill, leaves, read_arrays, read_description, write
from vigmm.core.errors import ConfigError, ModelFileError, OutputError, SpecError
from vigmm.core.precision import DTYPES
from vigmm.core.specdict import from_dict, to_dict
from vigmm.families import FAMILIES, Family, guess, untouched
from vigmm.models import DataScale, Mixture
from vigmm.posterior.posterior import Posterior

__all__ = ["SCHEMA", "digest", "load", "save"]

SCHEMA = 2
"""Version of the files' layout; goes up whenever an older vigmm could misread a newer file."""

_FORMAT = "vigmm posterior"
_SUFFIXES = (".safetensors", ".json")


def save(posterior: Posterior, path: str | Path) -> None:
    """Write a posterior.

    Each file is written under a temporary name, flushed to the disk and renamed, the description last, so
    that a process that is killed never leaves half a file under the final names.

    Args:
        posterior: what to write.
        path: a folder, made if need be, for ``model.safetensors`` and ``model.json``; or the name of either
            file, for another stem than ``model``.

    Raises:
        OutputError: if the files cannot be written there.
    """
    arrays_path, _ = _files(path)
    arrays = leaves({"params": posterior.params, "prior": posterior.prior})
    arrays |= {"center": posterior.center, "scale": posterior.scale}
    description = {
        "format": _FORMAT,
        "schema": SCHEMA,
        "vigmm": __version__,
        "model": to_dict(posterior.model),
        "family": to_dict(posterior.family, FAMILIES),
        "columns": list(posterior.columns),
        "seed": posterior.seed,
        "dtype": posterior.dtype,
    }
    try:
        arrays_path.parent.mkdir(parents=True, exist_ok=True)
        write(arrays_path.with_suffix(""), arrays, description)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{arrays_path.parent}: the model cannot be written here: {reason}") from error


def load(path: str | Path) -> Posterior:
    """The posterior that `save` wrote, bit for bit.

    Args:
        path: the folder, or one of the two files.

    Raises:
        ModelFileError: if a file is missing, damaged, of another schema version or does not fit together.
    """
    arrays_path, text_path = _files(path)
    described = _described(text_path)
    try:
        model = from_dict(Mixture, described["model"], path="model")
        family = from_dict(FAMILIES, described["family"], path="family")
    except ConfigError as error:
        raise ModelFileError(
            f"{text_path}: this vigmm ({__version__}) cannot read the model: {error}"
        ) from error
    arrays = read_arrays(arrays_path, text_path, described)
    center, scale = (
        _vector(arrays, name, len(described["columns"]), arrays_path) for name in ("center", "scale")
    )
    dtype = described["dtype"]
    try:
        with jax.enable_x64(dtype == "float64"):
            like = _abstract(model, family, center=center, scale=scale, dtype=dtype)
            tree = fill(like, arrays, str(arrays_path), ignore=frozenset({"center", "scale"}))
        return Posterior(
            model=model,
            family=family,
            params=tree["params"],
            prior=tree["prior"],
            center=center,
            scale=scale,
            columns=tuple(described["columns"]),
            seed=described["seed"],
            dtype=dtype,
        )
    except SpecError as error:
        raise ModelFileError(f"{text_path}: {error}") from error


def digest(path: str | Path) -> str:
    """SHA-256 of the description of a saved model, which holds that of its arrays."""
    return hashlib.sha256(_files(path)[1].read_bytes()).hexdigest()


def _files(path: str | Path) -> tuple[Path, Path]:
    path = Path(path).expanduser()
    if path.suffix in _SUFFIXES and not path.is_dir():
        return path.with_suffix(".safetensors"), path.with_suffix(".json")
    return path / "model.safetensors", path / "model.json"


def _described(path: Path) -> dict[str, Any]:
    """The description, its outer shape checked."""
    described = read_description(path)
    columns = described.get("columns")
    rules = {
        "model": isinstance(described.get("model"), dict),
        "family": isinstance(described.get("family"), dict),
        "columns": isinstance(columns, list) and columns and all(isinstance(name, str) for name in columns),
        "seed": type(described.get("seed")) is int,
        "dtype": described.get("dtype") in DTYPES,
        "arrays": isinstance(described.get("arrays"), dict),
        "sha256": isinstance(described.get("sha256"), str),
    }
    check_description(path, described, form=_FORMAT, schema=SCHEMA, what="a vigmm model", rules=rules)
    return described


def _vector(arrays: dict[str, np.ndarray], name: str, dim: int, path: Path) -> np.ndarray:
    array = arrays.get(name)
    if array is None or array.shape != (dim,) or array.dtype != np.float64:
        raise ModelFileError(f"{path}: {name} must be {dim} numbers of type float64, one per column")
    return array


def _abstract(model: Mixture, family: Family, *, center: np.ndarray, scale: np.ndarray, dtype: str) -> Any:
    """Shapes of the prior and of q's parameters: those of a fit that has seen no rows.

    Made by the model and the family themselves, so that a new one needs nothing here.
    """
    patterns = np.ones((1, len(center)), np.bool_) if model.missing else None
    unseen = DataScale(mean=center, cov=np.diag(scale**2), center=center, scale=scale, patterns=patterns)
    surrogate = model.surrogate
    prior, other = (one.build_prior(unseen, dtype=np.dtype(dtype)) for one in (model, surrogate))

    def first() -> Any:
        return family.init(model, guess(model, prior, untouched(surrogate, other), other))

    return {"params": jax.eval_shape(first), "prior": jax.eval_shape(lambda: prior)}
