"""Local workers: who can reach them, how tasks are drawn, and what a task that kills its worker does."""

import os
import signal
import subprocess
import time

import psutil
import pytest

from bench.dask_site import DaskSite
from data_specs.errors import UserError
from pipeline.cluster.cluster import IN_FLIGHT, Cluster
from pipeline.cluster.workers import SETTINGS, STOP_SECONDS, LocalWorkers, RemoteWorkers, Tls, stop


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SETTINGS, "distributed.scheduler.allowed-failures", 0)  # each death takes seconds
        with Cluster(LocalWorkers(1)) as cluster:
            yield cluster


def double(number: int) -> int:
    return 2 * number


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_every_task_gives_its_result_once(cluster):
    assert sorted(cluster.run(double, ((n,) for n in range(40)), "number")) == [2 * n for n in range(40)]


def test_tasks_are_drawn_only_as_workers_need_them(cluster):
    drawn = []

    def tasks():
        for number in range(100):
            drawn.append(number)
            yield (number,)

    results = cluster.run(double, tasks(), "number")
    next(results)
    assert len(drawn) <= IN_FLIGHT + 1
    results.close()


def test_only_this_machine_can_reach_scheduler_and_workers(cluster):
    family = map(psutil.Process, [os.getpid(), *cluster.run_on_all(os.getpid)])
    listening = [c for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


def test_a_task_that_kills_its_worker_again_and_again_ends_the_run_by_name(cluster):
    with pytest.raises(UserError, match=r"every worker died on one poison .*GB for each of 1 WORKERS"):
        list(cluster.run(die, [()], "poison"))
    assert list(cluster.run(double, [(4,)], "number")) == [8]  # the workers are back


def test_encoding_goes_to_workers_that_declare_a_gpu_and_nowhere_else(tmp_path):
    with DaskSite(tmp_path, workers=1) as site, Cluster(RemoteWorkers(site.address)) as cluster:
        site.start_worker("--resources", "GPU=1")
        while len(cluster.run_on_all(os.getpid)) < 2:
            time.sleep(0.1)
        ordinary, graphics = (worker.pid for worker in site.workers)
        assert cluster.has_gpu()
        assert set(cluster.run_on_all(os.getpid, gpu=True)) == {graphics}
        assert set(cluster.run(process_id, ((n,) for n in range(8)), "call", gpu=True)) == {graphics}
        assert set(cluster.run(process_id, ((n,) for n in range(40)), "call")) == {ordinary, graphics}


def test_workers_without_a_gpu_get_no_encoding(cluster):
    assert not cluster.has_gpu()


def process_id(number: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def test_a_scheduler_without_workers_is_one_sentence(tmp_path):
    with DaskSite(tmp_path, workers=0) as site:
        remote = RemoteWorkers(site.address)
        object.__setattr__(remote, "patience_s", 1.0)
        with Cluster(remote) as cluster, pytest.raises(UserError, match="has had no workers for 1 s; start some"):
            list(cluster.run(double, [(1,)], "number"))


def test_a_worker_over_its_memory_limit_is_not_paused(tmp_path):
    """Dask would pause it for ever, since the interpreter alone exceeds the limit."""
    with DaskSite(tmp_path, workers=0) as site, Cluster(RemoteWorkers(site.address)) as cluster:
        site.start_worker("--memory-limit", "40MB")
        assert sorted(cluster.run(double, ((n,) for n in range(4)), "number")) == [0, 2, 4, 6]


def test_more_workers_than_memory_are_refused_and_fewer_are_the_default(monkeypatch):
    monkeypatch.setattr("pipeline.cluster.workers.memory_gb", lambda: 2.2)
    monkeypatch.setattr("pipeline.cluster.workers.cores", lambda: 16)
    assert LocalWorkers().expected() == 2
    with (
        Cluster(LocalWorkers(8)) as cluster,
        pytest.raises(UserError, match=r"WORKERS=8 needs about 8 GB .* 2\.2 GB; use WORKERS=2"),
    ):
        cluster.client()
    monkeypatch.setattr("pipeline.cluster.workers.memory_gb", lambda: 0.5)
    assert LocalWorkers().expected() == 1


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate that signs itself, for every role."""
    folder = tmp_path_factory.mktemp("tls")
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=pvt", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*made, *names, *files], check=True, capture_output=True)
    return Tls(ca=folder / "cert.pem", certificate=folder / "cert.pem", key=folder / "key.pem")


def test_a_tls_scheduler_takes_those_with_a_certificate(certificates, tmp_path):
    files = ("--tls-ca-file", certificates.ca, "--tls-cert", certificates.certificate, "--tls-key", certificates.key)
    with DaskSite(tmp_path, workers=1, options=("--protocol", "tls", *map(str, files))) as site:
        assert site.address.startswith("tls://")
        with Cluster(RemoteWorkers(site.address, certificates)) as cluster:
            assert list(cluster.run(double, [(4,)], "number")) == [8]
        with Cluster(RemoteWorkers(site.address)) as cluster, pytest.raises(UserError, match="needs TLS_CA="):
            cluster.client()


def test_a_missing_certificate_is_named(certificates, tmp_path):
    tls = Tls(ca=certificates.ca, certificate=tmp_path / "none.pem", key=certificates.key)
    with Cluster(RemoteWorkers("tls://127.0.0.1:1", tls)) as cluster:
        with pytest.raises(UserError, match=r"TLS_CERT=.*none\.pem is not a file"):
            cluster.client()


def test_local_workers_that_do_not_stop_are_left_to_the_end_of_the_command(capsys):
    """Dask waits without limit for a worker that restarts while it should stop."""
    limits = []

    class Stuck:
        def close(self, timeout):
            limits.append(timeout)
            raise TimeoutError

    stop(Stuck())
    assert limits == [STOP_SECONDS]
    assert "did not stop within 60 s" in capsys.readouterr().err
