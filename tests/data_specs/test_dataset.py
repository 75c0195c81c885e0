"""shapes.txt and dataset.json: read back as written, and refused in one sentence when they are not right."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_specs.dataset import Feature, clip_features, find_dataset, layout, load_info, parse_shapes, shard_name
from data_specs.errors import UserError
from data_specs.spec import load_spec

FEATURES = clip_features((128, 600), "float32", 600, 3)
INFO = {
    "format_version": 1,
    "format": "encodec",
    "label": "encodec (pvt)",
    "hop": 320,
    "clip_samples": 192_000,
    "spec": load_spec().model_dump(mode="json"),
    "plan_digest": "a",
    "format_digest": "b",
    "format_key": {"transform": "c"},
    "versions": {},
    "devices": [],
    "splits": {split: {"planned": 0, "clips": 0, "shards": []} for split in ("train", "valid")},
    "statistics": None,
    "rejects": {},
    "licences": {},
}


def write(folder, info=INFO, shapes=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(info if isinstance(info, str) else json.dumps(info))
    (folder / "shapes.txt").write_text(shapes or "".join(f"{feature}\n" for feature in FEATURES))
    return folder


def test_shapes_read_back_and_size_records():
    text = "".join(f"{feature}\n" for feature in FEATURES)
    assert text.splitlines()[0] == "data float32 128 600"
    assert parse_shapes(text, "shapes.txt") == FEATURES
    assert FEATURES[3] == Feature("instruments", "float32", (3, 600))
    assert layout(FEATURES).sizes == {"data": 307_200, "velocity": 2400, "chroma": 2400, "instruments": 7200, "id": 16}


@pytest.mark.parametrize(
    "line",
    [
        "data float32",
        "data float64 3",
        "data float32 -3",
        "data float32 3.5",
        "",
        "data float32 ³",
        "data float32 99999999999",
        "data float32 4294967296 4294967296",  # whose product is 0 in 64 bits
        "data float32 " + "9" * 5000,
    ],
)
def test_a_bad_line_of_shapes_is_refused(line):
    good = "velocity float32 600\nchroma float32 600\ninstruments float32 3 600\n"
    with pytest.raises(UserError, match=r"shapes\.txt"):
        parse_shapes(f"{line}\n{good}", "shapes.txt")


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_as_shapes_raises_only_our_error(text):
    with pytest.raises(UserError):
        parse_shapes(text, "shapes.txt")


def test_a_manifest_reads_back(tmp_path):
    info, features = load_info(write(tmp_path / "PVT-encodec"))
    assert features == FEATURES
    assert (info.label, info.codec_digest, info.frame_rate) == ("encodec (pvt)", "c", 75)


@pytest.mark.parametrize(
    ("info", "named"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('"x"', "damaged"),
        ("[" * 100_000, "damaged"),
        ({**INFO, "format_version": 2}, "must have format version 1, got 2"),
        ({**INFO, "hop": "long"}, "hop"),
        ({**INFO, "colour": 1}, "colour"),
        ({key: value for key, value in INFO.items() if key != "splits"}, "splits"),
        ({**INFO, "splits": {}}, "must list the splits train and valid"),
    ],
)
def test_a_bad_manifest_is_one_sentence(tmp_path, info, named):
    with pytest.raises(UserError, match=named) as error:
        load_info(write(tmp_path / "PVT-encodec", info))
    assert "dataset.json" in str(error.value)


def test_unfinished_and_missing_datasets_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="there is no dataset"):
        find_dataset(tmp_path / "data", "cqt")
    (tmp_path / "PVT-cqt").mkdir()
    with pytest.raises(UserError, match="not finished"):
        find_dataset(tmp_path, "cqt")
    folder = write(tmp_path / "PVT-encodec")
    assert find_dataset(tmp_path, "encodec") == find_dataset(folder, "encodec") == folder


def test_shards_are_named_after_split_and_position():
    assert shard_name("cqt", "valid", 3, 8) == "valid/PVT-cqt-valid-00003-of-00008.tfrecord"
