"""What devices can do, by their makers or by a measurement: the only figures that a plan takes on trust."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vigmm.core.errors import ConfigError

__all__ = ["FIGURES", "Devices", "Figures", "parse_devices"]

_GIB = 2**30


@dataclass(frozen=True)
class Figures:
    """One kind of device.

    Args:
        name: what it is called here.
        title: what it is called elsewhere.
        flops: float32 operations per second, at full precision.
        bandwidth: bytes per second between memory and chip.
        memory: bytes.
        usable: share of the memory that JAX gives to arrays by default.
        link: bytes per second that a device sends to its neighbours.
        joined: the most devices that such links join.
        network: bytes per second that a device sends beyond those.
        hop: seconds that one hop of a collective takes at least.
        start: seconds that a kernel takes to start.
        step: seconds that a step takes beside its arithmetic.
        torus: whether they are joined in rows and columns, each a ring of its own.
        compiled: whose compiled programs say how much more than the least is done; None for a device whose
            `flops` are those of whole passes, measured.
        sources: where the figures are from.
    """

    name: str
    title: str
    flops: float
    bandwidth: float
    memory: float
    usable: float
    link: float
    joined: int
    network: float
    hop: float
    start: float
    step: float
    torus: bool
    compiled: str | None
    sources: tuple[str, ...]

    @property
    def limit(self) -> float:
        """Bytes that arrays may take."""
        return self.usable * self.memory


_LAUNCH = "assumed, not measured: 2 us to start a kernel, 5 us a hop of a collective"

FIGURES = {
    one.name: one
    for one in (
        Figures(
            name="h100",
            title="NVIDIA H100 SXM, 80 GB",
            flops=67e12,
            bandwidth=3.35e12,
            memory=84_978_434_048,
            usable=0.75,
            link=450e9,
            joined=8,
            network=50e9,
            hop=5e-6,
            start=2e-6,
            step=0.0,
            torus=False,
            compiled="h100",
            sources=(
                "NVIDIA H100 data sheet, SXM: FP32 67 TFLOP/s, 3.35 TB/s, NVLink 900 GB/s in both directions",
                "NVIDIA DGX H100 data sheet: 8 GPUs joined by NVLink, 400 Gbit/s of network for each",
                _LAUNCH,
            ),
        ),
        Figures(
            name="a100",
            title="NVIDIA A100 SXM, 80 GB",
            flops=19.5e12,
            bandwidth=2.039e12,
            memory=80 * _GIB,
            usable=0.75,
            link=300e9,
            joined=8,
            network=25e9,
            hop=5e-6,
            start=2e-6,
            step=0.0,
            torus=False,
            compiled="h100",
            sources=(
                "NVIDIA A100 data sheet, SXM 80 GB: FP32 19.5 TFLOP/s, 2,039 GB/s, NVLink 600 GB/s in both "
                "directions",
                "NVIDIA DGX A100 data sheet: 8 GPUs joined by NVLink, 200 Gbit/s of network for each",
                "ratios are those of programs compiled for an H100",
                _LAUNCH,
            ),
        ),
        Figures(
            name="v5e",
            title="Google Cloud TPU v5e, one chip",
            flops=197e12 / 6,
            bandwidth=819e9,
            memory=16 * _GIB,
            usable=0.98,
            link=200e9,
            joined=256,
            network=200e9,
            hop=1e-6,
            start=0.0,
            step=0.0,
            torus=True,
            compiled="v5e",
            sources=(
                "Google Cloud documentation, TPU v5e: 197 TFLOP/s in bfloat16, 16 GB at 819 GB/s, up to 256 "
                "chips with 1600 Gbit/s each",
                "JAX documentation, Matmul precision: float32 by six bfloat16 products (BF16_BF16_F32_X6)",
                "assumed, not measured: 1 us a hop of a collective",
            ),
        ),
        Figures(
            name="cpu",
            title="one core of a CPU (AMD EPYC with AVX-512)",
            flops=34e9,
            bandwidth=10e9,
            memory=math.inf,
            usable=1.0,
            link=10e9,
            joined=1 << 20,
            network=10e9,
            hop=20e-6,
            start=0.0,
            step=3e-4,
            torus=False,
            compiled=None,
            sources=(
                "benchmarks/results/kernel.md, 200,000 x 16, K = 20: 67.9 GFLOP/s of a whole pass on 2 cores",
                "benchmarks/results/streaming.md: a step of 1,024 rows takes 0.3 ms longer than its share of "
                "one of 16,384",
                "assumed, not measured: 10 GB/s to and from memory and between devices, 20 us a hop of a "
                "collective",
            ),
        ),
    )
}
"""Rows of the table of devices."""


@dataclass(frozen=True)
class Devices:
    """So many devices of one kind.

    Args:
        figures: what one can do.
        shape: how they are laid out, such as (2, 4) for a torus; the product is their number.
    """

    figures: Figures
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """As in ``v5e:2x4``."""
        return f"{self.figures.name}:{'x'.join(map(str, self.shape))}"

    def reduce_seconds(self, size: float) -> float:
        """Time of one all-reduce of so many bytes: a ring in each group of joined devices, then between them.

        On a ring of n, 2 (n - 1) / n of the bytes pass each link, in 2 (n - 1) hops.
        """
        return 2.0 * self._ring(size)

    def _ring(self, size: float) -> float:
        one = self.figures
        inner = min(self.count, one.joined)
        outer = -(-self.count // inner)
        # A torus has a ring along each of its axes, which share the bytes out among them.
        hops = sum(n - 1 for n in self.shape) if len(self.shape) > 1 else inner - 1
        seconds = (inner - 1) / inner * size / one.link + hops * one.hop
        return seconds + (outer - 1) / outer * size / inner / one.network + (outer - 1) * one.hop


def parse_devices(text: str) -> Devices:
    """Devices by name and number: ``h100``, ``h100:8`` or ``v5e:2x4``.

    Raises:
        ConfigError: for a name that is not in the table, or no number.

    Example:
        >>> parse_devices("v5e:2x4").count, parse_devices("h100").count
        (8, 1)
    """
    name, _, shape = text.strip().lower().partition(":")
    if name not in FIGURES:
        raise ConfigError(f"--devices {text}: {name!r} is not a device; choose one of {', '.join(FIGURES)}")
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape or "1"):
        raise ConfigError(f"--devices {text}: write NAME:COUNT or NAME:AxB, such as h100:8 or v5e:2x4")
    return Devices(FIGURES[name], tuple(int(n) for n in (shape or "1").split("x")))
