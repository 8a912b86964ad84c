"""The command line. What a command needs is imported when it runs, so that help is there at once."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command that ``sys.argv`` asks for; ends in SystemExit."""
    from vigmm.cli.app import app
    from vigmm.cli.cache import quiet_loader

    quiet_loader()
    app(prog_name="vigmm")
