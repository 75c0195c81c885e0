"""Time of training steps of every paradigm and format with the config `tiny`, by the command line."""

import statistics
from pathlib import Path

import torch

from bench.fixtures import Context, dataset, run_python
from bench.table import Row
from data_specs.formats import FORMATS
from training.config import load_config
from training.diffusion import PARADIGMS
from training.log import read_log

STEPS, WARM_UP = 14, 4
CONFIG = "tiny"
ALONE = ("--set", "logging.valid_every=0 logging.listen_every=0")  # validation and previews are not steps


def rows(context: Context) -> list[Row]:
    """Return rows of milliseconds per step, and of peak memory, of each paradigm and format.

    Distilled paradigms are left out. Memory is that of the process, or of tensors on a CUDA GPU if there is one.
    """
    pairs = [(name, f) for name, kind in PARADIGMS.items() for f in FORMATS if f in kind.formats and not kind.distilled]
    return [row for paradigm, format_name in pairs for row in measured(context.scratch, paradigm, format_name)]


def measured(scratch: Path, paradigm: str, format_name: str) -> list[Row]:
    """Return the rows of step time and peak memory of one paradigm and format.

    A run of STEPS steps is trained in `scratch`; the first WARM_UP lines of its log are left out.
    """
    run = scratch / "runs" / f"{paradigm}-{format_name}"
    data = dataset(scratch, format_name)
    options = ["--paradigm", paradigm, "--format", format_name, "--config", CONFIG, "--steps", str(STEPS), *ALONE]
    run_python("training", "train", *options, "--data", str(data), "--run", str(run))
    lines = [line for line in read_log(run) if "loss" in line][WARM_UP:]
    batch = load_config(CONFIG, paradigm, format_name).training.batch
    rate = statistics.median(line["clips_per_second"] for line in lines)
    waits = statistics.mean(line["wait_share"] for line in lines)
    memory = max(line["peak_memory_mb"] for line in lines)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    what = f"{paradigm} on {format_name}, CONFIG={CONFIG}, batch {batch}, {device}"
    return [
        Row(f"step of {what}", "ms", 1e3 * batch / rate, note=f"{waits:.1%} of the time waiting for data"),
        Row(f"peak memory of {what}", "MB", memory),
    ]
