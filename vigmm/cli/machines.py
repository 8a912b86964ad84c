"""One run by several processes: how they find each other, and what becomes of them when one is gone.

Slurm and Open MPI say in the environment how many tasks there are; JAX knows how to read it. Elsewhere (a
Kubernetes Job, machines by hand) each process is told by options or by the environment variables of `app`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping

import typer

from vigmm.core.errors import ConfigError, VigmmError
from vigmm.core.processes import ALONE, Group

__all__ = ["EXIT_AGAIN", "Machines", "PeerLost", "joined", "tasks"]

EXIT_AGAIN = 75
_HEARTBEAT = 30
_LEAVING = 2.0
# Of a Slurm step, for a batch script that starts none has a number of tasks too.
_SCHEDULERS = {"SLURM_STEP_NUM_TASKS": "SLURM_PROCID", "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK"}
# What the collectives and the service of JAX say when the other end is gone.
_GONE = ("gloo", "connection", "heartbeat", "unavailable", "coordination", "socket", "peer", "nccl")


class PeerLost(VigmmError):
    """Another process of the run is gone."""

    exit_code = EXIT_AGAIN


@dataclasses.dataclass(frozen=True)
class Machines:
    """What a process was told of the others.

    Args:
        coordinator: address and port of the first process, as the others reach it.
        processes: how many there are.
        process: which of them this is, from 0.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None

    def several(self, environment: Mapping[str, str] = os.environ) -> bool:
        """Whether there is more than one.

        Raises:
            ConfigError: if only a part was told.
        """
        told = [self.coordinator is not None, self.processes is not None, self.process is not None]
        if any(told) and self.processes != 1:
            if not all(told):
                raise ConfigError(
                    "of --coordinator, --processes and --process-id all three are needed, or none where "
                    "Slurm or Open MPI starts the processes"
                )
            return True
        if self.processes == 1:
            return False
        return any(count.isdigit() and int(count) > 1 for _, count in tasks(environment))


def tasks(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Number of this process and of all, by each scheduler that says so.

    Example:
        >>> tasks({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "3"})
        [('3', '8')]
    """
    told = [(environment.get(rank), environment.get(count)) for count, rank in _SCHEDULERS.items()]
    return [(rank, count) for rank, count in told if rank and count]


@contextlib.contextmanager
def joined(machines: Machines) -> Iterator[Group]:
    """The processes of this run, met; a loss of one of them is an error that says what to do.

    Raises:
        ConfigError: if the processes cannot find each other.
        PeerLost: if another process ended before this one.
    """
    if not machines.several():
        yield ALONE
        return
    patience = _meet_seconds()
    # A pod has the environment of a cluster that JAX would ask; a scheduler also says which GPU is whose.
    told = "deactivate" if machines.coordinator and not tasks(os.environ) else None
    import jax

    # Whoever loses a peer is told by an exception, and not ended in the middle of a word.
    jax.config.update("jax_enable_recoverability", True)  # type: ignore[no-untyped-call]
    # Collectives between CPUs; accelerators have their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # type: ignore[no-untyped-call]
    try:
        jax.distributed.initialize(
            machines.coordinator,
            machines.processes,
            machines.process,
            heartbeat_timeout_seconds=_HEARTBEAT,
            cluster_detection_method=told,
            initialization_timeout=patience,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the processes of this run cannot find each other: {str(error).splitlines()[0]}. Check "
            "--coordinator (an address that all machines reach, and a free port), --processes, --process-id"
        ) from error
    group = Group(jax.process_index(), jax.process_count())
    if machines.processes is not None and group.count != machines.processes:
        raise ConfigError(f"{machines.processes} processes were announced, and {group.count} came")
    try:
        yield group
    except VigmmError as error:
        _end(error)
    except typer.Exit:
        raise
    except Exception as error:
        gone = isinstance(error, RuntimeError | ValueError) and any(w in str(error).lower() for w in _GONE)
        if not gone:
            traceback.print_exc()
        _end(
            PeerLost(_words(group))
            if gone
            else VigmmError(f"process {group.index} ends by an error of vigmm")
        )
    if group.first:
        # It has the service that the others take leave of, and nobody waits for anybody there.
        time.sleep(_LEAVING)
    jax.distributed.shutdown()  # type: ignore[no-untyped-call]


def _meet_seconds() -> int:
    told = os.environ.get("VIGMM_MEET_SECONDS", "300")
    if not told.isdecimal() or int(told) < 1:
        raise ConfigError(f"VIGMM_MEET_SECONDS must be a whole number of seconds, got {told!r}")
    return int(told)


def _words(group: Group) -> str:
    return (
        f"another process of this run is gone, so process {group.index} of {group.count} ends too: run the "
        "same command again on all machines, and it goes on from the last checkpoint"
    )


def _end(error: VigmmError) -> None:
    """End at once, so that the others learn of it from their connections.

    The usual way out leads through a barrier, at which all would wait for each other.
    """
    typer.echo(f"vigmm: {error}", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(error.exit_code)
