"""A `tf.data.Dataset` of a dataset folder, for users of TensorFlow. Never import it beside PyTorch training."""

from pathlib import Path
from typing import Any

from data_specs.dataset import load_info


def tf_dataset(folder: str | Path, split: str = "train", **options: Any) -> Any:
    """Return a tf.data.Dataset with one dict per clip of a split, in the order of the plan.

    Keys are the features of shapes.txt, with their shapes and dtypes, and `id` (a string tensor of 16 hex digits).

    Args:
        folder: the folder with dataset.json, for example data/PVT-cqt.
        split: train or valid.
        options: passed to tf.data.TFRecordDataset, for example num_parallel_reads.

    Raises:
        UserError: `folder` is not a finished dataset, or its files are damaged.
        KeyError: no such split.
    """
    import tensorflow as tf

    info, features = load_info(Path(folder))
    described = {name: tf.io.FixedLenFeature([], tf.string) for name in (*(f.name for f in features), "id")}

    def parse(record: Any) -> dict[str, Any]:
        values = tf.io.parse_single_example(record, described)
        arrays = {f.name: tf.reshape(tf.io.decode_raw(values[f.name], f.dtype), f.shape) for f in features}
        return {**arrays, "id": values["id"]}

    files = [str(Path(folder) / shard.file) for shard in info.splits[split].shards]
    return tf.data.TFRecordDataset(files, **options).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
