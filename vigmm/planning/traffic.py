"""How much more than the least a compiled step does: a table of `benchmarks/results/compile_only.json`.

The least (`vigmm.planning.steps`) is to read each row and parameter once, to write the new state once, and
two products with the distinct monomials of a row. The table says by how much the optimised program of one
step (1,000,000 rows, one device, the form of the pass that does the most) exceeds it. Nothing in it was run:
`docs/decisions/015-compile-only.md` says how it is counted. Between sizes the logarithms are interpolated
linearly in the logarithms of D and K, and beyond the smallest and largest the outermost slope goes on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["MEASURED", "METHODS", "SOURCE", "Traffic", "traffic"]

SOURCE = "benchmarks/results/compile_only.md"
METHODS = ("natural", "meanfield")

MEASURED: tuple[tuple[str, str, int, int, float, float, int, int, float], ...] = (
    # device, method, D, K, bytes and operations by the least, kernels of 100,000 and of 1,000,000 rows, and
    # the share of the peak that arithmetic reaches by the compiler's own estimate (1 where there is none)
    ("h100", "natural", 16, 16, 122.0, 1.75, 68, 123, 1.0),
    ("h100", "natural", 16, 64, 467.0, 1.75, 87, 290, 1.0),
    ("h100", "natural", 16, 512, 3540.0, 1.7, 269, 1754, 1.0),
    ("h100", "natural", 64, 16, 154.0, 2.0, 73, 290, 1.0),
    ("h100", "natural", 64, 64, 582.0, 1.94, 186, 965, 1.0),
    ("h100", "natural", 64, 512, 4290.0, 1.92, 774, 6934, 1.0),
    ("h100", "natural", 128, 16, 154.0, 2.05, 116, 522, 1.0),
    ("h100", "natural", 128, 64, 580.0, 1.99, 271, 1866, 1.0),
    ("h100", "natural", 128, 512, 4130.0, 1.96, 1448, 13768, 1.0),
    ("h100", "meanfield", 16, 16, 90.2, 1.75, 73, 127, 1.0),
    ("h100", "meanfield", 16, 64, 338.0, 1.75, 91, 296, 1.0),
    ("h100", "meanfield", 16, 512, 2440.0, 1.7, 268, 1643, 1.0),
    ("h100", "meanfield", 64, 16, 87.8, 2.0, 79, 262, 1.0),
    ("h100", "meanfield", 64, 64, 321.0, 1.94, 158, 779, 1.0),
    ("h100", "meanfield", 64, 512, 2070.0, 1.92, 718, 6438, 1.0),
    ("h100", "meanfield", 128, 16, 87.2, 2.05, 113, 477, 1.0),
    ("h100", "meanfield", 128, 64, 312.0, 1.99, 227, 1492, 1.0),
    ("h100", "meanfield", 128, 512, 1820.0, 1.96, 1198, 11318, 1.0),
    ("v5e", "natural", 16, 16, 4.31, 1.68, 428, 3293, 0.0381),
    ("v5e", "natural", 16, 64, 3.84, 1.67, 1188, 10858, 0.0423),
    ("v5e", "natural", 16, 512, 8.87, 1.67, 7150, 78243, 0.033),
    ("v5e", "natural", 64, 16, 4.95, 1.91, 1175, 10873, 0.159),
    ("v5e", "natural", 64, 64, 5.17, 1.91, 4401, 43114, 0.16),
    ("v5e", "natural", 64, 512, 5.91, 1.91, 7930, 78271, 0.199),
    ("v5e", "natural", 128, 16, 4.06, 1.96, 1872, 23593, 0.341),
    ("v5e", "natural", 128, 64, 4.19, 1.95, 7146, 86090, 0.28),
    ("v5e", "natural", 128, 512, 5.24, 1.95, 8736, 86095, 0.438),
    ("v5e", "meanfield", 16, 16, 4.27, 1.68, 420, 2845, 0.0351),
    ("v5e", "meanfield", 16, 64, 3.91, 1.67, 1127, 10893, 0.0395),
    ("v5e", "meanfield", 16, 512, 7.43, 1.67, 8744, 86091, 0.0496),
    ("v5e", "meanfield", 64, 16, 5.0, 1.91, 1093, 9914, 0.151),
    ("v5e", "meanfield", 64, 64, 5.07, 1.91, 3635, 39229, 0.167),
    ("v5e", "meanfield", 64, 512, 5.28, 1.91, 7189, 78304, 0.191),
    ("v5e", "meanfield", 128, 16, 4.06, 1.96, 1880, 21643, 0.331),
    ("v5e", "meanfield", 128, 64, 4.39, 1.95, 7177, 86128, 0.344),
    ("v5e", "meanfield", 128, 512, 641.0, 1.95, 8773, 86131, 0.292),
)

_FEW, _MANY = 100_000, 1_000_000


@dataclass(frozen=True)
class Traffic:
    """What a compiled step does.

    Args:
        bytes: by the least.
        flops: by the least.
        few: kernels of a step of 100,000 rows.
        many: kernels of one of 1,000,000.
        busy: share of the peak that its arithmetic reaches.
        within: whether the size is among those that were compiled, rather than beyond them.
    """

    bytes: float
    flops: float
    few: float
    many: float
    busy: float
    within: bool

    def kernels(self, rows: float) -> float:
        """Kernels that a step of so many rows starts: some at any rate, and some for every tile."""
        return max(self.few + (self.many - self.few) * (rows - _FEW) / (_MANY - _FEW), min(self.few, 60.0))


def traffic(device: str, method: str, dim: int, components: int) -> Traffic:
    """What the compiled step of a method does on a device.

    Args:
        device: what it is compiled for.
        method: a row of `METHODS`.
        dim: D.
        components: K.

    Example:
        >>> round(traffic("h100", "natural", 16, 64).bytes)
        467
    """
    table = {row[2:4]: row[4:] for row in MEASURED if row[:2] == (device, method)}
    dims, counts = (sorted({key[i] for key in table}) for i in (0, 1))
    along, across = _between(dims, dim), _between(counts, components)

    def mixed(column: int) -> float:
        total = sum(one * other * math.log(table[d, k][column]) for d, one in along for k, other in across)
        return math.exp(total)

    within = dims[0] <= dim <= dims[-1] and counts[0] <= components <= counts[-1]
    return Traffic(
        bytes=max(1.0, mixed(0)),
        flops=max(1.0, mixed(1)),
        few=mixed(2),
        many=mixed(3),
        busy=min(1.0, mixed(4)),
        within=within,
    )


def _between(sizes: list[int], size: int) -> list[tuple[int, float]]:
    """The two sizes that `size` lies between or beyond, with their weights."""
    if size in sizes:
        return [(size, 1.0)]
    i = min(max(sum(one < size for one in sizes) - 1, 0), len(sizes) - 2)
    low, high = sizes[i], sizes[i + 1]
    share = (math.log(size) - math.log(low)) / (math.log(high) - math.log(low))
    return [(low, 1 - share), (high, share)]
