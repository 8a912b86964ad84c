"""Run folders: what a run leaves on disk, and reading it back."""

from vigmm.rundir.files import appearing, plain, write_json, write_text
from vigmm.rundir.folder import CONFIG, MANIFEST, RunFolder, read_manifest

__all__ = [
    "CONFIG",
    "MANIFEST",
    "RunFolder",
    "appearing",
    "plain",
    "read_manifest",
    "write_json",
    "write_text",
]
