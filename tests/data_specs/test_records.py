"""Records against TensorFlow's own serialization, and against damage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_specs.records import (
    RecordError,
    RecordLayout,
    encode_example,
    frame,
)

tf = pytest.importorskip("tensorflow")

FEATURES = st.dictionaries(st.text(max_size=20), st.binary(max_size=300), min_size=1, max_size=6)


def tf_example(features):
    values = {k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for k, v in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString(deterministic=True)


@given(FEATURES)
@settings(max_examples=200, deadline=None)
def test_bytes_are_tensorflows_deterministic_serialization(features):
    assert encode_example(features) == tf_example(features)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_100_000])
def test_sizes_around_each_varint_length(size):
    features = {"data": bytes(size), "id": b"x" * 16}
    assert encode_example(features) == tf_example(features)


def test_framed_file_equals_tensorflows_writer(tmp_path):
    examples = [{"a": bytes([i]) * i, "b": b"\x00\xff"} for i in range(5)]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for features in examples:
            writer.write(tf_example(features))
    ours = b"".join(frame(encode_example(features)) for features in examples)
    assert ours == (tmp_path / "theirs").read_bytes()


@given(st.dictionaries(st.text(max_size=12), st.integers(0, 40_000), min_size=1, max_size=5), st.randoms())
@settings(max_examples=60, deadline=None)
def test_layout_finds_every_value(sizes, random):
    features = {name: random.randbytes(size) for name, size in sizes.items()}
    record = np.frombuffer(frame(encode_example(features)), np.uint8)
    layout = RecordLayout.of(sizes)
    assert layout.size == len(record)
    layout.check(record, "record 0")
    assert {name: value.tobytes() for name, value in layout.values(record).items()} == features
    arrays = {name: np.frombuffer(value, np.uint8) for name, value in features.items()}
    assert layout.record(arrays).tobytes() == record.tobytes()


def test_a_record_takes_arrays_of_its_layout_alone():
    layout = RecordLayout.of({"data": 8, "id": 4})
    data, name = np.arange(4, dtype="<f4").reshape(2, 2)[:, :1], np.zeros(4, np.uint8)
    whole = layout.record({"data": data, "id": name})
    assert layout.values(whole)["data"].view("<f4").tolist() == [0, 2]
    for arrays in ({"data": data}, {"data": data, "id": name[:1]}, {"data": data, "id": name, "other": name}):
        with pytest.raises(ValueError, match="cannot hold other arrays"):
            layout.record(arrays)


def test_layout_check_finds_any_flipped_bit():
    rng = np.random.default_rng(0)
    record = np.frombuffer(frame(encode_example({"data": rng.bytes(50), "id": b"0" * 16})), np.uint8)
    layout = RecordLayout.of({"data": 50, "id": 16})
    for bit in range(8 * layout.size):
        damaged = record.copy()
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RecordError):
            layout.check(damaged, "record 0")
