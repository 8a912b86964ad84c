"""The files around the package: what they may name, and that the pins and the metadata agree."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")

# Hosts that text may name: licences, standards (YAML's tags among them), papers, and names kept for examples.
HOSTS = {
    "apache.org",
    "arxiv.org",
    "doi.org",
    "example.com",
    "example.org",
    "jmlr.org",
    "keepachangelog.com",
    "nvidia.com",  # a Kubernetes resource, nvidia.com/gpu
    "semver.org",
    "w3.org",
    "yaml.org",
}
# Without a scheme only endings count that are no attribute's name: `scipy.io` and `self.net` are code.
HOST = re.compile(r"(?<![\w.@-])((?:[a-z0-9-]+\.)+(?:com|corp|internal|lan|org))(?![\w-]|\.\w|\()")
URL = re.compile(
    r"\b[a-z][a-z0-9+]*://(?:[^/\s@]*@)?([a-z0-9.-]+\.[a-z]{2,}|\d+\.\d+\.\d+\.\d+|localhost)", re.I
)
HOMES = re.compile(r"(?<![\w.~-])/(?:home|Users|root|work)/\w|\b[A-Z]:\\Users\\")


def tracked() -> list[Path]:
    """Every text file that is in the repository or would be with the next `git add`."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout to know which files belong to the project")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    paths = [ROOT / name for name in sorted(set(listing.split("\0")) - {""})]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


def findings(text: str) -> list[str]:
    """Every host that may not be named and every path that exists on one person's machine only."""
    # In a `pkg://package/file` address the part after the slashes is a Python package, not a host.
    hosts = [*URL.findall(text.replace("pkg://", "pkg:")), *HOST.findall(text)]
    bad = [host for host in hosts if not any(f".{host.lower()}".endswith(f".{known}") for known in HOSTS)]
    return bad + HOMES.findall(text)


def test_no_file_names_a_host_or_a_home():
    own = Path(__file__).resolve()
    found = [
        f"{path.relative_to(ROOT)}:{number}: {', '.join(bad)}"
        for path in tracked()
        if path != own
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (bad := findings(line))
    ]
    assert not found, "\n".join(found)


def test_no_file_names_this_machine():
    name = socket.gethostname()
    if len(name) < 6 or name.isalpha():
        pytest.skip("this machine's name is an ordinary word")
    here = [str(Path.home())] if len(Path.home().parts) > 2 else []
    text = {path: path.read_text(encoding="utf-8") for path in tracked()}
    assert [str(path) for path, body in text.items() if any(word in body for word in [name, *here])] == []


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("see https://files.hosted.net/simple", True),
        ("--index-url http://10.0.0.7:8080/simple", True),
        ("mirror.packages.internal", True),
        ("/home/someone/data.csv", True),
        ("C:\\Users\\someone", True),
        ("https://www.apache.org/licenses", False),
        ("path: pkg://sklearn.datasets.images/china.jpg", False),
        ("import scipy.io; np.random.default_rng(0); self.net(x)", False),
        ("../shared/refs", False),
    ],
)
def test_the_rule_itself(line, bad):
    assert bool(findings(line)) is bad


def pins(python: str, system: str) -> dict[str, Version]:
    """What constraints.txt pins for one Python version on one system."""
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.99",
        "sys_platform": system,
        "platform_python_implementation": "CPython",
    }
    pinned: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        row = Requirement(line)
        if row.marker is None or row.marker.evaluate(environment):
            name = canonicalize_name(row.name)
            assert name not in pinned, f"{name} is pinned twice for Python {python}"
            (only,) = row.specifier
            assert only.operator == "=="
            pinned[name] = Version(only.version)
    return pinned


def requirements() -> list[Requirement]:
    rows = [
        *PROJECT["dependencies"],
        *(row for extra in PROJECT["optional-dependencies"].values() for row in extra),
    ]
    return [row for row in map(Requirement, rows) if row.name != PROJECT["name"]]


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_pin_every_requirement_within_its_range(python, system):
    pinned = pins(python, system)
    for row in requirements():
        version = pinned[canonicalize_name(row.name)]
        assert row.specifier.contains(version), f"{row} but {version} is pinned for Python {python}"


def test_constraints_hold_nothing_but_versions():
    line = re.compile(r"#[^:]*|[a-z0-9.-]+==[\w.]+( ; [a-z_]+ (==|!=|<|>=) '[\w.]+'( (and|or) .*)?)?")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [text for text in lines if not line.fullmatch(text)] == []


@pytest.mark.parametrize("version", ["0.10.0", "0.10.2", "0.11.0"])
def test_versions_of_jax_that_deadlock_are_refused(version):
    (row,) = [row for row in requirements() if row.name == "jax" and not row.extras]
    assert not row.specifier.contains(version)


def test_the_range_of_pythons_is_what_the_classifiers_say():
    named = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert named == list(PYTHONS)
    allowed = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert [v for v in ("3.10", *PYTHONS, "3.14") if allowed.contains(f"{v}.1")] == list(PYTHONS)


def test_the_changelog_knows_the_version():
    (version,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "vigmm" / "__init__.py").read_text(), re.M)
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert version in headings


def test_every_make_target_says_what_it_does():
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", text, re.M)
    assert sorted(phony.split()) == sorted(re.findall(r"^([a-z-]+):.* ## \w", text, re.M))


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "vigmm" / "py.typed").exists()
