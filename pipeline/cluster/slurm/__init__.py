"""Workers as Slurm jobs through dask-jobqueue, described by a small TOML; templates for job arrays lie beside."""

import math
import sys
import tomllib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from data_specs.errors import UserError
from data_specs.io.files import disk_errors
from data_specs.spec import Positive, StrictModel, parse_model
from pipeline.cluster.workers import ENVIRONMENT, LOOPBACK, SETTINGS, Tls, Workers, connected

FOLDER = Path(__file__).parent
NAME = "slurm"  # CLUSTER=slurm: the settings that come with the project
# A worker on another node imports the packages that this process does.
IMPORTS = f"export PYTHONPATH={FOLDER.parents[2]}${{PYTHONPATH:+:$PYTHONPATH}}"
EXPORTS = [f"export {name}={value}" for name, value in ENVIRONMENT.items()]
Count = Annotated[int, Field(ge=0)]


class Jobs(StrictModel):
    """Jobs of one kind; `workers` and `memory_gb` are of one job and one worker."""

    jobs: Count
    workers: Positive
    memory_gb: Positive
    directives: tuple[str, ...] = ()


class TlsFiles(StrictModel):
    """PEM files for scheduler, workers and client alike."""

    ca: Path
    certificate: Path
    key: Path


class Slurm(StrictModel):
    """The settings of `default.toml`."""

    queue: str = ""
    account: str = ""
    walltime_minutes: Positive
    lifetime_minutes: Positive
    stagger_minutes: Count = 0
    interface: str = ""
    scratch: str = "/tmp"
    logs: str = "slurm-logs"
    prologue: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    cpu: Jobs
    gpu: Jobs
    tls: TlsFiles | None = None

    @model_validator(mode="after")
    def _leaves_in_time(self) -> Self:
        if self.lifetime_minutes + self.stagger_minutes >= self.walltime_minutes:
            raise ValueError("lifetime_minutes and stagger_minutes together must be less than walltime_minutes")
        if not self.cpu.jobs:
            raise ValueError("cpu.jobs must be at least 1: reading MIDI and rendering need processors")
        return self


def load_settings(name: str) -> Slurm:
    """The settings called `slurm`, or those in a TOML file.

    Raises:
        UserError: missing, not TOML, or a key that is unknown or of the wrong type, named with its file.
    """
    path = FOLDER / "default.toml" if name == NAME else Path(name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"CLUSTER={name} is neither `{NAME}` nor a readable file; copy {FOLDER / 'default.toml'} and change it"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML ({error}); mend it or take a new copy of the default") from error
    return parse_model(Slurm, values, str(path))


@dataclass(frozen=True)
class SlurmWorkers(Workers):
    """As many jobs as the settings say, submitted again when they end before the run does."""

    settings: Slurm
    patience_s: float = math.inf  # a queue may be long
    lost = "the Dask scheduler of this run is gone"

    def start(self, stack: ExitStack, gpu: bool) -> Any:
        import dask

        stack.enter_context(dask.config.set(SETTINGS))
        jobs = self.settings.gpu if gpu else self.settings.cpu
        cluster = stack.enter_context(self._cluster(gpu))
        print(f"submitting {jobs.jobs} Slurm jobs of {jobs.workers} workers; work begins as they start", flush=True)
        cluster.adapt(minimum_jobs=jobs.jobs, maximum_jobs=jobs.jobs)
        return stack.enter_context(connected(cluster, cluster.security))

    def expected(self) -> int:
        return self.settings.cpu.jobs * self.settings.cpu.workers

    def has_separate_gpu_cluster(self) -> bool:
        return self.settings.gpu.jobs > 0

    def scripts(self) -> str:
        """The job scripts, as they would be submitted."""
        kinds = (False, True) if self.has_separate_gpu_cluster() else (False,)
        texts = []
        for gpu in kinds:
            with self._cluster(gpu) as cluster:
                texts.append(cluster.job_script())
        return "\n".join(texts)

    def _cluster(self, gpu: bool) -> Any:
        from dask_jobqueue import SLURMCluster

        s = self.settings
        jobs = s.gpu if gpu else s.cpu
        arguments = ["--lifetime", f"{s.lifetime_minutes}m", "--lifetime-stagger", f"{s.stagger_minutes}m"]
        # promise: scheduler-workers-dashboard-listen
        arguments += ["--dashboard-address", f"{LOOPBACK}:0"]
        with disk_errors(Path(s.logs)):  # the folder is made here
            return SLURMCluster(
                queue=s.queue or None,
                account=s.account or None,
                walltime=_clock(s.walltime_minutes),
                cores=jobs.workers,
                processes=jobs.workers,
                memory=f"{jobs.memory_gb * jobs.workers} GiB",
                interface=s.interface or None,
                local_directory=s.scratch,
                log_directory=s.logs,
                python=sys.executable,
                job_name="pvt-gpu" if gpu else "pvt",
                job_script_prologue=[*EXPORTS, IMPORTS, *s.prologue],
                job_extra_directives=[*s.directives, *jobs.directives],
                worker_extra_args=[*arguments, *(["--resources", "GPU=1"] if gpu else [])],
                scheduler_options={"dashboard_address": f"{LOOPBACK}:0"},
                security=Tls(s.tls.ca, s.tls.certificate, s.tls.key).security() if s.tls else None,
            )


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"
