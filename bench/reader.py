"""Training batches: this project's reader beside tf.data and compressed npz, on the same clips in one run.

`python -m bench.reader data/PVT-encodec` prints the table. One thread each; random order for those that can.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from training.order import order
from training.shards import Dataset

BATCH = 64
REPEATS = 5
FIRST, CHECKED, UNCHECKED = "this reader, first pass", "this reader, CRC32C", "this reader, later passes"
NPZ_CLIPS = 128  # files written for npz, which takes long to write


def rows(folder: Path) -> list[dict[str, Any]]:
    """Clips per second of each way to read (median), and how many times that this reader does with and without CRC32C.

    The first pass also opens the files and maps their pages.
    """
    count = len(Dataset(folder)) // BATCH * BATCH
    with tempfile.TemporaryDirectory() as scratch:
        files = write_npz(Dataset(folder), Path(scratch))
        opened = Dataset(folder)
        ways: dict[str, Callable[[], int]] = {
            FIRST: lambda: read_ours(Dataset(folder), count, check=True),
            CHECKED: lambda: read_ours(opened, count, check=True),
            UNCHECKED: lambda: read_ours(opened, count, check=False),
            "tf.data": lambda: read_tf(folder, count),
            "npz, compressed": lambda: read_npz(files),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for repeat in range(REPEATS + 1):
            for way, read in ways.items():
                started = time.perf_counter()
                clips = read()
                if repeat:  # the first round fills caches
                    rates[way].append(clips / (time.perf_counter() - started))
    medians = {way: statistics.median(values) for way, values in rates.items()}
    return [
        {
            "way": way,
            "clips_per_second": rate,
            "ratio_crc": medians[CHECKED] / rate,
            "ratio_no_crc": medians[UNCHECKED] / rate,
        }
        for way, rate in medians.items()
    ]


def read_ours(dataset: Dataset, count: int, check: bool) -> int:
    """Batches of a shuffled pass; `check` forgets which records were checked before."""
    if check:
        dataset._touched[:] = False
    indices = order(0, 0, len(dataset))[:count]
    out = dataset.empty(BATCH)
    for start in range(0, count, BATCH):
        dataset.gather(indices[start : start + BATCH], out)
    return count


def read_tf(folder: Path, count: int) -> int:
    """Batches in file order through tf.data with one thread; shuffling would only cost it time."""
    import tensorflow as tf

    from data_specs.tf_data import tf_dataset

    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    for batch in tf_dataset(folder).batch(BATCH).take(count // BATCH).prefetch(2).with_options(options):
        batch["data"].numpy()
    return count


def read_npz(files: list[Path]) -> int:
    """Batches from one compressed file a clip."""
    for start in range(0, len(files), BATCH):
        loaded = [dict(np.load(path)) for path in files[start : start + BATCH]]
        for name in ("data", "velocity", "chroma", "instruments"):
            np.stack([clip[name] for clip in loaded])
    return len(files)


def write_npz(dataset: Dataset, folder: Path) -> list[Path]:
    """The first clips as compressed npz files."""
    files = []
    for index in range(min(NPZ_CLIPS, len(dataset))):
        clip = dataset[index]
        files.append(folder / f"{index}.npz")
        np.savez_compressed(files[-1], **{f.name: np.asarray(clip[f.name]) for f in dataset.features})
    return files


if __name__ == "__main__":
    for row in rows(Path(sys.argv[1])):
        print("{way:24} {clips_per_second:9.0f} clips/s {ratio_crc:7.2f}x {ratio_no_crc:7.2f}x".format(**row))
