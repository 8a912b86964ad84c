"""One fit by several Ray actors, each on a node of its own: python ray_job.py my.yaml NODES.

Ray only places the processes. Each is told where the first one is; vigmm refuses to go on with fewer than
were announced, so that no process fits its share of the rows alone.
"""

import socket
import subprocess
import sys

import ray

AGAIN = 75
"""Exit code of a process that was told to end, or that lost another one: start all of them again."""
ATTEMPTS = 20


@ray.remote(num_gpus=1)
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


def attempt(config: str, nodes: int) -> list[int]:
    """Start the processes; returns their exit codes, `AGAIN` for those that were killed or lost."""
    group = ray.util.placement_group([{"GPU": 1, "CPU": 8}] * nodes, strategy="STRICT_SPREAD")
    try:
        ray.get(group.ready())
        where = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group)
        workers = [Worker.options(scheduling_strategy=where).remote() for _ in range(nodes)]
        coordinator = ray.get(workers[0].address.remote())
        runs = [worker.fit.remote(config, coordinator, nodes, i) for i, worker in enumerate(workers)]
        return [code_of(run) for run in runs]
    except ray.exceptions.RayActorError:  # before it had begun
        return [AGAIN]
    finally:
        ray.util.remove_placement_group(group)


def code_of(run: "ray.ObjectRef") -> int:
    """Exit code of a process, once it has ended."""
    try:
        code = ray.get(run)
    except ray.exceptions.RayActorError:  # its node is gone
        return AGAIN
    return code if code >= 0 else AGAIN


def main(config: str, nodes: int) -> int:
    """Start the processes again while some end with 75 and none by an error of its own."""
    ray.init()
    for _ in range(ATTEMPTS):
        codes = attempt(config, nodes)
        errors = [code for code in codes if code not in (0, AGAIN)]
        if errors or AGAIN not in codes:
            return max(errors, default=0)
    return AGAIN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
