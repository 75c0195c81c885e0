"""Where a run's workers come from: processes of this machine, or a Dask scheduler that stands somewhere else.

Slurm's are in `pipeline.cluster.slurm`.
"""

import logging
import os
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_specs.errors import UserError

# A task whose worker dies more often than this is held to be the cause.
ALLOWED_DEATHS = 3
# promise: scheduler-workers-dashboard-listen-2
LOOPBACK = "127.0.0.1"  # nobody else on a shared network can reach the local workers
CONNECT_SECONDS = 20
SETTINGS = {
    "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
    "distributed.admin.system-monitor.gil.enabled": False,
    # What costs more than the clips themselves on a busy machine: a profiler that stops the worker a hundred times a
    # second, and memory given back to the system after each array, to be fetched and zeroed for the next.
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    # An event loop asks fifty times a second whether it is late, and takes the interpreter from the clips for it.
    "distributed.admin.tick.interval": "1s",
    "distributed.deploy.lost-worker-timeout": "30s",  # a worker that died may need that to start anew on a busy machine
}

# The same for workers that a shell starts, where a variable can be set but not taken away: arrays stay on the heap.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # the largest that glibc takes
}


class Workers(ABC):
    """A source of workers. `patience_s` is how long a run may be without any before that is an error."""

    patience_s: float = 60
    lost = "the Dask scheduler is gone"  # what to say then

    @abstractmethod
    def start(self, stack: ExitStack, gpu: bool) -> Any:
        """A distributed.Client of workers; with `gpu`, of such as declare the resource GPU, or of all if none do.

        Whatever has to end with the run is put on `stack`.
        """

    @abstractmethod
    def expected(self) -> int | None:
        """How many there will be, None if only the scheduler knows."""

    def restart_missing(self, client: Any) -> None:  # noqa: B027  (most have nothing to tend)
        """Called every second or so while nothing comes: start again what has been lost for good."""

    def scripts(self) -> str:
        """The job scripts that would be submitted; empty where workers are no jobs."""
        return ""

    def has_separate_gpu_cluster(self) -> bool:
        """Whether GPU workers hang on a scheduler of their own."""
        return False


def connected(target: Any, security: Any = None) -> Any:
    """A distributed.Client of a cluster or an address, which leaves no trace in this process's defaults."""
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is said in our own words
    return Client(target, timeout=CONNECT_SECONDS, set_as_default=False, security=security)


@dataclass(frozen=True)
class LocalWorkers(Workers):
    """`processes` processes of one thread each on this machine; all its cores if None."""

    processes: int | None = None
    patience_s: float = 180

    def start(self, stack: ExitStack, gpu: bool) -> Any:
        import dask
        from distributed import LocalCluster

        stack.enter_context(dask.config.set(SETTINGS))
        cluster = LocalCluster(
            n_workers=self.expected(),
            threads_per_worker=1,
            processes=True,
            host=LOOPBACK,
            # promise: scheduler-workers-dashboard-listen-3
            dashboard_address=f"{LOOPBACK}:0",
            # promise: scheduler-workers-dashboard-listen-4
            worker_dashboard_address=f"{LOOPBACK}:0",
            silence_logs=logging.CRITICAL,
        )
        return stack.enter_context(connected(stack.enter_context(cluster)))

    def expected(self) -> int:
        return self.processes or cores()

    def restart_missing(self, client: Any) -> None:
        # Dask's own restart gives a worker up that dies while it starts, as one does whose next task is poison.
        client.cluster.scale(self.expected())


@dataclass(frozen=True)
class Tls:
    """Files (PEM) for encrypted connections: who signs for all sides, our certificate and its key."""

    ca: Path
    certificate: Path
    key: Path

    def security(self) -> Any:
        """The settings as Dask takes them, the same files for every role.

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
    """The workers of the Dask scheduler at `address` (tcp:// or tls://), best started with `ENVIRONMENT`."""

    address: str
    tls: Tls | None = None

    @property
    def lost(self) -> str:  # type: ignore[override]
        """What to say when the scheduler is gone."""
        return f"the Dask scheduler at SCHEDULER={self.address} is gone"

    def start(self, stack: ExitStack, gpu: bool) -> Any:
        if self.address.startswith("tls://") != (self.tls is not None):
            raise UserError(
                f"SCHEDULER={self.address} and the TLS options do not go together; an address that starts with "
                f"tls:// needs TLS_CA=, TLS_CERT= and TLS_KEY=, another one needs none of them"
            )
        security = self.tls.security() if self.tls else None
        try:
            return stack.enter_context(connected(self.address, security))
        except (OSError, ValueError) as error:
            raise UserError(
                f"no Dask scheduler answers at SCHEDULER={self.address} ({error}); start one with `dask scheduler`, "
                f"give its address as tcp://host:port, or leave SCHEDULER out for local processes"
            ) from None

    def expected(self) -> None:
        return None


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))
