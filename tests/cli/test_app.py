"""The command line as a whole: exit codes, help, completion, colours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from vigmm.cli import codes
from vigmm.cli.app import app
from vigmm.cli.exporting import EXPORTS
from vigmm.cli.fitting import EXIT_FAILED, EXIT_INTERRUPTED
from vigmm.core.errors import VigmmError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)


def errors(of=VigmmError):
    return {of, *(one for below in of.__subclasses__() for one in errors(below))}


def test_every_exit_code_is_in_the_table():
    used = {error.exit_code for error in errors()} | {0, EXIT_FAILED, EXIT_INTERRUPTED}
    assert used == set(codes.EXIT_CODES)


def test_the_page_says_the_same_as_the_table():
    page = PAGE.read_text()
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", page, re.M))
    assert rows == {str(code): meaning for code, meaning in codes.EXIT_CODES.items()}
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+) \|$", page, re.M))
    assert rows == codes.ENVIRONMENT
    assert sorted(re.findall(r"^## vigmm (\w+)$", page, re.M)) == COMMANDS
    for name in EXPORTS:
        assert f"`{name}`" in page


def help_of(*command):
    from typer.testing import CliRunner

    return CliRunner().invoke(app, [*command, "--help"], prog_name="vigmm").stdout


def test_the_help_ends_with_exit_codes_a_line_each():
    lines = help_of().splitlines()
    for code, meaning in codes.EXIT_CODES.items():
        assert f"    {code:<5}{meaning}" in lines
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_summary_in_a_line(command):
    (line,) = re.findall(rf"^  {command} +(.+)$", help_of(), re.M)
    assert line.endswith(".")
    assert "..." not in line
    assert line in help_of(command).replace("\n  ", " ")


def test_formats_of_export_are_in_its_help():
    for name in EXPORTS:
        assert re.search(rf"\b{name}\b", help_of("export"))


def complete(*words):
    """What the shell offers for the last of the words."""
    environment = {
        **os.environ, "_VIGMM_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "from vigmm.cli import main; main(); "], capture_output=True, text=True,
        timeout=60, env=environment,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_completes_commands_and_options():
    assert complete("vigmm", "in") == ["init", "inspect"]
    assert "--overwrite" in complete("vigmm", "fit", "--o")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(vigmm, shell, monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setattr("typer._completion_shared._get_shell_name", lambda: shell)
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    monkeypatch.delenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION")
    done = vigmm("--show-completion")
    assert done.exit_code == 0
    assert "_VIGMM_COMPLETE" in done.stdout


@pytest.mark.parametrize(("value", "coloured"), [(None, True), ("", True), ("1", False)])
def test_no_color(monkeypatch, capsys, value, coloured):
    """On a terminal; elsewhere there are no colours in any case."""
    from vigmm.cli.complaints import complain
    from vigmm.cli.tables import page

    monkeypatch.delenv("NO_COLOR", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(typer, "echo", lambda text, err: sys.stderr.write(text))
    complain("what is wrong")
    assert ("\x1b[" in capsys.readouterr().err) is coloured
    page().print("words", style="red")
    assert ("\x1b[31m" in capsys.readouterr().out) is coloured
