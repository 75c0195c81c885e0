"""The tf.data view against the arrays that were written."""

import numpy as np
import pytest

from data_specs.dataset import DatasetInfo, Shard, Split, clip_features
from data_specs.records import encode_example, frame
from data_specs.spec import load_spec
from data_specs.tf_data import tf_dataset

pytest.importorskip("tensorflow")


def test_tensorflow_users_get_shaped_arrays_and_ids(tmp_path):
    features = clip_features((16, 600), "int16", 600, 3)
    rng = np.random.default_rng(0)
    clips = [
        {f.name: rng.integers(0, 1024, f.shape).astype(f.stored_dtype) for f in features} | {"id": b"%016x" % number}
        for number in range(3)
    ]
    path = tmp_path / "train" / "a.tfrecord"
    path.parent.mkdir()
    with open(path, "wb") as file:
        for clip in clips:
            file.write(
                frame(
                    encode_example({name: value if name == "id" else value.tobytes() for name, value in clip.items()})
                )
            )
    shard = Shard(file="train/a.tfrecord", clips=3, bytes=path.stat().st_size, sha256="0" * 64)
    info = DatasetInfo(
        format_version=1,
        format="disc",
        label="disc (pvt)",
        hop=320,
        clip_samples=192_000,
        spec=load_spec(),
        plan_digest="",
        format_digest="",
        format_key={},
        versions={},
        devices=(),
        splits={"train": Split(planned=3, clips=3, shards=(shard,)), "valid": Split(planned=0, clips=0, shards=())},
        statistics=None,
        rejects={},
        licences={},
    )
    (tmp_path / "dataset.json").write_text(info.model_dump_json())
    (tmp_path / "shapes.txt").write_text("".join(f"{feature}\n" for feature in features))
    read = list(tf_dataset(tmp_path, "train"))
    assert len(read) == 3
    for expected, found in zip(clips, read, strict=True):
        assert found["id"].numpy() == expected["id"]
        for feature in features:
            np.testing.assert_array_equal(found[feature.name].numpy(), expected[feature.name])
            assert found[feature.name].dtype.name == feature.dtype
