"""Settings that every test runs under, and the fixtures that every folder shares.

The settings are global to the process, and they are made here, before anything starts a JAX backend:
four CPU devices, so that sharding is tested on any machine, and the strictest promotion rules, so that
no float64 and no accidental broadcast hides in the library. Users get neither from importing vigmm.
"""

from __future__ import annotations

import gc
import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

# One BLAS thread: XLA has its own pool, and two pools fight over the same cores. Read when NumPy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# Commands would keep compiled programs in the home of whoever runs the tests.
os.environ["VIGMM_CACHE"] = os.environ.get("VIGMM_TEST_PROGRAMS") or "off"
# As in vigmm.cli.cache.quiet_loader; read when JAX is imported. 1 is what JAX sets.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if os.environ.get("VIGMM_TEST_PROGRAMS") else "1")

import hypothesis
import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from vigmm.cli.cache import shorten

# Compiler flags that shorten compilation were tried and left out: at most a third faster on the step of a
# small mixture, and the tests would not run the code that users run.
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# A folder of compiled programs that the processes of the tests share and later runs find again, where `make`
# names one. JAX finds them by program, versions, flags and processor: what runs is what would be compiled.
PROGRAMS = os.environ.get("VIGMM_TEST_PROGRAMS", "")
if PROGRAMS:
    jax.config.update("jax_compilation_cache_dir", PROGRAMS)
    # Small programs too: most are.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

# The same examples on every run and machine; no deadline, because the first example compiles.
hypothesis.settings.register_profile("vigmm", deadline=None, derandomize=True, database=None, max_examples=30)
hypothesis.settings.load_profile("vigmm")

ROOT = Path(__file__).resolve().parent.parent

# A folder stands for a marker, so that no file in it can forget the marker.
FOLDER_MARKERS = {"contracts": "contract", "peers": "peers", "e2e": "e2e"}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Bring the folder of programs below its largest size, once for all workers."""
    if PROGRAMS and not hasattr(session.config, "workerinput"):
        Path(PROGRAMS).mkdir(parents=True, exist_ok=True)
        shorten(Path(PROGRAMS))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by the folder it is in, and one that asks for the reference data."""
    for folder in item.path.parts:
        if folder in FOLDER_MARKERS and item.path.is_relative_to(ROOT / "tests" / folder):
            item.add_marker(FOLDER_MARKERS[folder])
    if "refs" in getattr(item, "fixturenames", ()):
        item.add_marker("refs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests that may take long come first, so that no worker is left alone with one at the end."""
    longest: dict[Path, float] = {}
    for item in items:
        marker = item.get_closest_marker("timeout")
        allowed = float(marker.args[0]) if marker else 0.0
        longest[item.path] = max(allowed, longest.get(item.path, 0.0))
    items.sort(key=lambda item: -longest[item.path])


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def with_programs() -> dict[str, str]:
    """The environment for a process of a test that is no command, and would compile everything itself."""
    shared = {"JAX_COMPILATION_CACHE_DIR": PROGRAMS, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return {**os.environ, **(shared if PROGRAMS else {})}


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def refs() -> Path:
    """The folder of reference data; the test is skipped where it is absent."""
    path = ROOT.parent / "shared" / "refs"
    if not path.is_dir():
        pytest.skip("needs the reference data in ../shared/refs beside the checkout, which is not here")
    return path


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """An S3 server on this machine: the options that lead to it, as the end of an address."""
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "a")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"?region=us-east-1&scheme=http&endpoint_override={host}:{port}"
        server.stop()


@pytest.fixture
def own_programs() -> Iterator[None]:
    """Run a test of the kept programs as if the tests kept none."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    kept = {name: getattr(jax.config, name) for name in names}
    jax.config.update(names[0], None)
    compilation_cache.reset_cache()
    yield
    for name, value in kept.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def x64() -> Iterator[None]:
    """Run the test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[np.dtype]:
    """Run the test in single and in double precision, and tell it which."""
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


# Linux lets a process have 65,530 memory mappings (vm.max_map_count), and a compiled program takes several: a
# process that reaches the limit crashes inside the compiler.
_MOST_MAPPINGS = 25_000
_MAPPINGS = Path("/proc/self/maps")
_EVERY = 10
_finished = itertools.count(1)


@pytest.fixture(autouse=True)
def few_compiled_programs() -> Iterator[None]:
    """Forget compiled programs when there are very many; whatever is used again is compiled again."""
    yield
    if next(_finished) % _EVERY == 0 and _MAPPINGS.exists():
        with _MAPPINGS.open() as lines:
            count = sum(1 for _ in lines)
        if count > _MOST_MAPPINGS:
            jax.clear_caches()
            gc.collect()
