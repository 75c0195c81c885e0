"""kill -9 of worker, scheduler and client at moments drawn from a seed: the next run gives the same bytes."""

import random
import threading
import time

import pytest

from data_specs.errors import UserError
from pipeline.cluster.workers import RemoteWorkers

PATIENCE_SECONDS = 120
# The message while connected, and the one while connecting.
GONE = ("is gone; start it and its workers again; finished work is kept", "no Dask scheduler answers at SCHEDULER=")
ROLES = ("worker", "scheduler", "client")


def count(out) -> int:
    return sum(1 for path in out.rglob("*") if path.is_file())


def when(out, files: int, delay: float, act) -> None:
    """Call `act` `delay` seconds after `files` files are there, in a run of whatever speed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while count(out) < files and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay)
    act()


def disturbed(order, site, out, role: str, files: int, delay: float) -> None:
    """One run that loses `role` at the moment given; leaves a site with a scheduler and two workers."""
    if role == "client":
        client = order.start(out, site.address)
        when(out, files, delay, client.kill)
        client.wait(PATIENCE_SECONDS)
        return
    act = site.scheduler.kill if role == "scheduler" else lambda: site.kill_worker(0)
    killer = threading.Thread(target=when, args=(out, files, delay, act))
    killer.start()
    said = ""
    try:
        order.build(out, RemoteWorkers(site.address))
    except UserError as error:
        said = str(error)
    killer.join()
    if role == "worker":
        site.start_worker()
    else:
        site.stop()
        site.workers.clear()
        site.start_scheduler(0)
        site.start_worker()
        site.start_worker()
    assert not said or (role == "scheduler" and any(message in said for message in GONE))


def run(order, site, reference, out, seed: int, role: str | None = None) -> None:
    dice = random.Random(seed)
    role = role or dice.choice(ROLES)
    files, delay = dice.randrange(count(reference) + 1), dice.uniform(0, 0.2)
    print(f"seed {seed}: {role} killed {delay:.3f} s after {files} of {count(reference)} files")
    disturbed(order, site, out, role, files, delay)


@pytest.mark.parametrize(("seed", "role"), [(1, "scheduler"), (2, "client")], ids=["scheduler", "client"])
def test_a_killed_process_costs_nothing_but_time(order, site, reference, whole, same, tmp_path, seed, role):
    run(order, site, reference, tmp_path, seed, role)
    whole(tmp_path)
    assert order.build(tmp_path, RemoteWorkers(site.address)) == 0
    same(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_killed_at_twenty_moments(order, site, reference, whole, same, tmp_path, seed):
    run(order, site, reference, tmp_path, seed)
    whole(tmp_path)
    assert order.build(tmp_path, RemoteWorkers(site.address)) == 0
    same(tmp_path)
