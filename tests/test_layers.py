"""The architecture as a test: which layer may import which, what importing costs, how long a file may be."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vigmm"

# A layer imports itself and the layers before it. Every other module of the package is an edge: it may
# import everything, and no layer may import it.
LAYERS = (
    "core",
    "math",
    "models",
    "families",
    "estimators",
    "optim",
    "data",
    "train",
    "posterior",
)
EDGE = "edge"
ALLOWED = {layer: set(LAYERS[: i + 1]) for i, layer in enumerate(LAYERS)}
ALLOWED["data"] = {"core", "math", "data"}
ALLOWED[EDGE] = {*LAYERS, EDGE}

# The loop knows estimators, optimisers and sources by protocol: a new one must not touch these files.
BY_PROTOCOL = ("estimators", "optim", "data")
BY_PROTOCOL_IN = ("step.py", "loop.py")

MAX_LINES = 400
HELP_SECONDS = 0.3


def layer_of(module: str) -> str:
    """The layer that a dotted module or name inside the package belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else EDGE


def imports(source: str, path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted target of everything in the package that a file imports, at any depth of nesting."""
    package = ("vigmm", *path.parent.parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            found = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, target) for target in found if target.split(".")[0] == "vigmm")


def violations(source: str, path: Path) -> list[str]:
    """What a file, named relative to the package, imports although it may not."""
    mine = layer_of(".".join(["vigmm", *path.with_suffix("").parts]))
    return [
        f"vigmm/{path}:{line} ({mine}) imports {target} ({layer_of(target)})"
        for line, target in imports(source, path)
        # The version is a constant of the root module, which itself imports nothing.
        if layer_of(target) not in ALLOWED[mine] and target != "vigmm.__version__"
    ]


def package_files() -> list[Path]:
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def isolated(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, without the settings that the tests' own process has."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
        cwd=ROOT,
    )


def test_layers_import_only_layers_before_them():
    found = [line for path in package_files() for line in violations((PACKAGE / path).read_text(), path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "bad"),
    [
        ("core/rng.py", "import vigmm.math.linalg", True),
        ("math/a.py", "from vigmm.core import struct", False),
        ("math/a.py", "from vigmm import models", True),
        ("math/a.py", "def f():\n    from vigmm.models.mixture import Mixture", True),
        ("models/covariance/full.py", "from ..priors import NormalWishart", False),
        ("models/covariance/full.py", "from ...train import step", True),
        ("data/files.py", "from vigmm.models import mixture", True),
        ("data/files.py", "from .sources import Source", False),
        ("train/__init__.py", "from .step import step", False),
        ("train/loop.py", "import vigmm", True),
        ("train/loop.py", "from vigmm.report import html", True),
        ("posterior/save.py", "from vigmm import __version__", False),
        ("cli/main.py", "from vigmm.api import fit", False),
        ("api.py", "from vigmm.posterior import save", False),
        ("core/rng.py", "import jax.numpy", False),
    ],
)
def test_the_import_rule_itself(path, source, bad):
    assert bool(violations(source, Path(path))) is bad


def rows_of_tables(layer: str) -> set[object]:
    """Every class or function that a layer offers for choice, by its upper-case dictionaries."""
    package = importlib.import_module(f"vigmm.{layer}")
    names = [f"vigmm.{layer}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    modules = [package, *map(importlib.import_module, names)]
    tables = [v for m in modules for name, v in vars(m).items() if name.isupper() and isinstance(v, dict)]
    rows = [getattr(row, "open", row) for table in tables for row in table.values()]
    return {row for row in rows if callable(row)}


def test_the_loop_knows_its_parts_by_protocol_only():
    """A row of a table, a table or a whole module of them has no place in the step or in the loop."""
    found = []
    for name in BY_PROTOCOL_IN:
        path = Path("train", name)
        for line, target in imports((PACKAGE / path).read_text(), path):
            if layer_of(target) not in BY_PROTOCOL:
                continue
            module, _, attribute = target.rpartition(".")
            value = getattr(importlib.import_module(module), attribute)
            if isinstance(value, dict | ModuleType) or value in rows_of_tables(layer_of(target)):
                found.append(f"vigmm/{path}:{line} imports {target}")
    assert not found, "\n".join(found)


def test_the_tables_that_the_rule_looks_at_are_found():
    assert all(rows_of_tables(layer) for layer in BY_PROTOCOL)


def test_no_file_is_too_long():
    lengths = {str(path): len((PACKAGE / path).read_text().splitlines()) for path in package_files()}
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


def test_every_folder_of_the_package_is_a_package():
    """A folder without __init__.py is left out of type checks and of some installs, silently."""
    folders = {path.parent for path in package_files()}
    assert [
        str(folder) for folder in sorted(folders) if not (PACKAGE / folder / "__init__.py").exists()
    ] == []


def test_importing_vigmm_imports_no_jax():
    done = isolated("import sys, vigmm; print('jax' in sys.modules, 'numpy' in sys.modules)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "False"]


def test_importing_everything_changes_no_setting_and_starts_no_device():
    done = isolated(
        """
        import importlib, json, os, pkgutil, warnings
        import jax
        # Third parties that the package builds on are not under test.
        import chex, jax.experimental.pallas.triton, numpyro, optax, sklearn.mixture
        before, environment, filters = dict(jax.config.values), dict(os.environ), list(warnings.filters)
        import vigmm
        names = [m.name for m in pkgutil.walk_packages(vigmm.__path__, "vigmm.") if "__main__" not in m.name]
        for name in names:
            importlib.import_module(name)
        for name in getattr(vigmm, "__all__", ()):
            getattr(vigmm, name)
        after = dict(jax.config.values)
        changed = {k: [str(before.get(k)), str(after[k])] for k in after if after[k] != before.get(k)}
        if os.environ != environment:
            changed["environment"] = sorted(set(os.environ.items()) ^ set(environment.items()))
        # JAX refuses this once a backend has been started, as a module-level array would.
        jax.config.update("jax_num_cpu_devices", 3)
        print(json.dumps({"modules": len(names), "changed": changed, "devices": len(jax.devices("cpu"))}))
        """
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["changed"] == {}
    assert report["devices"] == 3
    assert report["modules"] > len(LAYERS)


def test_help_imports_no_jax():
    done = isolated(
        """
        import sys
        sys.argv = ["vigmm", "--help"]
        from vigmm.cli import main
        try:
            status = main()
        except SystemExit as stop:
            status = stop.code
        heavy = {"jax", "numpyro", "optax", "chex", "sklearn", "matplotlib", "pyarrow"} & set(sys.modules)
        print("HEAVY", status or 0, *sorted(heavy))
        """
    )
    assert done.returncode == 0, done.stderr
    assert "fit" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY 0"


def test_help_answers_at_once():
    """CPU seconds, the best of five: other work on the machine says nothing about the command."""
    command = Path(sys.executable).with_name("vigmm")
    assert command.exists(), "the vigmm command is not installed beside this interpreter"
    best = float("inf")
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0, done.stderr
        if best < HELP_SECONDS:
            break
    assert best < HELP_SECONDS, (
        f"vigmm --help took {best:.2f} CPU s at best, and must take less than {HELP_SECONDS}"
    )
