"""Wheel and source distribution: built, installed and run away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile

import pytest

import vigmm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    """The wheel, built from the source distribution, and that one."""
    pytest.importorskip("build", reason="needs the extra dev")
    pytest.importorskip("hatchling", reason="needs the extra dev")
    target = tmp_path_factory.mktemp("dist")
    # Without isolation nothing is downloaded.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (source,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def away(built, tmp_path_factory):
    """A folder with nothing but the installed wheel in it."""
    target = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(target),
        str(built[0]),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=110)
    return target


def run(code, away):
    """Code in a process of its own, which finds vigmm in `away` only; the checkout is not on its path."""
    head = f"import sys; sys.path.insert(0, {str(away)!r})\n"
    command = [sys.executable, "-P", "-c", head + code]
    done = subprocess.run(command, cwd=away, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(built, root):
    names = set(zipfile.ZipFile(built[0]).namelist())
    own = {name for name in names if name.startswith("vigmm/")}
    want = {
        path.relative_to(root).as_posix()
        for path in (root / "vigmm").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert own == want
    assert "vigmm/py.typed" in own
    assert any(name.startswith("vigmm/report/assets/") for name in own)
    assert {name.split("/")[0] for name in names - own} == {f"vigmm-{vigmm.__version__}.dist-info"}


def test_the_source_distribution_holds_what_its_tests_need(built, root):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "constraints.txt",
        "configs/iris.yaml",
    ):
        assert name in names
    tests = {path.relative_to(root).as_posix() for path in (root / "tests").rglob("*.py")}
    assert tests <= names


def test_metadata(built):
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        text = wheel.read(name).decode()
    assert f"\nVersion: {vigmm.__version__}\n" in text
    assert "\nLicense-Expression: Apache-2.0\n" in text


def test_it_runs_where_it_is_installed(away, tmp_path):
    out = run(
        f"""
import numpy as np
import vigmm
assert vigmm.__file__.startswith({str(away)!r}), vigmm.__file__
x = np.random.default_rng(0).normal(size=(200, 2)) + np.repeat([[0.0, 0.0], [9.0, 9.0]], 100, 0)
fit = vigmm.fit(x, model=vigmm.Mixture(num_components=2), moves=None)
fit.save({str(tmp_path / "model")!r})
print(sorted(np.bincount(vigmm.load({str(tmp_path / "model")!r}).predict(x)).tolist()))
""",
        away,
    )
    assert out.split("\n")[-2] == "[100, 100]"


@pytest.mark.parametrize("words", [["--version"], ["fit", "--help"]])
def test_the_module_is_the_command(away, words):
    code = f"import runpy\nsys.argv[1:] = {words!r}\nrunpy.run_module('vigmm', run_name='__main__')"
    out = run(code, away)
    assert vigmm.__version__ in out if words == ["--version"] else "CONFIG" in out


def test_reports_find_their_files(away):
    files = 'from importlib import resources; folder = resources.files("vigmm.report") / "assets"'
    out = run(f"{files}\nprint(len((folder / 'page.html').read_text()))", away)
    assert int(out) > 100


def test_importing_costs_little_beyond_jax(away):
    """Best of three pairs, because other work on the machine only ever makes either slower."""
    clock = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
    least = min(
        float(run(clock.format("import jax, vigmm"), away)) - float(run(clock.format("import jax"), away))
        for _ in range(3)
    )
    assert least < 0.2
