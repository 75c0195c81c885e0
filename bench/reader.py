"""Training batches per second: the reader of this project, tf.data and compressed npz, on one thread."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.fixtures import Context, dataset
from bench.table import Budget, Row, Work, at_least, interleaved
from training.data.dataset import Dataset
from training.data.shuffle import order

FORMAT = "encodec"
BATCH = 64
REPEATS = 9
NPZ_CLIPS = 128  # number of npz files, which are slow to write
FIRST, CHECKED, UNCHECKED = "first pass", "CRC32C of every record", "later passes"
TF, NPZ = "tf.data", "npz, compressed"


def rows(context: Context) -> list[Row]:
    """Return rows of clips per second, with the readers timed in turn.

    The first pass also opens and maps the files; later passes do not check CRC32C again.
    """
    torch.set_num_threads(1)
    folder = dataset(context.scratch, FORMAT)
    count = len(Dataset(folder)) // BATCH * BATCH
    with tempfile.TemporaryDirectory() as scratch:
        files = write_npz(Dataset(folder), Path(scratch))
        opened = Dataset(folder)
        out = opened.empty(BATCH)  # reused, as in the loader
        ways: dict[str, Work] = {
            FIRST: lambda: read_ours(Dataset(folder), count, out, check=True),
            CHECKED: lambda: read_ours(opened, count, out, check=True),
            UNCHECKED: lambda: read_ours(opened, count, out, check=False),
            TF: lambda: read_tf(folder, count),
            NPZ: lambda: read_npz(files),
        }
        timings = interleaved(ways, REPEATS)

    def row(ours: str, other: str, budget: Budget | None = None, note: str = "") -> Row:
        figure = f"batches of {BATCH} {FORMAT} clips in random order, {ours}, one thread"
        checks = "tf.data reads in the order of the files" if other == TF else "zip checks a CRC32 on every pass"
        return timings.row(figure, ours, other, budget, note or checks, unit="clips/s")

    opened_before = "files opened before; every CRC32C is checked again"
    return [
        row(CHECKED, TF, at_least(6), opened_before),
        row(UNCHECKED, TF, at_least(10)),
        row(UNCHECKED, NPZ, at_least(40)),
        row(CHECKED, NPZ),
        row(FIRST, TF, None, "opens and maps the files, as each new process does, and checks every CRC32C"),
    ]


def read_ours(dataset: Dataset, count: int, out: dict[str, torch.Tensor], check: bool) -> int:
    """Read the first `count` clips of a shuffled pass in batches to the tensors `out`; return `count`.

    With `check`, all records are marked as unread, so that their CRC32C is checked again.
    """
    if check:
        dataset._touched[:] = False
    indices = order(0, 0, len(dataset))[:count]
    for start in range(0, count, BATCH):
        dataset.gather(indices[start : start + BATCH], out)
    return count


def read_tf(folder: Path, count: int) -> int:
    """Read `count` clips in file order by tf.data with one thread, since shuffling would be slower; return `count`."""
    import tensorflow as tf

    from data_specs.tf_data import tf_dataset

    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    for batch in tf_dataset(folder).batch(BATCH).take(count // BATCH).prefetch(2).with_options(options):
        batch["data"].numpy()
    return count


def read_npz(files: list[Path]) -> int:
    """Read one compressed file for each clip, and stack the arrays to batches; return the number of clips."""
    for start in range(0, len(files), BATCH):
        loaded = [dict(np.load(path)) for path in files[start : start + BATCH]]
        for name in ("data", "velocity", "chroma", "instruments"):
            np.stack([clip[name] for clip in loaded])
    return len(files)


def write_npz(dataset: Dataset, folder: Path) -> list[Path]:
    """Write the first NPZ_CLIPS clips (all if fewer) to one compressed npz file each; return the paths."""
    files = []
    for index in range(min(NPZ_CLIPS, len(dataset))):
        clip = dataset[index]
        files.append(folder / f"{index}.npz")
        arrays: dict[str, Any] = {f.name: np.asarray(clip[f.name]) for f in dataset.features}
        np.savez_compressed(files[-1], **arrays)
    return files
