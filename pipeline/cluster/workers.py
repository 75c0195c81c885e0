"""Sources of Dask workers: processes of this machine, or a running scheduler. Slurm: `pipeline.cluster.slurm`."""

import logging
import os
import sys
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_specs.errors import UserError

ALLOWED_DEATHS = 3  # a task that loses more workers is taken for the cause
# promise: scheduler-workers-dashboard-listen-2
LOOPBACK = "127.0.0.1"  # local workers cannot be reached from the network
CONNECT_SECONDS = 20
STOP_SECONDS = 60
WORKER_GB = 1.0  # memory of a worker process with its renderer, codec and chunk; measured 0.5 to 0.9
SETTINGS = {
    "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
    "distributed.admin.system-monitor.gil.enabled": False,
    # These cost more than the clips on a busy machine: a profiler that interrupts the worker a hundred times a second,
    # and memory returned to the system after each array, then fetched and zeroed for the next.
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    # The event loop measures its delay fifty times a second by default and takes the interpreter from the clips.
    "distributed.admin.tick.interval": "1s",
    "distributed.deploy.lost-worker-timeout": "30s",  # time to restart a worker on a busy machine
}

# The same for workers started from a shell, where a variable can be set but not unset: arrays remain on the heap.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # the largest that glibc takes
}


class Workers(ABC):
    """A source of workers. `patience_s`: seconds that a run may be without any before it stops."""

    patience_s: float = 60
    lost = "the Dask scheduler is gone"  # message for a lost scheduler

    @abstractmethod
    def start(self, stack: ExitStack, gpu: bool) -> Any:
        """Start workers and return their distributed.Client; everything that ends with the run is pushed on `stack`.

        With `gpu`, workers of the separate GPU cluster.
        """

    @abstractmethod
    def expected(self) -> int | None:
        """Return the number of workers to come, None if only the scheduler knows."""

    @abstractmethod
    def memory_hint(self) -> str:
        """Return how much memory a worker has and which option changes it."""

    def restart_missing(self, client: Any) -> None:  # noqa: B027  (optional)
        """Restart workers that are lost for good; called every second or so while no task completes."""

    def scripts(self) -> str:
        """Return the job scripts that would be submitted; empty where workers are not jobs."""
        return ""

    def has_separate_gpu_cluster(self) -> bool:
        """Return whether GPU workers have a scheduler of their own."""
        return False


def connect(target: Any, security: Any = None) -> Any:
    """Return a distributed.Client of a cluster or an address, without changing this process's defaults."""
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # faults are reported as UserError
    return Client(target, timeout=CONNECT_SECONDS, set_as_default=False, security=security)


def stop(cluster: Any) -> None:
    """Stop local workers; those that do not stop within `STOP_SECONDS` end with this process."""
    try:
        cluster.close(timeout=STOP_SECONDS)
    except TimeoutError:
        print(f"local workers did not stop within {STOP_SECONDS} s; they end with this command", file=sys.stderr)


@dataclass(frozen=True)
class LocalWorkers(Workers):
    """`processes` single-thread processes on this machine; None: one per core, as far as memory allows."""

    processes: int | None = None
    patience_s: float = 180

    def start(self, stack: ExitStack, gpu: bool) -> Any:
        import dask
        from distributed import LocalCluster

        count, fit = self.expected(), most_by_memory()
        if count > max(fit, 1):
            raise UserError(
                f"WORKERS={count} need about {count * WORKER_GB:.0f} GB of memory, this machine has "
                f"{memory_gb():.1f} GB; use WORKERS={max(fit, 1)} or fewer"
            )
        stack.enter_context(dask.config.set(SETTINGS))
        cluster = LocalCluster(  # not entered: Dask waits for ever for a worker that restarts while it should stop
            n_workers=count,
            threads_per_worker=1,
            memory_limit=int(memory_gb() * 1e9 / count),
            processes=True,
            host=LOOPBACK,
            # promise: scheduler-workers-dashboard-listen-3
            dashboard_address=f"{LOOPBACK}:0",
            # promise: scheduler-workers-dashboard-listen-4
            worker_dashboard_address=f"{LOOPBACK}:0",
            silence_logs=logging.CRITICAL,
        )
        stack.callback(stop, cluster)
        return stack.enter_context(connect(cluster))

    def expected(self) -> int:
        return self.processes or max(1, min(cores(), most_by_memory()))

    def memory_hint(self) -> str:
        count = self.expected()
        return f"{memory_gb() / count:.1f} GB for each of {count} WORKERS; fewer WORKERS have more each"

    def restart_missing(self, client: Any) -> None:
        # Dask's own restart does not replace a worker that dies during its start, as before a task that kills it.
        client.cluster.scale(self.expected())


@dataclass(frozen=True)
class Tls:
    """Files (PEM) for encrypted connections: the authority, our certificate and its key."""

    ca: Path
    certificate: Path
    key: Path

    def security(self) -> Any:
        """Return Dask's settings, with the same files for every role.

        Raises:
            UserError: a file is missing.
        """
        from distributed.security import Security

        for name, path in (("TLS_CA", self.ca), ("TLS_CERT", self.certificate), ("TLS_KEY", self.key)):
            if not path.is_file():
                raise UserError(f"{name}={path} is not a file; give the PEM file that your scheduler was started with")
        roles = {}
        for role in ("scheduler", "worker", "client"):
            roles[f"tls_{role}_cert"] = str(self.certificate.resolve())
            roles[f"tls_{role}_key"] = str(self.key.resolve())
        return Security(tls_ca_file=str(self.ca.resolve()), require_encryption=True, **roles)


@dataclass(frozen=True)
class RemoteWorkers(Workers):
    """Workers of the Dask scheduler at `address` (tcp:// or tls://), best started with `ENVIRONMENT`."""

    address: str
    tls: Tls | None = None

    @property
    def lost(self) -> str:  # type: ignore[override]
        """Message for a lost scheduler."""
        return f"the Dask scheduler at SCHEDULER={self.address} is gone"

    def start(self, stack: ExitStack, gpu: bool) -> Any:
        if self.address.startswith("tls://") != (self.tls is not None):
            raise UserError(
                f"SCHEDULER={self.address} and the TLS options do not match: an address that starts with tls:// "
                f"needs TLS_CA=, TLS_CERT= and TLS_KEY=, any other needs none of them"
            )
        security = self.tls.security() if self.tls else None
        try:
            return stack.enter_context(connect(self.address, security))
        except (OSError, ValueError) as error:
            raise UserError(
                f"no Dask scheduler answers at SCHEDULER={self.address} ({error}); start one with `dask scheduler`, "
                f"give its address as tcp://host:port, or omit SCHEDULER to use local processes"
            ) from None

    def expected(self) -> None:
        return None

    def memory_hint(self) -> str:
        return f"a worker needs about {WORKER_GB:.0f} GB: dask worker --memory-limit"


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float:
    """Return the memory of this machine or container in GB."""
    from distributed.system import memory_limit

    return memory_limit() / 1e9


def most_by_memory() -> int:
    """Return the number of workers for which this machine has memory."""
    return int(memory_gb() / WORKER_GB)
