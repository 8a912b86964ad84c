"""What the command's exit codes mean, in one place: the help prints it and docs/cli.md repeats it."""

from __future__ import annotations

__all__ = ["ENVIRONMENT", "EXIT_CODES", "epilog"]

EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "doctor found something that will not work; with a traceback: a bug",
    2: "a wrong option or configuration",
    3: "data that cannot be used",
    4: "a result that cannot be written",
    5: "a run folder or model that is missing, unfinished or damaged",
    6: "the run went wrong, and says how; what there is was written",
    75: "ended from outside, or a process was lost: run the same command again",
    130: "interrupted by hand",
}

ENVIRONMENT: dict[str, str] = {
    "NO_COLOR": "if not empty, no colours",
    "VIGMM_CACHE": "folder of compiled programs, or off",
    "VIGMM_COORDINATOR": "see vigmm fit --coordinator",
    "VIGMM_MEET_SECONDS": "how long processes of a run wait for each other",
    "VIGMM_PROCESSES": "see vigmm fit --processes",
    "VIGMM_PROCESS_ID": "see vigmm fit --process-id",
}


def epilog() -> str:
    """The end of ``vigmm --help``."""
    codes = [f"  {code:<5}{meaning}" for code, meaning in EXIT_CODES.items()]
    names = [f"  {name:<20}{meaning}" for name, meaning in ENVIRONMENT.items()]
    # The first character of a paragraph that is not to be wrapped.
    return "\n".join(["\b", "Exit codes:", *codes, "", "\b", "Environment:", *names])
