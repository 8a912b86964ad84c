"""A posterior as two files: ``model.safetensors`` (arrays) and ``model.json`` (everything else).

Nothing is pickled and nothing that a file says is ever imported or called: Specs are rebuilt from the tables
of rows that this version knows, and arrays are put into the shapes that those Specs imply. A file that does
not fit is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vigmm import __version__
from vigmm.core.errors import ConfigError, ModelFileError, OutputError, SpecError
from vigmm.core.precision import DTYPES
from vigmm.core.specdict import from_dict, to_dict
from vigmm.families import FAMILIES, ConjugateParams, Family, guess
from vigmm.models import DataScale, Mixture, sticks
from vigmm.posterior.posterior import Posterior

__all__ = ["SCHEMA", "load", "save"]

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
    from safetensors.numpy import save as to_bytes

    arrays_path, text_path = _files(path)
    tree = {"params": posterior.params, "prior": posterior.prior}
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in _leaves(tree).items()}
    arrays |= {"center": posterior.center, "scale": posterior.scale}
    content = to_bytes(arrays)
    description = {
        "format": _FORMAT,
        "schema": SCHEMA,
        "vigmm": __version__,
        "model": to_dict(posterior.model),
        "family": to_dict(posterior.family, FAMILIES),
        "columns": list(posterior.columns),
        "seed": posterior.seed,
        "dtype": posterior.dtype,
        "arrays": {name: {"shape": list(a.shape), "dtype": a.dtype.name} for name, a in arrays.items()},
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    try:
        arrays_path.parent.mkdir(parents=True, exist_ok=True)
        _write(arrays_path, content)
        _write(text_path, (json.dumps(description, indent=2, ensure_ascii=False) + "\n").encode())
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
    arrays = _arrays(arrays_path, text_path, described)
    center, scale = (
        _vector(arrays, name, len(described["columns"]), arrays_path) for name in ("center", "scale")
    )
    dtype = described["dtype"]
    try:
        with jax.enable_x64(dtype == "float64"):
            like = _abstract(model, family, center=center, scale=scale, dtype=dtype)
            tree = _fill(like, arrays, arrays_path)
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


def _files(path: str | Path) -> tuple[Path, Path]:
    path = Path(path).expanduser()
    if path.suffix in _SUFFIXES and not path.is_dir():
        return path.with_suffix(".safetensors"), path.with_suffix(".json")
    return path / "model.safetensors", path / "model.json"


def _write(path: Path, content: bytes) -> None:
    """Write atomically: whoever looks sees the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the rename itself must reach the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _leaves(tree: Any) -> dict[str, Any]:
    """Arrays of a pytree by dotted path, such as ``params.weights.a``."""
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in found}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        beside = "" if path.parent.is_dir() else f" (there is no folder {path.parent})"
        raise ModelFileError(
            f"{path}: no such file{beside}; give the folder that a model was saved in"
        ) from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error


def _described(path: Path) -> dict[str, Any]:
    """The description, its outer shape checked."""
    content = _read(path)
    try:
        described = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is not valid JSON: it is damaged, cut short or no model file"
        ) from error
    if not isinstance(described, dict) or described.get("format") != _FORMAT:
        raise ModelFileError(f"{path} does not describe a vigmm model")
    schema = described.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        by = described.get("vigmm")
        raise ModelFileError(
            f"{path} has schema {schema}, this vigmm reads {SCHEMA}: it was written by vigmm {by}, and "
            f"this is vigmm {__version__}; load it with that version, or fit the model again"
        )
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
    wrong = [name for name, right in rules.items() if not right]
    if wrong:
        raise ModelFileError(f"{path} is damaged: {', '.join(wrong)} missing or of the wrong type")
    return described


def _arrays(path: Path, text_path: Path, described: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of the file that the description was written with."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    content = _read(path)
    if hashlib.sha256(content).hexdigest() != described["sha256"]:
        raise ModelFileError(
            f"{path} is not the file that {text_path.name} was written with (its SHA-256 differs): it is "
            f"damaged, cut short or from another run; restore both files or fit the model again"
        )
    try:
        arrays: dict[str, np.ndarray] = from_bytes(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is not a safetensors file that can be read: {error}") from error
    listed = {name: {"shape": list(a.shape), "dtype": a.dtype.name} for name, a in arrays.items()}
    if listed != described["arrays"]:
        raise ModelFileError(f"{path} does not hold the arrays that {text_path.name} lists")
    return arrays


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
        centre = jnp.zeros((model.num_components, len(center)), dtype)
        counts = jnp.zeros((model.num_components,), dtype)
        start = ConjugateParams(
            weights=sticks.update(other.weights, counts),
            components=surrogate.algebra.natural(other.components, centre),
        )
        return family.init(model, guess(model, prior, start, other))

    return {"params": jax.eval_shape(first), "prior": jax.eval_shape(lambda: prior)}


def _fill(like: Any, arrays: dict[str, np.ndarray], path: Path) -> Any:
    """The tree `like` with the saved arrays as its leaves."""
    wanted = _leaves(like)
    extra = sorted(set(arrays) - set(wanted) - {"center", "scale"})
    missing = sorted(set(wanted) - set(arrays))
    if extra or missing:
        raise ModelFileError(
            f"{path} does not hold the arrays of this model: missing {', '.join(missing) or 'none'}, "
            f"unknown {', '.join(extra) or 'none'}"
        )
    for name, leaf in wanted.items():
        found = arrays[name]
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise ModelFileError(
                f"{path}: {name} has shape {found.shape} and type {found.dtype}, but the model needs "
                f"{leaf.shape} and {leaf.dtype}"
            )
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(arrays[name]) for name in wanted])
