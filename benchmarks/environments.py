"""An environment of its own for each peer, built when it is first needed.

What a peer needs is in ``baselines/NAME.txt``: exact versions, no index addresses, so that it installs
wherever pip does. A line ``# python 3.8`` asks for another interpreter than the running one. Environments are
kept in a cache folder, each under a name with a digest of its text: whoever changes a version gets another.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["EnvironmentFailure", "default_cache", "interpreter", "pins", "requirements"]

TEXTS = Path(__file__).resolve().parent / "baselines"
_READY = ".ready"


class EnvironmentFailure(Exception):
    """A peer cannot be installed here; the message says why."""


def default_cache() -> Path:
    """`VIGMM_BENCH_CACHE`, or a folder of ours in the user's cache folder."""
    chosen = os.environ.get("VIGMM_BENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "vigmm-bench"


def requirements(name: str, texts: Path = TEXTS) -> Path:
    """The text of an environment."""
    return texts / f"{name}.txt"


def interpreter(
    name: str, cache: Path, *, texts: Path = TEXTS, say: Callable[[str], None] = print, limit: float = 900.0
) -> Path:
    """Python of the environment `name`, which is built if it is not there.

    Args:
        name: stem of its text.
        cache: where environments are kept.
        texts: where texts are.
        say: told what takes long.
        limit: seconds that the installation may take.

    Raises:
        EnvironmentFailure: if it cannot be built.
    """
    text = requirements(name, texts).read_text()
    asked = re.search(r"^# python (\d+\.\d+)$", text, re.MULTILINE)
    python = _find(asked[1]) if asked else Path(sys.executable)
    digest = hashlib.sha256(f"{text}\n{asked[1] if asked else sys.version}".encode()).hexdigest()
    folder = cache / f"{name}-{digest[:12]}"
    made = folder / "bin" / "python"
    if (folder / _READY).exists():
        return made
    # An environment without the mark is what an interrupted installation left.
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    say(f"building the environment of {name} in {folder}")
    _call([str(python), "-m", "venv", str(folder)], limit)
    pip = [str(made), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    try:
        _call([*pip, "--requirement", str(requirements(name, texts))], limit)
    except EnvironmentFailure:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    (folder / _READY).write_text(text)
    return made


def _call(command: list[str], limit: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFailure(str(error)) from error
    if done.returncode:
        raise EnvironmentFailure(_reason(done.stderr or done.stdout))


def _reason(said: str) -> str:
    """The last line that tells of an error, or the last line."""
    lines = [line.strip() for line in said.strip().splitlines()] or ["pip failed without a word"]
    errors = [line for line in lines if re.match(r"(ERROR|error|\w*Error)\b", line)]
    return (errors or lines)[-1][:300]


def _find(version: str) -> Path:
    """An interpreter of another version: on the path, or where pyenv keeps its own.

    Each is asked for its version: a shim of pyenv may be on the path and start nothing.
    """
    for candidate in _candidates(version):
        asked = [str(candidate), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    raise EnvironmentFailure(f"it needs Python {version}, and no such interpreter was found")


def _candidates(version: str) -> Iterator[Path]:
    found = shutil.which(f"python{version}")
    if found:
        yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted((pyenv / "versions").glob(f"{version}*/bin/python"), reverse=True)


def pins(name: str, texts: Path = TEXTS) -> dict[str, str]:
    """Versions of what an environment is about: the lines before those that tell what these need."""
    direct = requirements(name, texts).read_text().split("# What they need")[0]
    return dict(line.split("==") for line in direct.splitlines() if "==" in line)
