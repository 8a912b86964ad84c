"""One fit by several Ray tasks, each on a node of its own: python ray_job.py my.yaml NODES.

Ray only places the processes. Each is told where the first one is; vigmm refuses to go on with fewer than
were announced, so that no task fits its share of the rows alone.
"""

import socket
import subprocess
import sys

import ray


@ray.remote(num_gpus=1, max_retries=0)
class Worker:
    """One process of the run."""

    def address(self) -> str:
        """Where this node can be reached, and a free port there."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"

    def fit(self, config: str, coordinator: str, processes: int, index: int) -> int:
        """Run the command; returns its exit code."""
        words = ["vigmm", "fit", config, "--coordinator", coordinator]
        words += ["--processes", str(processes), "--process-id", str(index)]
        return subprocess.run(words, check=False).returncode


def main(config: str, nodes: int) -> int:
    """Start the processes again as long as they end with 75: the run goes on from its last checkpoint."""
    ray.init()
    while True:
        group = ray.util.placement_group([{"GPU": 1, "CPU": 8}] * nodes, strategy="STRICT_SPREAD")
        ray.get(group.ready())
        where = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group)
        workers = [Worker.options(scheduling_strategy=where).remote() for _ in range(nodes)]
        coordinator = ray.get(workers[0].address.remote())
        runs = [worker.fit.remote(config, coordinator, nodes, i) for i, worker in enumerate(workers)]
        codes = ray.get(runs)
        ray.util.remove_placement_group(group)
        if 75 not in codes:
            return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
