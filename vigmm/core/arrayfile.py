"""Arrays and facts in two files: ``STEM.safetensors`` and ``STEM.json``; whoever looks sees both, whole.

Nothing is pickled and nothing that a file says is ever imported or called. Each file is written under a
temporary name, flushed to the disk and renamed, the description last and with the arrays' SHA-256 in it, so
that a process that is killed at any moment leaves what was there before, or what is there now.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vigmm import __version__
from vigmm.core.errors import ModelFileError
from vigmm.core.files import replacing

__all__ = ["check_description", "fill", "leaves", "read_arrays", "read_description", "write"]


def write(stem: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write both files.

    Args:
        stem: their path without a suffix; the folder must be there.
        arrays: by name.
        facts: the description, JSON-ready; the arrays' shapes, types and digest are added to it.

    Raises:
        OSError: if they cannot be written.
    """
    from safetensors.numpy import save as to_bytes

    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = to_bytes(ordered)
    described = {**facts, "arrays": _listed(ordered), "sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
    for suffix, made in (("safetensors", content), ("json", text.encode())):
        with replacing(stem.with_name(f"{stem.name}.{suffix}")) as temporary:
            temporary.write_bytes(made)


def read_description(path: Path) -> dict[str, Any]:
    """The description, a JSON object.

    Raises:
        ModelFileError: if the file is missing or damaged.
    """
    content = _read(path)
    try:
        described = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is not valid JSON: it is damaged, cut short or no model file"
        ) from error
    if not isinstance(described, dict):
        raise ModelFileError(f"{path} does not describe anything that vigmm wrote")
    return described


def check_description(
    path: Path, described: Mapping[str, Any], *, form: str, schema: int, what: str, rules: Mapping[str, Any]
) -> None:
    """Refuse a description of something else, of another schema version, or that is damaged.

    Args:
        path: its file, for messages.
        described: the description.
        form: the ``format`` that it must name.
        schema: the version that it must have.
        what: it describes, for messages.
        rules: fields, and whether each is as it should be.

    Raises:
        ModelFileError: saying which.
    """
    if described.get("format") != form:
        raise ModelFileError(f"{path} does not describe {what}")
    found = described.get("schema")
    if type(found) is not int or found != schema:
        by = described.get("vigmm")
        raise ModelFileError(
            f"{path} has schema {found}, this vigmm reads {schema}: it was written by vigmm {by}, and this "
            f"is vigmm {__version__}; load it with that version, or fit the model again"
        )
    wrong = [name for name, right in rules.items() if not right]
    if wrong:
        raise ModelFileError(f"{path} is damaged: {', '.join(wrong)} missing or of the wrong type")


def read_arrays(path: Path, text_path: Path, described: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays that a description was written with.

    Args:
        path: the ``.safetensors`` file.
        text_path: the description's file, for messages.
        described: the description.

    Raises:
        ModelFileError: if the file is missing, damaged or another one.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    content = _read(path)
    if hashlib.sha256(content).hexdigest() != described.get("sha256"):
        raise ModelFileError(
            f"{path} is not the file that {text_path.name} was written with (its SHA-256 differs): it is "
            f"damaged, cut short or from another run; restore both files or fit the model again"
        )
    try:
        arrays: dict[str, np.ndarray] = from_bytes(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is not a safetensors file that can be read: {error}") from error
    if _listed(arrays) != described.get("arrays"):
        raise ModelFileError(f"{path} does not hold the arrays that {text_path.name} lists")
    return arrays


def leaves(tree: Any) -> dict[str, np.ndarray]:
    """Arrays of a pytree on the host, by dotted path such as ``params.weights.a``; keys as their bits.

    They are copies: the tree's own buffers may be donated afterwards.
    """
    return {name: np.array(_raw(leaf)) for name, leaf in _named(tree).items()}


def fill(
    like: Any, arrays: Mapping[str, np.ndarray], where: str, *, ignore: frozenset[str] = frozenset()
) -> Any:
    """The tree `like` with arrays of `leaves` in the place of its own.

    Args:
        like: a pytree of arrays or of their shapes.
        arrays: by dotted path.
        where: what messages call the arrays' origin.
        ignore: names of further arrays.

    Raises:
        ModelFileError: unless there is exactly one array of the right shape and type for every leaf.
    """
    wanted = _named(like)
    extra, missing = sorted(set(arrays) - set(wanted) - ignore), sorted(set(wanted) - set(arrays))
    if extra or missing:
        raise ModelFileError(
            f"{where} does not hold the arrays of this model: missing {', '.join(missing) or 'none'}, "
            f"unknown {', '.join(extra) or 'none'}"
        )
    made = []
    for name, leaf in wanted.items():
        found, raw = arrays[name], jax.eval_shape(_raw, leaf)
        if found.shape != raw.shape or found.dtype != raw.dtype:
            raise ModelFileError(
                f"{where}: {name} has shape {found.shape} and type {found.dtype}, but the model needs "
                f"{raw.shape} and {raw.dtype}"
            )
        # A copy, because on CPU an array may share the memory of the one it was made from.
        array = jnp.array(found, copy=True)
        made.append(jax.random.wrap_key_data(array) if _is_key(leaf) else array)
    return jax.tree.unflatten(jax.tree.structure(like), made)


def _named(tree: Any) -> dict[str, Any]:
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in found}


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _raw(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _listed(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: {"shape": list(a.shape), "dtype": a.dtype.name} for name, a in arrays.items()}


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
