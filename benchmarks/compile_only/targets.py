"""The devices that are compiled for, and what their makers say they can do.

Nothing here touches a device: a topology is a description that the compiler is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["TARGETS", "Target"]

# The text form of XLA's GpuTargetConfigProto: what the driver says of this device.
_H100_CONFIG = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: 3352000000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84978434048
}
platform_name: "CUDA"
runtime_version { major: 12 minor: 8 patch: 0 }
dnn_version_info { major: 9 minor: 7 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


@dataclass(frozen=True)
class Target:
    """A device and the environment that can compile for it.

    Args:
        name: what it is called here.
        title: what it is called elsewhere.
        plugin: the environment in `environments.PLUGINS`.
        settings: environment variables of the process that compiles.
        flops: multiply-adds of float32 at full precision count two, per second.
        bandwidth: bytes per second between device memory and chip.
        link: bytes per second that one device sends to the others.
        clock: cycles per second, where the compiler estimates cycles; None where it does not.
        sources: where the figures are published.
    """

    name: str
    title: str
    plugin: str
    settings: dict[str, str]
    flops: float
    bandwidth: float
    link: float
    clock: float | None
    sources: tuple[str, ...]
    on_chip: Callable[[int], bool]

    def devices(self, count: int) -> list[Any]:
        """Descriptions of `count` devices that need not exist."""
        from jax.experimental import topologies

        if self.plugin == "tpu":
            found = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
        else:
            shape = f"1x1x{count}"
            found = topologies.get_topology_desc(
                platform="cuda", topology_name=self.name, target_config=_H100_CONFIG, topology=shape
            )
        return list(found.devices)[:count]


TARGETS = {
    "h100": Target(
        name="h100",
        title="NVIDIA H100 SXM, 80 GB",
        plugin="cuda",
        # Choosing kernels by timing them would need the device. The plugin must not look for one either.
        settings={
            "XLA_FLAGS": "--xla_gpu_autotune_level=0",
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        },
        flops=67e12,
        bandwidth=3.35e12,
        link=450e9,
        clock=None,
        sources=(
            "NVIDIA H100 Tensor Core GPU data sheet, SXM: FP32 67 TFLOP/s, 3.35 TB/s, "
            "NVLink 900 GB/s in both directions together",
        ),
        on_chip=lambda space: False,
    ),
    "v5e": Target(
        name="v5e",
        title="Google Cloud TPU v5e, one chip",
        plugin="tpu",
        settings={
            "TPU_SKIP_MDS_QUERY": "1",
            # No chip is held, so the lock file of another process, maybe a dead one's, is no reason to stop.
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        },
        # float32 at full precision is six passes of bfloat16 products.
        flops=197e12 / 6,
        bandwidth=819e9,
        link=200e9,
        # 197e12 flops / (4 matrix units x 128 x 128 x 2 flops a cycle).
        clock=1.5e9,
        sources=(
            "Google Cloud documentation, TPU v5e: 197 TFLOP/s in bfloat16, 819 GB/s, "
            "interconnect 1600 Gbit/s per chip, four matrix units",
            "JAX documentation, Matmul precision: float32 by six bfloat16 products (BF16_BF16_F32_X6)",
        ),
        # Vector and scalar memories are on the chip.
        on_chip=lambda space: space != 0,
    ),
}
