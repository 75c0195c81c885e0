"""Full and read-only disks, damaged shards, folders that belong to something else or to somebody at work."""

import errno
import json
import os
import shutil
import signal
import time

import pytest

from data_specs.controls import CONTROLS
from data_specs.dataset import load_manifest
from data_specs.errors import UserError
from data_specs.io.files import atomic_write
from data_specs.spec import ClipCounts
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.workers import LocalWorkers
from pipeline.tools.validate import validate
from tests.pipeline.made_songs import contents

SYNC = os.fsync


def refuse(file: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill_disk() -> None:
    os.fsync = refuse


def free_disk() -> None:
    os.fsync = SYNC


def test_a_disk_that_fills_up_on_the_workers(order, remote, reference, whole, same, tmp_path):
    with Cluster(remote) as cluster:
        cluster.run_on_all(fill_disk)
        try:
            with pytest.raises(UserError, match=r"no space is left to write .*; finished work is kept"):
                order.build(tmp_path, remote)
            assert not list(tmp_path.rglob("*.parquet"))
        finally:
            cluster.run_on_all(free_disk)
    assert order.build(tmp_path, remote, dry_run=True) == 0  # index and plan stand
    with Cluster(remote) as cluster:
        cluster.run_on_all(fill_disk)
        try:
            with pytest.raises(UserError, match=r"no space is left to write .*PVT-audio"):
                order.build(tmp_path, remote)
        finally:
            cluster.run_on_all(free_disk)
    whole(tmp_path)  # a shard that was under way may have been finished after the disk was free
    assert order.build(tmp_path, remote) == 0
    same(tmp_path)


@pytest.mark.parametrize(
    ("number", "named"),
    [
        (errno.ENOSPC, "no space is left to write"),
        (errno.EDQUOT, "your quota is used up to write"),
        (errno.EROFS, "cannot be written"),
        (errno.EACCES, "cannot be written"),
    ],
)
def test_every_refusal_of_a_disk_is_one_sentence_and_leaves_nothing(tmp_path, number, named):
    with pytest.raises(UserError, match=named) as error, atomic_write(tmp_path / "a" / "file") as file:
        file.write(b"half")
        raise OSError(number, os.strerror(number))
    assert "another folder" in str(error.value)
    assert not list((tmp_path / "a").iterdir())


def test_an_output_where_nobody_may_write(order, tmp_path):
    with pytest.raises(UserError, match=r"/sys/pvt.* cannot be written"):
        order.build(type(tmp_path)("/sys/pvt"), LocalWorkers(1))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a part of its path is a file"):
        order.build(tmp_path / "file" / "out", LocalWorkers(1))


@pytest.fixture
def copy(reference, tmp_path):
    """The finished dataset, to be damaged."""
    shutil.copytree(reference, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_truncated_shard_is_found_by_the_next_run(order, remote, copy, same):
    shard = sorted(copy.rglob("*.tfrecord"))[1]
    os.truncate(shard, shard.stat().st_size - 7)
    others = {path: path.stat().st_mtime_ns for path in copy.rglob("*.tfrecord") if path != shard}
    assert validate(copy, None) == 1
    assert order.build(copy, remote) == 0
    same(copy)
    assert {path: path.stat().st_mtime_ns for path in others} == others


def test_one_flipped_bit_is_named_and_the_shard_made_again_once_it_is_deleted(order, remote, copy, same, capsys):
    shard = sorted(copy.rglob("*.tfrecord"))[2]
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    assert validate(copy, None) == 1
    assert shard.name in capsys.readouterr().out
    shard.unlink()
    assert order.build(copy, remote) == 0
    same(copy)


@pytest.mark.parametrize("damaged", ["shapes.txt", "clips.parquet", "dataset.json"])
def test_what_stands_beside_the_shards_is_written_again(order, remote, copy, same, damaged):
    """An altered dataset.json is named, and deleted by its owner; the other two cannot hold anything else."""
    path = copy / "PVT-audio" / damaged
    shards = {path: path.stat().st_mtime_ns for path in copy.rglob("*.tfrecord")}
    if damaged == "shapes.txt":
        path.write_text(path.read_text().replace("float32", "float16"))
    else:
        if damaged == "dataset.json":
            path.write_bytes(path.read_bytes()[:-9])
            with pytest.raises(UserError, match=r"dataset\.json is damaged; delete it"):
                order.build(copy, remote)
        path.unlink()
    assert order.build(copy, remote) == 0
    same(copy)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*.tfrecord")} == shards


@pytest.mark.parametrize("lost", ["shapes.txt", "train/*-00000-of-*"])
def test_a_repair_that_asks_for_fewer_clips_keeps_those_that_stand(order, remote, copy, lost):
    before, standing = contents(copy), load_manifest(copy / "PVT-audio")
    next((copy / "PVT-audio").glob(lost)).unlink()
    smaller = order.request.spec.with_clips(ClipCounts(train=5, valid=1))
    assert order.build(copy, remote, spec=smaller) == 0
    assert load_manifest(copy / "PVT-audio") == standing.model_copy(
        update={"spec": smaller}
    )  # which says what was asked
    assert {name for name, digest in contents(copy).items() if digest != before[name]} == {"PVT-audio/dataset.json"}


@pytest.mark.parametrize("force", [False, True])
def test_shards_with_other_features_are_refused_and_stay_until_they_are_moved_aside(
    order, remote, copy, same, force, monkeypatch
):
    before = contents(copy)
    with monkeypatch.context() as patch:
        patch.setitem(CONTROLS, "velocity", CONTROLS["instruments"])
        if not force:
            with pytest.raises(UserError, match=r"have other features than this version writes.*FORCE=1"):
                order.build(copy, remote)
            assert contents(copy) == before
            return
        assert order.build(copy, remote, force=True, dry_run=True) == 0
        assert contents(copy) == before
    assert order.build(copy, remote, force=True) == 0
    assert (copy / "PVT-audio.old-1" / "dataset.json").is_file()


@pytest.mark.parametrize("finished", [True, False])
def test_a_sibling_of_another_plan_is_refused_finished_or_not(order, remote, copy, finished):
    (copy / "PVT-disc" / ".build").mkdir(parents=True)
    source = copy / "PVT-audio" / ("dataset.json" if finished else ".build/key.json")
    value = json.loads(source.read_bytes())
    (value["format_key"] if finished else value)["plan"]["seed"] = 5
    (copy / "PVT-disc" / source.relative_to(copy / "PVT-audio")).write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"PVT-disc was built from another plan"):
        order.build(copy, remote)


def test_a_manifest_of_another_spec_is_refused_and_left_alone(order, remote, copy):
    manifest = copy / "PVT-audio" / "dataset.json"
    value = json.loads(manifest.read_bytes())
    value["format_key"]["rendering"]["gain"] = 0.5
    manifest.write_text(json.dumps(value))
    before = contents(copy)
    with pytest.raises(UserError, match=r"rendering\.gain = 0\.5, this run asks for 1\.0"):
        order.build(copy, remote)
    assert contents(copy) == before


def test_the_second_of_two_runs_in_one_folder_is_refused_by_name(order, remote, site, same, tmp_path):
    first = order.start(tmp_path, site.address)
    lock = tmp_path / "PVT-audio" / ".build" / "lock"
    while first.poll() is None and not (lock.is_file() and lock.stat().st_size):
        time.sleep(0.002)
    first.send_signal(signal.SIGSTOP)
    try:
        for force in (False, True):
            with pytest.raises(UserError, match=rf"PVT-audio is in use by process {first.pid} on "):
                order.build(tmp_path, remote, force=force)
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.communicate(timeout=120)[1] == ""
    assert first.returncode == 0
    same(tmp_path)
