"""Hostile input, drawn: whatever is read, only this project's own errors come out."""

import json
import random
import shutil
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

from data_specs.controls.curve_files import read_curves
from data_specs.errors import UserError
from data_specs.spec import load_spec, spec_path
from pipeline.tunes import midi_files
from tests.faults.damage import mutated
from tests.faults.fuzz_midi import fuzz
from tests.pipeline.made_songs import song_bytes
from tests.training.conftest import write_dataset
from training.config import config_path, load_config
from training.data.dataset import Dataset

LIES = (-1, 0, 1, 2**31, 2**63, 10**30, 0.5, "", "x" * 10_000, "../../etc/passwd", None, [], {}, [[]], True, "1e9")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Folder and clips of a small disc dataset; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("data"), "disc", {"train": 4, "valid": 1}, shard_clips=2)


@pytest.fixture
def copy(dataset, tmp_path):
    return Path(shutil.copytree(dataset[0], tmp_path / "PVT-disc"))


def refusal(call, *arguments) -> str | None:
    """The sentence with which a call refuses its input; None if it takes it. Any other error ends the test."""
    try:
        call(*arguments)
    except UserError as error:
        return str(error)
    return None


def read_all(folder: Path) -> list:
    """Every clip of the train split, or None in the place of each that our error was raised for."""
    try:
        clips = Dataset(folder)
    except UserError:
        return []
    found = []
    for index in range(len(clips)):
        try:
            found.append(clips[index])
            clips.gather(np.array([index]))
        except UserError:
            found.append(None)
    return found


def test_mutated_midi_files_cost_nothing():
    """300 of what `python -m tests.faults.fuzz_midi` does at length."""
    files = [song_bytes(seed) for seed in range(8)] + [content for _, content in list(midi_files())[:40]]
    result = fuzz(files, range(300))
    assert result["inputs"] == 300
    assert not result["findings"]
    assert result["outcomes"]["read by both"] > 20  # or the mutations leave nothing to compare
    assert result["outcomes"]["read by the tolerant reader"] > 20


@pytest.mark.slow
def test_many_mutated_midi_files_cost_nothing():
    files = [song_bytes(seed) for seed in range(8)] + [content for _, content in midi_files()]
    result = fuzz(files, range(1_000_000, 1_010_000))
    assert not result["findings"]


def test_a_damaged_dataset_raises_only_our_error_and_gives_only_true_clips(dataset, copy):
    """Shards of the right size with bytes changed anywhere, and of any size."""
    written = {clip["id"]: clip for clip in dataset[1]["train"]}
    paths = sorted((copy / "train").iterdir())
    whole = {path: path.read_bytes() for path in paths}
    rng = random.Random(1)
    for number in range(200):
        path = paths[number % len(paths)]
        content = bytearray(whole[path])
        if number % 4:
            for _ in range(rng.choice([1, 3, 50])):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        content = bytes(content) if number % 4 else mutated(bytes(content), rng)
        path.write_bytes(content)
        clips = read_all(copy)
        assert (not clips or None in clips) == (content != whole[path])
        for clip in clips:
            if clip is not None:
                expected = written[clip["id"]]
                assert all(np.array_equal(clip[name].numpy(), expected[name]) for name in ("data", "velocity"))
        path.write_bytes(whole[path])
    assert len([clip for clip in read_all(copy) if clip is not None]) == 4


def places(value, path=()):
    """Every place in a JSON value, as paths of keys and indices."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def with_lie(value, path, lie):
    """A copy of a JSON value with `lie` at `path`."""
    if not path:
        return lie
    made = json.loads(json.dumps(value))
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = lie
    return made


def test_a_manifest_that_lies_raises_only_our_error(copy):
    manifest, shapes = copy / "dataset.json", copy / "shapes.txt"
    value, text = json.loads(manifest.read_bytes()), shapes.read_text()
    rng = random.Random(2)
    everywhere = list(places(value))
    for _ in range(400):
        manifest.write_text(json.dumps(with_lie(value, rng.choice(everywhere), rng.choice(LIES))))
        read_all(copy)
    manifest.write_text(json.dumps(value))
    for _ in range(300):
        words = text.split(" ")
        words[rng.randrange(len(words))] = rng.choice(["0", "-1", "99999999999", "600\nx", "float64", "", "data", "2"])
        shapes.write_text(" ".join(words))
        read_all(copy)
    for _ in range(200):
        manifest.write_bytes(mutated(json.dumps(value).encode(), rng))
        shapes.write_bytes(mutated(text.encode(), rng))
        read_all(copy)
    manifest.write_text(json.dumps(value))
    shapes.write_text(text)
    assert len(read_all(copy)) == 4


@pytest.mark.parametrize("name", ["../secret.tfrecord", "/etc/passwd", "train/../../secret.tfrecord", "train/..", "x"])
def test_a_shard_outside_the_folder_is_not_opened(copy, name):
    manifest = copy / "dataset.json"
    value = json.loads(manifest.read_bytes())
    shard = value["splits"]["train"]["shards"][0]
    shutil.copy(copy / shard["file"], copy.parent / "secret.tfrecord")
    shard["file"] = name
    manifest.write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"splits\.train\.shards\.0\.file"):
        Dataset(copy)


def test_mutated_specs_and_configs_raise_only_our_error(tmp_path):
    path = tmp_path / "mine.toml"
    rng = random.Random(3)
    read = refused = 0
    for source, load in ((spec_path("sample"), load_spec), (config_path("tiny"), lambda p: load_config(p, "edm"))):
        whole = source.read_bytes()
        for _ in range(400):
            path.write_bytes(mutated(whole, rng))
            said = refusal(load, str(path))
            read += said is None
            refused += said is not None
            assert said is None or ("mine.toml" in said and "\n" not in said)
    assert read > 20
    assert refused > 200


def test_values_of_every_key_of_a_spec_are_checked(tmp_path):
    """A lie in the place of each value: named with its key, or harmless."""
    from data_specs.spec import Spec
    from data_specs.strict import parse_model

    value = json.loads(json.dumps(tomllib.loads(spec_path("sample").read_text())))
    for place in places(value):
        for lie in LIES:
            said = refusal(parse_model, Spec, with_lie(value, place, lie), "mine.toml")
            assert said is None or ("mine.toml" in said and len(said) < 500)


def test_huge_curve_files_end_soon(tmp_path):
    """A million points, a file of hundreds of megabytes of digits: read or refused within seconds."""
    path = tmp_path / "curves.json"
    contents = [
        json.dumps({"version": 1, "velocity": [[8 * i / 1_000_000, 0.5] for i in range(1_000_000)]}),
        '{"version": 1, "velocity": [[0, ' + "9" * 1_000_000 + "]]}",
        '{"version": 1, "velocity": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"version": 1, "chroma": [[0, "' + "C" * 10_000_000 + '"]]}',
        "{" + ", ".join(f'"{i}": 0' for i in range(300_000)) + ', "299999": 0}',
    ]
    for content in contents:
        path.write_text(content)
        started = time.process_time()
        assert len(refusal(read_curves, path) or "") < 1000
        assert time.process_time() - started < 30
