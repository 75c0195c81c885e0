"""Whole datasets, built on real worker processes and read back by TensorFlow."""

import json
import os
import shutil
import subprocess
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_specs.dataset import load_info
from data_specs.errors import UserError
from data_specs.representations import representation
from data_specs.spec import ClipCounts, Spec
from pipeline.build.build import _check_machine, build
from pipeline.build.folder import BuildFolder
from pipeline.build.job import Job, Request
from pipeline.build.manifest import write_clips
from pipeline.build.shards import Receipt, ShardSubset, shard_tasks
from pipeline.cluster.workers import LocalWorkers, RemoteWorkers
from pipeline.plan.plan import Plan
from pipeline.rejects import Rejects
from pipeline.render.soundfont import soundfont_path
from pipeline.tools.validate import validate
from tests.pipeline.made_songs import contents
from tests.pipeline.made_soundfont import Preset, write_soundfont


@pytest.fixture(scope="module")
def request_for(dask_cluster):
    """A request for audio and disc of a spec and a MIDI source, on the session's workers."""

    def make(spec: Spec, midi: Path, out: Path, **changes) -> Request:
        source = spec.source.model_copy(update={"midi": str(midi)})
        plain = Request(
            spec=spec.model_copy(update={"source": source}),
            formats=("audio", "disc"),
            out=out,
            index=out / "index",
            workers=RemoteWorkers(dask_cluster.address),
            dry_run=False,
            force=False,
            accept_fewer=False,
            accept_device=False,
            subset=None,
        )
        return replace(plain, **changes)

    return make


@pytest.fixture(scope="module")
def built(request_for, small_spec, midi_folder, tmp_path_factory):
    """The reference: audio and disc, built by two local workers."""
    out = tmp_path_factory.mktemp("built")
    assert build(request_for(small_spec, midi_folder, out)) == 0
    return out


def tensorflow_records(folder: Path, split: str) -> list[dict]:
    """Every record of a split, read by TensorFlow with nothing but shapes.txt."""
    tf = pytest.importorskip("tensorflow")
    lines = [line.split() for line in (folder / "shapes.txt").read_text().splitlines()]
    shapes = {name: (dtype, tuple(map(int, dims))) for name, dtype, *dims in lines}
    described = {name: tf.io.FixedLenFeature([], tf.string) for name in (*shapes, "id")}
    records = []
    for raw in tf.data.TFRecordDataset(sorted(map(str, (folder / split).glob("*.tfrecord")))):
        values = tf.io.parse_single_example(raw, described)
        record = {
            n: tf.reshape(tf.io.decode_raw(values[n], dtype), dims).numpy() for n, (dtype, dims) in shapes.items()
        }
        records.append({**record, "id": values["id"].numpy().decode()})
    return records


def test_tensorflow_reads_every_record_and_ids_are_one_performance_in_all_formats(built, small_spec):
    for split, clips in (("train", 10), ("valid", 3)):
        audio, disc = (tensorflow_records(built / name, split) for name in ("PVT-audio", "PVT-disc"))
        assert [record["id"] for record in audio] == [record["id"] for record in disc]
        assert len(audio) == len({record["id"] for record in audio}) == clips
        for one, other in zip(audio, disc, strict=True):
            for name in ("velocity", "chroma", "instruments"):
                np.testing.assert_array_equal(one[name], other[name])
        table = pq.read_table(built / "PVT-disc" / "clips.parquet").to_pylist()
        assert [row["id"] for row in table if row["split"] == split] == [record["id"] for record in disc]
        for position, record in enumerate(disc):
            assert record["instruments"][position % 3].all()  # thirds, exact in every prefix


def test_every_file_without_a_clip_is_counted(built):
    rejects = json.loads((built / "PVT-audio" / "rejects.json").read_bytes())
    assert rejects["duplicate file"]["count"] == 1
    assert any("broken.mid" in example for entry in rejects.values() for example in entry["examples"])
    assert load_info(built / "PVT-audio")[0].rejects == {reason: entry["count"] for reason, entry in rejects.items()}


def test_validation_passes_and_finds_a_flipped_bit(built, tmp_path, capsys):
    assert validate(built, None) == 0
    copy = tmp_path / "PVT-disc"
    subprocess.run(["cp", "-r", built / "PVT-disc", copy], check=True)
    shard = next((copy / "train").glob("*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    assert validate(copy, None) == 1
    printed = capsys.readouterr().out
    assert "damaged record: 1" in printed
    assert "wrong sha256: 1" in printed


def test_an_archive_one_worker_and_another_order_give_the_same_bytes(
    request_for, built, small_spec, midi_folder, tmp_path
):
    archive = tmp_path / "songs.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(midi_folder.rglob("*.mid"), reverse=True):
            tar.add(path, path.relative_to(midi_folder))
    assert build(request_for(small_spec, archive, tmp_path / "out", workers=LocalWorkers(1))) == 0
    assert contents(tmp_path / "out") == contents(built)


def test_shares_and_a_last_call_give_the_same_bytes(request_for, built, small_spec, midi_folder, tmp_path):
    for share in (ShardSubset(1, 2), ShardSubset(0, 2)):
        assert build(request_for(small_spec, midi_folder, tmp_path, formats=("disc",), subset=share)) == 0
        assert not (tmp_path / "PVT-disc" / "dataset.json").exists()
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord")}
    assert build(request_for(small_spec, midi_folder, tmp_path, formats=("disc",))) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord")} == shards
    assert contents(tmp_path) == {name: digest for name, digest in contents(built).items() if "disc" in name}


def test_growing_keeps_full_shards_and_equals_a_large_build(request_for, small_spec, midi_folder, tmp_path, capsys):
    grown, large = tmp_path / "grown", tmp_path / "large"
    smaller = small_spec.with_clips(ClipCounts(train=6, valid=2))
    assert build(request_for(smaller, midi_folder, grown, formats=("disc",))) == 0
    first = next((grown / "PVT-disc/train").glob("*-00000-of-*"))
    inode = first.stat().st_ino
    assert build(request_for(small_spec, midi_folder, grown, formats=("disc",))) == 0
    assert next((grown / "PVT-disc/train").glob("*-00000-of-*")).stat().st_ino == inode
    assert build(request_for(small_spec, midi_folder, large, formats=("disc",))) == 0
    assert contents(grown) == contents(large)
    capsys.readouterr()
    assert build(request_for(smaller, midi_folder, grown, formats=("disc",))) == 0  # fewer than stand
    assert "nothing to build (more clips than asked for; all are kept)" in capsys.readouterr().out


def test_other_settings_and_too_few_melodies_are_refused(request_for, built, small_spec, midi_folder, tmp_path, capsys):
    with pytest.raises(UserError, match=r"plan\.seed = 0"):
        build(request_for(small_spec.model_copy(update={"seed": 1}), midi_folder, built, formats=("audio",)))
    with pytest.raises(UserError, match="9000 train clips are asked for") as error:
        build(request_for(small_spec.with_clips(ClipCounts(train=9000, valid=1)), midi_folder, tmp_path))
    assert "ACCEPT_FEWER=1" in str(error.value)
    rejects = json.loads((tmp_path / "index" / "rejects.json").read_bytes())
    assert rejects["duplicate file"]["count"] == 1
    assert "       1 duplicate file\n" in capsys.readouterr().out


def test_another_soundfont_is_refused(request_for, built, small_spec, midi_folder, tmp_path):
    other = write_soundfont(tmp_path / "other.sf2", Preset(0), Preset(40), Preset(56))
    spec = small_spec.model_copy(
        update={"rendering": small_spec.rendering.model_copy(update={"soundfont": str(other)})}
    )
    with pytest.raises(UserError, match=r"PVT-disc was built with soundfont = "):
        build(request_for(spec, midi_folder, built, formats=("disc",)))


def test_another_soundfont_in_another_folder_takes_index_and_plan_without_opening_midi(
    request_for, built, small_spec, midi_folder, tmp_path
):
    midi, first, second = (tmp_path / name for name in ("midi", "first", "second"))
    shutil.copytree(midi_folder, midi)
    assert build(request_for(small_spec, midi, first, dry_run=True)) == 0
    for path in midi.rglob("*.mid"):  # as if unchanged, but whoever opened one would find nothing to play
        before = path.stat()
        path.write_bytes(bytes(before.st_size))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    other = tmp_path / "other.sf2"
    content = bytearray(soundfont_path("timgm6mb").read_bytes())
    content[len(content) // 2] ^= 1  # of a sample
    other.write_bytes(content)
    rendering = small_spec.rendering.model_copy(update={"soundfont": str(other)})
    spec = small_spec.model_copy(update={"rendering": rendering})
    assert build(request_for(spec, midi, second, formats=("disc",), index=first / "index")) == 0
    assert not (second / "index").exists()
    info = load_info(second / "PVT-disc")[0]
    assert info.plan_digest == load_info(built / "PVT-disc")[0].plan_digest
    assert info.format_digest != load_info(built / "PVT-disc")[0].format_digest
    assert info.splits["train"].clips == 10


def test_a_read_only_index_and_a_finished_dataset_are_used_without_a_write(
    request_for, built, small_spec, midi_folder, tmp_path, monkeypatch, capsys
):
    """Tests may run as root, whom permissions do not stop, so the answer of the system is replaced."""
    read_only = tmp_path / "read only"
    shutil.copytree(built, read_only, ignore=shutil.ignore_patterns("lock*"))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "read only" not in str(path) and access(path, mode))
    before = {path: path.stat().st_mtime_ns for path in read_only.rglob("*")}
    assert build(request_for(small_spec, midi_folder, read_only)) == 0
    assert "nothing to build" in capsys.readouterr().out
    out = tmp_path / "out"
    assert build(request_for(small_spec, midi_folder, out, formats=("disc",), index=read_only / "index")) == 0
    assert {path: path.stat().st_mtime_ns for path in read_only.rglob("*")} == before
    other = small_spec.model_copy(update={"limits": small_spec.limits.model_copy(update={"notes": 99})})
    with pytest.raises(UserError, match=r"index .*read only.* cannot be written .*omit INDEX="):
        build(request_for(other, midi_folder, tmp_path / "third", index=read_only / "index"))


def test_a_worker_of_another_kind_that_joins_is_refused(built):
    path = next((built / "PVT-disc" / ".build").glob("train-*.json"))
    receipt = Receipt.model_validate_json(path.read_bytes())
    _check_machine(receipt, receipt.machine, accept=False)
    _check_machine(receipt, "another kind", accept=True)
    with pytest.raises(UserError, match=r"a worker of another kind has joined.*ACCEPT_DEVICE=1"):
        _check_machine(receipt, "another kind", accept=False)


@pytest.fixture
def unchecked(monkeypatch):
    """Builds whose presets are not checked, so that faults of the audio remain."""
    monkeypatch.setattr("pipeline.build.build.playable_notes", lambda *where: None)


def test_too_much_faulty_audio_ends_the_run_with_its_counts(
    request_for, small_spec, midi_folder, tmp_path, capsys, unchecked
):
    silent = small_spec.model_copy(update={"rendering": small_spec.rendering.model_copy(update={"gain": 1e-9})})
    with pytest.raises(UserError, match=r"13 of 13 clips have faulty audio.*ACCEPT_FEWER=1"):
        build(request_for(silent, midi_folder, tmp_path, formats=("audio",)))
    rejects = json.loads((tmp_path / "PVT-audio" / "rejects.json").read_bytes())
    assert rejects["audio: silence"]["count"] == 13
    assert "      13 audio: silence\n" in capsys.readouterr().out
    assert not (tmp_path / "PVT-audio" / "dataset.json").exists()


def test_a_dataset_without_a_single_good_clip_is_finished_where_fewer_are_accepted(
    request_for, small_spec, midi_folder, tmp_path, unchecked
):
    silent = small_spec.model_copy(update={"rendering": small_spec.rendering.model_copy(update={"gain": 1e-9})})
    assert build(request_for(silent, midi_folder, tmp_path, formats=("audio",), accept_fewer=True)) == 0
    assert validate(tmp_path, ("audio",)) == 0
    assert load_info(tmp_path / "PVT-audio")[0].splits["train"].clips == 0


def test_a_shard_whose_clips_are_all_at_fault_has_no_rows(built, small_spec, tmp_path):
    plan = Plan.open(built / "index" / f"plan-{load_info(built / 'PVT-disc')[0].plan_digest[:16]}")
    tasks = shard_tasks("disc", "train", 10, small_spec.format("disc").shard_clips)
    receipts = BuildFolder(built, "disc").receipts()
    last = tasks[-1]
    receipts["train", last.number] = receipts["train", last.number].model_copy(update={"levels_dbfs": {}})
    job = Job(small_spec, plan, Rejects(), representation("disc"), {}, BuildFolder(tmp_path, "disc"), tuple(tasks))
    write_clips(job, receipts)
    rows = pq.read_table(built / "PVT-disc" / "clips.parquet").to_pylist()
    assert pq.read_table(tmp_path / "PVT-disc" / "clips.parquet").to_pylist() == rows[: last.start]


def test_force_and_shares_exclude_each_other(request_for, small_spec, midi_folder, tmp_path):
    with pytest.raises(UserError, match="FORCE=1 must not be given with SHARDS="):
        build(request_for(small_spec, midi_folder, tmp_path, force=True, subset=ShardSubset(0, 2)))


def test_force_moves_aside_and_deletes_nothing(request_for, small_spec, midi_folder, tmp_path):
    (tmp_path / "PVT-disc").mkdir()
    (tmp_path / "PVT-disc" / "thesis.tex").write_text("mine")
    assert build(request_for(small_spec, midi_folder, tmp_path, formats=("disc",), force=True)) == 0
    assert (tmp_path / "PVT-disc.old-1" / "thesis.tex").read_text() == "mine"


def test_local_workers_and_a_scheduler_elsewhere_give_the_same_bytes(
    request_for, built, small_spec, midi_folder, tmp_path
):
    local = request_for(small_spec, midi_folder, tmp_path, workers=LocalWorkers(1))
    assert build(local) == 0
    assert contents(tmp_path) == contents(built)


def test_a_worker_killed_in_mid_run_changes_nothing(
    request_for, built, small_spec, midi_folder, dask_cluster, tmp_path
):
    dask_cluster.start_worker()

    def kill() -> None:
        while not any(tmp_path.rglob("*.tfrecord")):
            time.sleep(0.01)
        dask_cluster.kill_worker(-1)

    killer = threading.Thread(target=kill)
    killer.start()
    assert build(request_for(small_spec, midi_folder, tmp_path)) == 0
    killer.join()
    assert contents(tmp_path) == contents(built)


def test_nobody_at_the_scheduler_address_is_one_sentence(request_for, small_spec, midi_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.cluster.workers.CONNECT_SECONDS", 1)
    with pytest.raises(UserError, match=r"no Dask scheduler answers at SCHEDULER=tcp://127\.0\.0\.1:9"):
        build(request_for(small_spec, midi_folder, tmp_path, workers=RemoteWorkers("tcp://127.0.0.1:9")))
