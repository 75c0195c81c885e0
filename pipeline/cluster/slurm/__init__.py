"""Workers as Slurm jobs by dask-jobqueue, configured by a TOML file. This folder also has templates of job arrays."""

import math
import shlex
import sys
import tomllib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from data_specs.errors import UserError
from data_specs.io.files import disk_errors
from data_specs.strict import Positive, StrictModel, parse_model
from pipeline.cluster.workers import ENVIRONMENT, LOOPBACK, SETTINGS, Tls, Workers, connect

FOLDER = Path(__file__).parent
NAME = "slurm"  # the value of CLUSTER= for the default settings
# Workers on other nodes import this checkout, even if another one is installed there or in their working folder.
IMPORTS = f"export PYTHONSAFEPATH=1 PYTHONPATH={shlex.quote(str(FOLDER.parents[2]))}${{PYTHONPATH:+:$PYTHONPATH}}"
EXPORTS = [f"export {name}={value}" for name, value in ENVIRONMENT.items()]
Count = Annotated[int, Field(ge=0)]


class Jobs(StrictModel):
    """Slurm jobs of one kind: number of jobs, workers per job, memory per worker in GiB, and options of sbatch."""

    jobs: Count
    workers: Positive
    memory_gb: Positive
    directives: tuple[str, ...] = ()


class TlsFiles(Tls):
    """The PEM files of all nodes. Their paths are part of a job script and must not contain spaces."""

    @field_validator("*")
    @classmethod
    def _without_spaces(cls, path: Path) -> Path:
        if any(character.isspace() for character in str(path.absolute())):
            raise ValueError("must be a path without spaces, which dask-jobqueue would not quote")
        return path


class Slurm(StrictModel):
    """Settings of the jobs; `default.toml` explains each."""

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
    def _check_times(self) -> Self:
        if self.lifetime_minutes + self.stagger_minutes >= self.walltime_minutes:
            raise ValueError("lifetime_minutes and stagger_minutes together must be less than walltime_minutes")
        if not self.cpu.jobs:
            raise ValueError("cpu.jobs must be at least 1 to read MIDI and render")
        return self


def load_settings(name: str) -> Slurm:
    """Return the settings named by CLUSTER=.

    Args:
        name: `slurm` for the default settings, else the path of a TOML file.

    Raises:
        UserError: the file cannot be read, is not TOML, or has an unknown key or an invalid value.
    """
    path = FOLDER / "default.toml" if name == NAME else Path(name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"CLUSTER= must be `{NAME}` or a readable file, got {name}; copy {FOLDER / 'default.toml'} and change it"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML ({error}); correct it or take a new copy of the default") from error
    return parse_model(Slurm, values, str(path))


@dataclass(frozen=True)
class SlurmWorkers(Workers):
    """Workers in the configured number of Slurm jobs. A job that ends before the run is submitted again."""

    settings: Slurm
    patience_s: float = math.inf  # a queue may be long
    lost = "the Dask scheduler of this run is gone"

    def start(self, stack: ExitStack, gpu: bool) -> Any:
        import dask

        stack.enter_context(dask.config.set(SETTINGS))
        jobs = self.settings.gpu if gpu else self.settings.cpu
        cluster = stack.enter_context(self._cluster(gpu))
        print(
            f"submitting {jobs.jobs} Slurm jobs of {jobs.workers} workers each; work begins when the first starts",
            flush=True,
        )
        cluster.adapt(minimum_jobs=jobs.jobs, maximum_jobs=jobs.jobs)
        return stack.enter_context(connect(cluster, cluster.security))

    def expected(self) -> int:
        return self.settings.cpu.jobs * self.settings.cpu.workers

    def memory_hint(self) -> str:
        return f"memory_gb = {self.settings.cpu.memory_gb} for each worker in the file of CLUSTER="

    def has_separate_gpu_cluster(self) -> bool:
        return self.settings.gpu.jobs > 0

    def scripts(self) -> str:
        """Return the text of the job scripts that a run would submit, that of the GPU workers last.

        Nothing is submitted. The folder of the logs is made.

        Raises:
            UserError: that folder cannot be made, or a file of TLS is missing.
        """
        kinds = (False, True) if self.has_separate_gpu_cluster() else (False,)
        texts = []
        for gpu in kinds:
            with self._cluster(gpu) as cluster:
                texts.append(cluster.job_script())
        return "\n".join(texts)

    def _cluster(self, gpu: bool) -> Any:
        from dask_jobqueue import SLURMCluster

        s = self.settings
        jobs, name = (s.gpu, "pvt-gpu") if gpu else (s.cpu, "pvt")
        arguments = ["--lifetime", f"{s.lifetime_minutes}m", "--lifetime-stagger", f"{s.stagger_minutes}m"]
        # promise: scheduler-workers-dashboard-listen
        arguments += ["--dashboard-address", f"{LOOPBACK}:0"]
        logs = [f'--output="{s.logs}/{name}-%J.out"', f'--error="{s.logs}/{name}-%J.err"']
        with disk_errors(Path(s.logs)):  # the folder is made here
            return SLURMCluster(
                queue=s.queue or None,
                account=s.account or None,
                walltime="{:02d}:{:02d}:00".format(*divmod(s.walltime_minutes, 60)),
                cores=jobs.workers,
                processes=jobs.workers,
                memory=f"{jobs.memory_gb * jobs.workers} GiB",
                interface=s.interface or None,
                local_directory=shlex.quote(s.scratch),
                log_directory=s.logs,
                python=shlex.quote(sys.executable),
                job_name=name,
                job_script_prologue=[*EXPORTS, IMPORTS, *s.prologue],
                job_directives_skip=["#SBATCH -o ", "#SBATCH -e "],  # dask-jobqueue does not quote the folder
                job_extra_directives=[*logs, *s.directives, *jobs.directives],
                worker_extra_args=[*arguments, *(["--resources", "GPU=1"] if gpu else [])],
                scheduler_options={"dashboard_address": f"{LOOPBACK}:0"},
                security=s.tls.security() if s.tls else None,
            )
