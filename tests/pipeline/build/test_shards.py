"""One shard: what is in it, byte for byte, and what is left out."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from data_specs.controls import control_arrays
from data_specs.dataset import layout
from data_specs.representations import Statistics, representation
from pipeline.build.shards import Receipt, ShardBuilder, ShardTask, encode_chunk, features_of, joint_tasks, shard_tasks
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path


def records_of(builder: ShardBuilder, task: ShardTask, out: Path) -> list[dict[str, bytes]]:
    """The records of a shard as bytes by feature, checked."""
    found = layout(features_of(builder.spec, builder.representations[task.format]))
    records = np.fromfile(out / "PVT-audio" / task.file, np.uint8).reshape(-1, found.size)
    for record in records:
        found.check(record, task.file)
    return [{name: value.tobytes() for name, value in found.values(record).items()} for record in records]


@pytest.fixture(scope="module")
def renderer(small_spec):
    with Renderer(soundfont_path("timgm6mb"), small_spec.rendering, 24_000) as renderer:
        yield renderer


@pytest.fixture
def builder(small_spec, small_plan, renderer):
    return ShardBuilder(small_spec, small_plan, renderer, {"audio": representation("audio")}, "here")


def build(builder: ShardBuilder, task: ShardTask, out: Path) -> Receipt:
    """Build one shard."""
    ((_, receipt),) = builder.build([task], out)
    return receipt


def test_a_shard_holds_its_clips_in_order_as_they_sound(builder, small_spec, small_plan, renderer, tmp_path):
    task = shard_tasks("audio", "train", 10, 4)[2]  # a partial shard whose last chunk is full
    receipt = build(builder, task, tmp_path)
    content = (tmp_path / "PVT-audio" / task.file).read_bytes()
    assert (receipt.bytes, receipt.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    planned = small_plan.clips("train", 8, 10)
    records = records_of(builder, task, tmp_path)
    assert [record["id"].decode() for record in records] == [clip.id for clip in planned] == list(receipt.levels_dbfs)
    for record, clip in zip(records, planned, strict=True):
        audio = np.frombuffer(record["data"], "<f4")
        played = renderer.render(clip.notes, small_spec.instruments[clip.instrument], 192_000)
        np.testing.assert_array_equal(audio, played)
        expected = control_arrays(clip.notes, clip.instrument, 3, 600, 320)
        np.testing.assert_array_equal(np.frombuffer(record["velocity"], "<f4"), expected["velocity"])
        np.testing.assert_array_equal(np.frombuffer(record["chroma"], "<f4"), expected["chroma"])
        np.testing.assert_array_equal(
            np.frombuffer(record["instruments"], "<f4").reshape(3, 600), expected["instruments"]
        )
        power = np.mean(np.square(audio, dtype=np.float64))
        assert receipt.levels_dbfs[clip.id] == pytest.approx(10 * np.log10(power), abs=0.01)
    assert len(content) == layout(features_of(small_spec, builder.representations["audio"])).size * 2


def test_the_same_task_gives_the_same_bytes_after_other_tasks(builder, tmp_path):
    tasks = shard_tasks("audio", "train", 10, 4)
    first = [build(builder, task, tmp_path / "a").sha256 for task in tasks]
    again = [build(builder, task, tmp_path / "b").sha256 for task in reversed(tasks)][::-1]
    assert first == again
    assert len(set(first)) == 3


def test_a_faulty_clip_is_left_out_counted_and_its_neighbours_stay(builder, small_plan, monkeypatch, tmp_path):
    task = shard_tasks("audio", "train", 8, 4)[0]
    whole = build(builder, task, tmp_path / "whole")
    victim = small_plan.clips("train", 1, 2)[0]
    render = builder.renderer.render

    def muted(notes, instrument, samples):
        audio = render(notes, instrument, samples)
        return np.zeros_like(audio) if np.array_equal(notes, victim.notes) else audio

    monkeypatch.setattr(builder.renderer, "render", muted)
    receipt = build(builder, task, tmp_path / "less")
    assert [(fault.id, fault.reason) for fault in receipt.faults] == [(victim.id, "silence")]
    assert receipt.clips == 3
    kept = {record["id"]: record for record in records_of(builder, task, tmp_path / "less")}
    before = {record["id"]: record for record in records_of(builder, task, tmp_path / "whole")}
    assert kept == {key: value for key, value in before.items() if key != victim.id.encode()}
    assert whole.clips == 4


def test_statistics_of_shards_add_up_to_those_of_all_clips(builder, tmp_path):
    tasks = shard_tasks("audio", "train", 10, 4)
    receipts = [build(builder, task, tmp_path) for task in tasks]
    first, *others = (Statistics.from_json(receipt.statistics) for receipt in receipts)
    total = sum(others, first)
    clips = [
        np.frombuffer(record["data"], "<f4").astype(np.float64)
        for task in tasks
        for record in records_of(builder, task, tmp_path)
    ]
    assert total.count == 10 * 192_000
    assert total.mean.item() == pytest.approx(np.mean(clips), abs=1e-12)
    assert total.std.item() == pytest.approx(np.std(clips), rel=1e-9)


def test_an_interrupted_shard_leaves_nothing(builder, monkeypatch, tmp_path):
    task = shard_tasks("audio", "train", 8, 4)[0]
    calls = iter(range(100))

    def failing(*arguments):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return np.full(192_000, 0.1, np.float32)

    monkeypatch.setattr(builder.renderer, "render", failing)
    with pytest.raises(KeyboardInterrupt):
        build(builder, task, tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_chunks_are_padded_to_a_constant_size():
    class Spy:
        source = ""

        def encode(self, audio):
            self.seen = tuple(audio.shape)
            return audio * 2

    spy = Spy()
    audio = np.random.default_rng(0).standard_normal((3, 192_000)).astype(np.float32)
    encoded = encode_chunk({"spy": spy}, audio, 8)["spy"]
    assert spy.seen == (8, 1, 192_000)
    np.testing.assert_array_equal(encoded[:, 0], audio * 2)


def test_formats_built_together_have_the_bytes_of_single_builds_and_encode_once(
    small_spec, small_plan, renderer, tmp_path, monkeypatch
):
    """Shards of disc are twice as long, and one format's split ends within a chunk of the other."""
    storage = small_spec.formats["disc"].model_copy(update={"shard_clips": 8, "chunk_clips": 2})
    latents = storage.model_copy(update={"shard_clips": 4, "dtype": "float32"})
    spec = small_spec.model_copy(update={"formats": {"disc": storage, "encodec": latents}})
    stored = {name: representation(name, "phaseless") for name in ("encodec", "disc")}
    tasks = [*shard_tasks("encodec", "train", 10, 4), *shard_tasks("disc", "train", 7, 8)]
    builder = ShardBuilder(spec, small_plan, renderer, stored, "here")
    alone = {task: build(builder, task, tmp_path / "alone") for task in tasks}
    calls = []
    for name, one in stored.items():
        spy = lambda audio, name=name, encode=one.encode: calls.append(name) or encode(audio)  # noqa: E731
        monkeypatch.setattr(one, "encode", spy)
    joint = joint_tasks(tasks, 8)
    assert [len(group) for group in joint] == [3, 1]
    together = dict(pair for group in joint for pair in builder.build(group, tmp_path / "together"))
    assert together == alone
    for task in tasks:
        files = [tmp_path / name / f"PVT-{task.format}" / task.file for name in ("alone", "together")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert sorted(calls) == ["disc"] + 5 * ["encodec"]  # disc encodes only the clip before its own end
