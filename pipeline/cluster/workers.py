"""Sources of Dask workers: processes on this machine, or a running scheduler. See also `pipeline.cluster.slurm`."""

import logging
import os
import sys
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_specs.errors import UserError
from data_specs.strict import StrictModel

ALLOWED_DEATHS = 3  # workers that may die on a task before it counts as the cause
# promise: scheduler-workers-dashboard-listen-2
LOOPBACK = "127.0.0.1"  # local workers cannot be reached from the network
CONNECT_SECONDS = 20
STOP_SECONDS = 60
WORKER_GB = 1.0  # memory of a worker process with renderer, codec and chunk; 0.5 to 0.9 were measured
SETTINGS = {
    "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
    "distributed.admin.system-monitor.gil.enabled": False,
    # On a busy machine these cost more than rendering: a profiler that interrupts the worker a hundred times a second,
    # and memory that is returned to the system after each array, then fetched and zeroed for the next.
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    # By default the event loop measures its delay fifty times a second, each time interrupting the computation.
    "distributed.admin.tick.interval": "1s",
    "distributed.deploy.lost-worker-timeout": "30s",  # time to restart a worker on a busy machine
}

# The same for workers that are started from a shell, where a variable can be set but not unset: arrays stay on the
# heap.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # the largest that glibc takes
}


class Workers(ABC):
    """A source of workers. A run stops when it has had no worker for `patience_s` seconds."""

    patience_s: float = 60
    lost = "the Dask scheduler is gone"  # message when the connection to the scheduler is lost

    @abstractmethod
    def start(self, stack: ExitStack, gpu: bool) -> Any:
        """Start workers and return their distributed.Client.

        Args:
            stack: what has to be ended after the run is entered into it.
            gpu: start the workers of the separate GPU cluster; set only if `has_separate_gpu_cluster` returns True.

        Raises:
            UserError: the workers cannot be started, or their scheduler does not answer.
        """

    @abstractmethod
    def expected(self) -> int | None:
        """Return the number of workers that will start, None if only the scheduler knows it."""

    @abstractmethod
    def memory_hint(self) -> str:
        """Return a text for messages that names the memory of a worker and the option that changes it."""

    def restart_missing(self, client: Any) -> None:  # noqa: B027  (optional)
        """Restart workers that Dask does not restart; this base method does nothing.

        It is called about once a second while no task completes. `client` is the distributed.Client of the workers.
        """

    def scripts(self) -> str:
        """Return the job scripts that a run would submit. Here it is the empty text, for workers that are not jobs."""
        return ""

    def has_separate_gpu_cluster(self) -> bool:
        """Return whether GPU workers have a scheduler of their own; here False."""
        return False


def connect(target: Any, security: Any = None) -> Any:
    """Return a distributed.Client of a Dask cluster or of a scheduler's address. It does not become the default client.

    Dask's log messages below critical are turned off in this process.

    Args:
        target: a Dask cluster object, or the address of a scheduler.
        security: distributed.Security for TLS, None without TLS.

    Raises:
        OSError: no scheduler answers within 20 s.
        ValueError: the address is invalid.
    """
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # failures are reported as UserError
    return Client(target, timeout=CONNECT_SECONDS, set_as_default=False, security=security)


def stop(cluster: Any) -> None:
    """Stop the workers of a Dask cluster.

    If that takes more than `STOP_SECONDS`, print a notice to stderr and leave them to end with this process.
    """
    try:
        cluster.close(timeout=STOP_SECONDS)
    except TimeoutError:
        print(f"local workers did not stop within {STOP_SECONDS} s; they end with this command", file=sys.stderr)


@dataclass(frozen=True)
class LocalWorkers(Workers):
    """Processes of one thread on this machine.

    `processes` is their number; None for one per core, fewer if memory does not suffice for all, but at least one.
    """

    processes: int | None = None
    patience_s: float = 180

    def start(self, stack: ExitStack, gpu: bool) -> Any:
        import dask
        from distributed import LocalCluster

        count, fit = self.expected(), most_by_memory()
        if count > max(fit, 1):
            raise UserError(
                f"WORKERS={count} needs about {count * WORKER_GB:.0f} GB of memory, this machine has "
                f"{memory_gb():.1f} GB; use WORKERS={max(fit, 1)} or fewer"
            )
        stack.enter_context(dask.config.set(SETTINGS))
        cluster = LocalCluster(  # not entered: its exit waits for ever for a worker that restarts while it should stop
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
        # Dask does not replace a worker that dies while it starts.
        client.cluster.scale(self.expected())


class Tls(StrictModel):
    """PEM files for encrypted connections: certificate authority, and the certificate and its key of this side."""

    ca: Path
    certificate: Path
    key: Path

    def security(self) -> Any:
        """Return a distributed.Security that requires encryption; scheduler, workers and client have the same files.

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
    """Workers of a running Dask scheduler, which this project does not start.

    `address` is that of the scheduler: tls://host:port with `tls`, else tcp://host:port. The workers should be started
    with the variables of `ENVIRONMENT`.
    """

    address: str
    tls: Tls | None = None

    @property
    def lost(self) -> str:  # type: ignore[override]
        """Message when the connection to the scheduler is lost."""
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
    """Return the number of logical processors that this process may use; without CPU affinity, those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float:
    """Return the memory of this machine, or of its container if that has a lower limit, in GB (1e9 bytes)."""
    from distributed.system import memory_limit

    return memory_limit() / 1e9


def most_by_memory() -> int:
    """Return the number of workers of `WORKER_GB` each for which this machine or container has memory; may be 0."""
    return int(memory_gb() / WORKER_GB)
