"""Run folders: what a run leaves on disk, and reading it back."""

from vigmm.rundir.files import appearing, plain, write_json, write_text
from vigmm.rundir.folder import CHECKPOINTS, CONFIG, MANIFEST, RunFolder, read_manifest, read_summary
from vigmm.rundir.lock import locked

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "MANIFEST",
    "RunFolder",
    "appearing",
    "locked",
    "plain",
    "read_manifest",
    "read_summary",
    "write_json",
    "write_text",
]
