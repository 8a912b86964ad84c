"""Environments that hold a compiler plugin and nothing else.

Each reads the packages of the environment that runs this (so it is the same jax), and adds wheels that the
default environment must not have: a plugin is loaded by whatever imports jax beside it. They lie in a cache
folder of the user's choice, in a folder named by what they hold.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

from benchmarks.environments import EnvironmentFailure

__all__ = ["PLUGINS", "find", "folder", "interpreter", "wheels"]

PLUGINS = ("cuda", "tpu")
_READY = ".ready"


def wheels(plugin: str) -> tuple[str, ...]:
    """What pip is asked for: the plugin for the installed jax."""
    version = metadata.version("jax")
    if plugin == "cuda":
        return f"jax-cuda12-plugin=={version}", f"jax-cuda12-pjrt=={version}"
    pinned = [line for line in metadata.requires("jax") or () if re.match(r"libtpu\b.*extra == .tpu", line)]
    if len(pinned) != 1:
        raise EnvironmentFailure(f"jax {version} does not say which libtpu it needs")
    return (pinned[0].partition(";")[0].strip(),)


def folder(plugin: str, cache: Path) -> Path:
    """Where the environment is: one for each version of jax and of Python."""
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return cache / f"compile-{plugin}-jax{metadata.version('jax')}-{python}"


def find(plugin: str, cache: Path) -> Path | None:
    """Python of an environment that is ready, or None."""
    home = folder(plugin, cache)
    return home / "bin" / "python" if (home / _READY).exists() else None


def interpreter(plugin: str, cache: Path) -> Path:
    """Python of the environment, which is built if it is not there.

    Raises:
        EnvironmentFailure: if pip cannot install it.
    """
    ready = find(plugin, cache)
    if ready is not None:
        return ready
    home = folder(plugin, cache)
    venv.create(home, clear=True, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    paths = {"base": str(home), "platbase": str(home)}
    packages = Path(sysconfig.get_path("purelib", vars=paths))
    here = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (packages / "base.pth").write_text("".join(f"{path}\n" for path in here))
    # From the index that pip is configured with; the dependencies are those of the environment it reads.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python)]
    done = subprocess.run([*pip, "install", "--no-deps", *wheels(plugin)], capture_output=True, text=True)
    if done.returncode:
        raise EnvironmentFailure((done.stderr or done.stdout).strip()[-300:])
    (home / _READY).write_text("\n".join(wheels(plugin)) + "\n")
    return python
