"""Compiled programs kept between runs: where, how damage is mended, and that results stay the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.cli.conftest import SMALL, write_table
from vigmm.cli.cache import FOLDER, compiled_programs, folder

ROOT = Path(__file__).resolve().parents[2]


def fresh(*command, **environment):
    """A process without the settings of the tests' own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "TF_CPP", "VIGMM_"))}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True, text=True, timeout=300, cwd=ROOT, env={**kept, **environment},
    )  # fmt: skip


SMALLEST = textwrap.dedent(
    """
    import warnings
    from vigmm.cli.cache import compiled_programs, quiet_loader
    quiet_loader()
    warnings.simplefilter("error")
    import jax
    counted = []
    jax.monitoring.register_event_listener(lambda event, **_: counted.append(event.rsplit("/")[-1]))
    with compiled_programs():
        value = float(jax.jit(lambda x: x * 2 + 1)(20.5))
    found, written = (counted.count(name) for name in ("cache_hits", "cache_misses"))
    print(value, found, written, jax.config.jax_compilation_cache_dir)
    """
)


def smallest(**environment):
    """Value, programs found and programs written by the smallest of programs; nothing may be said."""
    done = fresh("-c", SMALLEST, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    value, hits, misses, *after = done.stdout.split()
    assert value == "42.0"
    return int(hits), int(misses), *after


@pytest.mark.parametrize("off", ["off", "OFF", "0", "", "none"])
def test_it_can_be_switched_off(off, monkeypatch):
    monkeypatch.setenv(FOLDER, off)
    assert folder() is None


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER, str(tmp_path / "mine"))
    assert folder() == tmp_path / "mine"
    monkeypatch.delenv(FOLDER)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert folder() == tmp_path / "cache" / "vigmm" / "programs"
    for empty in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", empty)
        assert folder() == tmp_path / ".cache" / "vigmm" / "programs"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert folder() == tmp_path / "Library" / "Caches" / "vigmm" / "programs"


@pytest.mark.usefixtures("own_programs")
def test_settings_of_the_process_come_back(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    with compiled_programs():
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    assert [getattr(jax.config, name) for name in names] == before
    with compiled_programs(wanted=False):
        assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.usefixtures("own_programs")
def test_the_oldest_programs_go_first(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setattr("vigmm.cli.cache._MOST_BYTES", 250)
    for age, name in enumerate("abcd"):
        path = tmp_path / f"{name}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (time.time() - age, time.time() - age))
    (tmp_path / "notes").write_bytes(bytes(1000))
    with compiled_programs():
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a-cache", "b-cache", "notes"]


def test_programs_are_found_again_without_a_word_and_damage_is_mended(tmp_path):
    programs = tmp_path / "programs"
    assert smallest(VIGMM_CACHE=str(programs)) == (0, 1, "None")
    # As the child of a process that has imported JAX.
    assert smallest(VIGMM_CACHE=str(programs), TF_CPP_MIN_LOG_LEVEL="1") == (1, 0, "None")
    (kept,) = programs.glob("*-cache")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    assert smallest(VIGMM_CACHE=str(programs)) == (0, 1, "None")
    assert smallest(VIGMM_CACHE=str(programs)) == (1, 0, "None")


def test_no_folder_no_harm(tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert smallest(VIGMM_CACHE=str(tmp_path / "file" / "programs")) == (0, 0, "None")
    # A folder in place of the entry that is to be written.
    programs = tmp_path / "programs"
    smallest(VIGMM_CACHE=str(programs))
    (kept,) = programs.glob("*-cache")
    kept.unlink()
    (kept / "in the way").mkdir(parents=True)
    assert smallest(VIGMM_CACHE=str(programs))[0] == 0


def test_a_folder_that_jax_was_given_stays(tmp_path):
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    given = {"JAX_COMPILATION_CACHE_DIR": str(theirs), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    assert smallest(VIGMM_CACHE=str(ours), **given) == (0, 1, str(theirs))
    assert not ours.exists()


@pytest.mark.usefixtures("own_programs")
def test_the_folder_of_the_tests_mends_nothing_and_harms_nothing(tmp_path):
    """As tests run: a whole entry is loaded, half an entry and one of another program are not."""
    counted = []

    def count(event, **_):
        counted.append(event.rsplit("/")[-1])

    def value(offset):
        counted.clear()
        # Another function each time, which JAX has to look up.
        found = float(jax.jit(lambda x: x * 2 + offset)(np.float32(20.5)))
        return found, counted.count("cache_hits")

    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.monitoring.register_event_listener(count)
    try:
        assert value(1) == (42.0, 0)
        assert value(1) == (42.0, 1)
        assert value(2) == (43.0, 0)
        for kept in tmp_path.glob("*-cache"):
            kept.write_bytes(kept.read_bytes()[:-20])
        assert value(1) == (42.0, 0)
        assert value(2) == (43.0, 0)
    finally:
        jax.monitoring.unregister_event_listener(count)


@pytest.mark.slow  # four processes, each of which compiles or loads a whole fit
def test_a_second_fit_compiles_nothing_and_is_the_same_to_the_bit(tmp_path):
    write_table(tmp_path / "plants.csv")
    programs = tmp_path / "programs"

    def fit(name, *more, cache):
        run, notes = tmp_path / name, tmp_path / f"{name}.json"
        job = tmp_path / f"{name}.yaml"
        job.write_text(SMALL.format(path=tmp_path / "plants.csv", folder=run))
        words = ("fit", job, "--quiet", "--set", "output.plots=false", *more)
        done = fresh("-m", "benchmarks.startup_worker", notes, 0.0, *words, VIGMM_CACHE=cache)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        told = json.loads(notes.read_text())
        hits = [span["hit"] for span in told["spans"] if span["kind"] == "compile"]
        return (run / "model.safetensors").read_bytes(), hits, told["written"]

    model, hits, written = fit("none", cache="off")
    assert (sum(hits), written) == (0, 0)
    cold, hits, written = fit("cold", cache=str(programs))
    assert written > 10
    # The same program may be asked for twice in one run, but hardly any is.
    assert written + sum(hits) == len(hits)
    warm, again, written = fit("warm", cache=str(programs))
    assert (all(again), len(again), written) == (True, len(hits), 0)
    switched, hits, written = fit("switched", "--set", "cache=false", cache=str(programs))
    assert (sum(hits), written) == (0, 0)
    assert model == cold == warm == switched
