"""Local workers: who can reach them, how tasks are drawn, and what a task that kills its worker does."""

import os
import signal

import psutil
import pytest

from data_specs.errors import UserError
from pipeline.cluster import IN_FLIGHT, Cluster
from pipeline.workers import ALLOWED_DEATHS, LocalWorkers


@pytest.fixture(scope="module")
def cluster():
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
    cluster.everywhere(os.getpid)
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [c for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


def test_a_task_that_kills_its_worker_again_and_again_ends_the_run_by_name(cluster):
    with pytest.raises(UserError, match=f"a worker died {ALLOWED_DEATHS + 1} times on the same poison"):
        list(cluster.run(die, [()], "poison"))
    assert list(cluster.run(double, [(4,)], "number")) == [8]  # the workers are back
