"""``vigmm doctor``: what is installed, what computes, and what would go wrong."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import typer
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from vigmm import __version__
from vigmm.cli.cache import FOLDER, folder

__all__ = ["Check", "doctor"]

State = Literal["ok", "note", "bad"]
# Extras for people who work on vigmm itself, or that are made of others.
_NOT_SHOWN = {"all", "bench", "demo", "dev", "docs", "test"}
_ACCELERATORS = ("cuda12", "cuda13", "tpu")
_LITTLE_MEMORY, _LITTLE_DISK = 2 * 2**30, 2**30


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: what.
        state: ``ok``; ``note`` where something could be better; ``bad`` where something will not work.
        text: what was found.
        remedy: what to do about it.
    """

    name: str
    state: State
    text: str
    remedy: str = ""


def doctor(*, as_json: bool) -> int:
    """Print all checks; returns 1 if something will not work, else 0.

    Args:
        as_json: whether to print one JSON value instead.
    """
    checks = list(_checks())
    bad = any(check.state == "bad" for check in checks)
    if as_json:
        answer = {"ok": not bad, "checks": [dataclasses.asdict(check) for check in checks]}
        typer.echo(json.dumps(answer))
        return int(bad)
    width = max(len(check.name) for check in checks) + 2
    for check in checks:
        remedy = f"; {check.remedy}" if check.remedy else ""
        mark = {"ok": "    ", "note": "note", "bad": "BAD "}[check.state]
        typer.echo(f"{mark}  {check.name:<{width}}{check.text}{remedy}")
    typer.echo("\nSomething will not work: see the lines marked BAD." if bad else "\nAll is well.")
    return int(bad)


def _checks() -> Iterator[Check]:
    yield from _packages()
    yield from _devices()
    yield _cache()
    yield from _machine()


# Packages --------------------------------------------------------------------------------------


def _packages() -> Iterator[Check]:
    try:
        about = importlib.metadata.metadata("vigmm")
        rows = [Requirement(row) for row in importlib.metadata.requires("vigmm") or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Check(
            "vigmm", "bad", f"{__version__}, but Python knows no installed package", "install it with pip"
        )
        return
    yield Check("vigmm", "ok", __version__)
    wanted, version = SpecifierSet(about["Requires-Python"] or ""), platform.python_version()
    good = wanted.contains(version, prereleases=True)
    yield Check("python", "ok" if good else "bad", version, "" if good else f"it must be {wanted}")
    for row in rows:
        if row.marker is None or row.marker.evaluate({"extra": ""}):
            yield _package(row)
    for extra in about.get_all("Provides-Extra") or ():
        if extra not in _NOT_SHOWN and extra not in _ACCELERATORS:
            yield _extra(extra, rows)


def _package(row: Requirement) -> Check:
    version = _version(row.name)
    install = f"pip install '{row.name}{row.specifier}'"
    if version is None:
        return Check(row.name, "bad", "missing", install)
    if row.specifier.contains(version, prereleases=True):
        return Check(row.name, "ok", version)
    jax = " (jax 0.10 and 0.11.0 deadlock on CPUs with few cores)" if row.name == "jax" else ""
    return Check(row.name, "bad", f"{version}, which must be {row.specifier}{jax}", install)


def _extra(extra: str, rows: list[Requirement]) -> Check:
    needed = [row for row in rows if row.marker is not None and row.marker.evaluate({"extra": extra})]
    needed = [row for row in needed if not row.marker.evaluate({"extra": ""})]  # type: ignore[union-attr]
    found = {row.name: _version(row.name) for row in needed}
    lacking = [
        f"{row.name} {found[row.name] or 'missing'}"
        for row in needed
        if not row.specifier.contains(found[row.name] or "0", prereleases=True) or found[row.name] is None
    ]
    name = f"extra {extra}"
    if lacking:
        return Check(name, "note", ", ".join(lacking), f"for it, pip install 'vigmm[{extra}]'")
    return Check(name, "ok", ", ".join(f"{package} {version}" for package, version in found.items()))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


# Devices ---------------------------------------------------------------------------------------


def _devices() -> Iterator[Check]:
    try:
        import jax

        devices = jax.devices()
        answer = float(jax.jit(lambda x: 2.0 * x)(1.5))
    except Exception as error:  # drivers and plugins fail in ways of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        yield Check("devices", "bad", f"JAX cannot compute: {reason}", "try JAX_PLATFORMS=cpu")
        return
    kinds: dict[str, int] = {}
    for device in devices:
        name = device.device_kind if device.platform == "cpu" else f"{device.platform} {device.device_kind}"
        name += _device_memory(device)
        kinds[name] = kinds.get(name, 0) + 1
    text = ", ".join(f"{count} x {name}" for name, count in kinds.items())
    if answer != 3.0:
        yield Check("devices", "bad", f"{text}: 2 x 1.5 came to be {answer}", "reinstall jax and jaxlib")
        return
    unused = devices[0].platform == "cpu" and shutil.which("nvidia-smi") is not None
    if unused:
        yield Check("devices", "note", f"{text}; a GPU is not used", "for it, pip install 'vigmm[cuda12]'")
    else:
        yield Check("devices", "ok", text)


def _device_memory(device: Any) -> str:
    stats = device.memory_stats() if device.platform != "cpu" else None
    return f" with {stats['bytes_limit'] / 2**30:.0f} GiB" if stats and "bytes_limit" in stats else ""


# The machine -----------------------------------------------------------------------------------


def _cache() -> Check:
    name, path = "cache", folder()
    if path is None:
        return Check(name, "note", "off: every run compiles anew", f"unset {FOLDER} to keep programs")
    nearest = next(one for one in (path, *path.parents) if one.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        return Check(
            name, "note", f"{path} cannot be written: every run compiles anew", f"set {FOLDER} to a folder"
        )
    if not path.exists():
        return Check(name, "ok", f"{path}, empty yet")
    files = [entry.stat().st_size for entry in os.scandir(path) if entry.is_file()]
    return Check(name, "ok", f"{path}, {len(files)} files, {sum(files) / 2**20:.0f} MiB")


def _machine() -> Iterator[Check]:
    where = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"vigmm")
        yield Check("temporary", "ok", where)
    except OSError as error:
        yield Check("temporary", "bad", f"{where} cannot be written: {error.strerror}", "set TMPDIR")
    here, free = Path.cwd(), shutil.disk_usage(Path.cwd()).free
    space = f"{here}, {free / 2**30:.1f} GiB free"
    if not os.access(here, os.W_OK):
        yield Check("here", "note", f"{here} cannot be written", "name a run folder elsewhere with --out")
    elif free < _LITTLE_DISK:
        yield Check("here", "note", space, "make room, or name a run folder elsewhere with --out")
    else:
        yield Check("here", "ok", space)
    yield Check("cores", "ok", f"{_cores()} to use of {os.cpu_count()}")
    memory = _memory()
    if memory is not None:
        total, left = memory
        little = left < _LITTLE_MEMORY
        text = f"{left / 2**30:.1f} GiB free of {total / 2**30:.1f}"
        yield Check("memory", "note" if little else "ok", text, "close other programs" if little else "")


def _cores() -> int:
    able = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(able(0)) if able is not None else os.cpu_count() or 1


def _memory() -> tuple[int, int] | None:
    """Bytes in all and available, where the system says so in a file."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {line.partition(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
        return kilobytes["MemTotal"] * 1024, kilobytes["MemAvailable"] * 1024
    except (OSError, KeyError, ValueError):
        return None
