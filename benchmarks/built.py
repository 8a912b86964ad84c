"""Cases that were built once: the oracle of a large case takes longer than most fits.

Kept in the cache folder under a digest of the case and of the text that makes it.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from benchmarks.cases import CASES, CaseData

__all__ = ["folder_of"]

_HERE = Path(__file__).resolve().parent
_MADE = (_HERE / "cases", _HERE / "gaussians.py", _HERE.parent / "vigmm" / "data" / "synthetic.py")


def folder_of(name: str, rows: int | None, cache: Path) -> tuple[Path, CaseData]:
    """Where a case lies, which is built if it is not there, and its data.

    Raises:
        Skipped: if its data cannot be made here.
    """
    texts = [
        path.read_bytes()
        for place in _MADE
        for path in (sorted(place.glob("*.py")) if place.is_dir() else [place])
        if path.name != "__init__.py"
    ]
    digest = hashlib.sha256(b"".join([repr((CASES[name], rows)).encode(), *texts])).hexdigest()
    folder = cache / "cases" / f"{name}-{digest[:12]}"
    # The facts are written last: without them a case is what an interrupted run left.
    if not (folder / "facts.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        with threadpool_limits(1):  # small products: a second thread costs more than it does
            data = CASES[name].build(rows=rows)
        folder.mkdir(parents=True)
        data.save(folder)
    return folder, CaseData.load(folder)
