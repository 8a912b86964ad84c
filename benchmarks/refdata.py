"""Reference data beside the checkout, in ``../shared/refs``: read there, never copied, absent elsewhere."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.protocol import Array

__all__ = [
    "REAL",
    "REFS",
    "Clusters",
    "Real",
    "asterisk",
    "clusters",
    "corner",
    "missing",
    "names",
    "read_fcs",
]

REFS = Path(__file__).resolve().parent.parent.parent / "shared" / "refs"


def missing(what: str) -> str | None:
    """Why a part of the reference data cannot be read, or None where it can."""
    if (REFS / what).exists():
        return None
    return f"../shared/refs/{what} is absent: reference data lie beside the checkout and are not part of it"


@dataclass(frozen=True)
class Clusters:
    """A data set of a clustering battery.

    Args:
        name: its name.
        x: rows, noise included.
        truths: admissible labels, each an integer per row from 1; 0 is noise.
    """

    name: str
    x: Array
    truths: tuple[Array, ...]

    @property
    def true_k(self) -> int:
        """Clusters of the first truth, noise not counted."""
        return len(np.unique(self.truths[0][self.truths[0] > 0]))


def names(battery: str) -> list[str]:
    """Data sets of a battery, small numbers before large ones."""
    stems = [file.name.removesuffix(".data.gz") for file in (REFS / "clustering" / battery).glob("*.data.gz")]
    return sorted(
        stems, key=lambda stem: [(not p.isdigit(), int(p) if p.isdigit() else p) for p in stem.split("_")]
    )


def clusters(battery: str, name: str) -> Clusters:
    """One data set, every label file with it."""
    folder = REFS / "clustering" / battery
    truths = tuple(_text(file).astype(np.int64) for file in sorted(folder.glob(f"{name}.labels*.gz")))
    return Clusters(name, _text(folder / f"{name}.data.gz"), truths)


def _text(path: Path) -> Array:
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file)


def asterisk() -> tuple[Array, Array]:
    """AsteriskK8: 5,000 rows in two dimensions and which of 8 Gaussians each came from."""
    with np.load(REFS / "bnpy" / "AsteriskK8.npz") as file:
        return file["X"].astype(np.float64), file["TrueZ"].astype(np.int64).ravel()


@dataclass(frozen=True)
class Real:
    """A table without known clusters.

    Args:
        read: reads its rows, before they are standardised.
        num_components: K of the floors.
        train: mean log-likelihood per training row of EM at that K, which somebody else computed.
        test: the same, of the rows held out.
        file: what must be there, or None for data that come with scikit-learn.
    """

    read: Callable[[], Array]
    num_components: int
    train: float
    test: float
    file: str | None


def corner(real: Real, rows: int = 2_000) -> Real:
    """Every so-manyth row of it, for a look."""

    def read() -> Array:
        x = real.read()
        return x[:: max(1, len(x) // rows)]

    return replace(real, read=read)


def _skin() -> Array:
    with np.load(REFS / "large" / "skin_uci.npz") as file:
        return np.asarray(file["X"], np.float64)


def _flights() -> Array:
    with np.load(REFS / "large" / "nycflights13.npz") as file:
        return np.asarray(file["X"], np.float64)


def _china() -> Array:
    from sklearn.datasets import load_sample_image

    return np.asarray(load_sample_image("china.jpg")).reshape(-1, 3).astype(np.float64)


# The area of forward and side scatter, and the eight colours.
_CHANNELS = [1, *range(3, 12)]


def _facs() -> Array:
    # As stored. The floors were computed so: EM reaches -3.84 on these rows, and -6.80 where the file's spill
    # matrix is inverted first.
    return np.arcsinh(read_fcs(REFS / "large" / "facs_diva_test.fcs")[:, _CHANNELS] / 150.0)


def read_fcs(path: Path) -> Array:
    """Events of a list-mode FCS 3.0 file of floats.

    The header has the places of the text and the data; the text is keys and values between delimiters.
    """
    raw = path.read_bytes()
    first, last = int(raw[10:18]), int(raw[18:26])
    text = raw[first : last + 1].decode("latin-1")
    parts = text[1:].split(text[0])
    keys = dict(zip(parts[::2], parts[1::2], strict=False))
    if keys["$DATATYPE"] != "F" or keys["$MODE"] != "L":
        raise ValueError(f"{path.name}: only lists of 32-bit floats are read here")
    count, width = int(keys["$TOT"]), int(keys["$PAR"])
    order = ">f4" if keys["$BYTEORD"].startswith("4") else "<f4"
    values = np.frombuffer(raw, order, count * width, int(keys["$BEGINDATA"]))
    return values.reshape(count, width).astype(np.float64)


REAL = {
    "skin": Real(_skin, 8, -0.0840, -0.0945, "large/skin_uci.npz"),
    "flights": Real(_flights, 8, -2.2767, -2.2867, "large/nycflights13.npz"),
    "facs": Real(_facs, 10, -3.8078, -3.8514, "large/facs_diva_test.fcs"),
    "china": Real(_china, 8, 0.7364, 0.7481, None),
}
