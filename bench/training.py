"""Training steps: every pair of paradigm and format at the `tiny` config, run by the command line."""

import re
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from bench.fixtures import ROOT, Context, dataset
from bench.table import Row
from data_specs.formats import FORMATS
from training.config import config_path, load_config
from training.diffusion import PARADIGMS
from training.log import read_log

PART = "training"
STEPS, WARM_UP = 14, 4
CONFIG = "tiny"


def rows(context: Context) -> list[Row]:
    """Milliseconds a step and the largest resident memory of the process, or the GPU's where there is one."""
    pairs = [(name, f) for name, kind in PARADIGMS.items() for f in FORMATS if f in kind.formats]
    return [row for paradigm, format_name in pairs for row in measured(context.scratch, paradigm, format_name)]


def measured(scratch: Path, paradigm: str, format_name: str) -> list[Row]:
    """Two rows of one pair."""
    run = scratch / "runs" / f"{paradigm}-{format_name}"
    data = dataset(scratch, format_name)
    config = steps_alone(scratch / f"{CONFIG}.toml")
    options = ["--paradigm", paradigm, "--format", format_name, "--config", str(config), "--steps", str(STEPS)]
    command = [sys.executable, "-m", "training", "train", *options, "--data", str(data), "--run", str(run)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"python -m training train {' '.join(options)} failed: {done.stderr.strip()[-300:]}")
    lines = [line for line in read_log(run) if "loss" in line][WARM_UP:]
    batch = load_config(CONFIG, paradigm, format_name).training.batch
    rate = statistics.median(line["clips_per_second"] for line in lines)
    waits = statistics.mean(line["wait_share"] for line in lines)
    memory = max(line["peak_memory_mb"] for line in lines)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    what = f"{paradigm} on {format_name}, CONFIG={CONFIG}, batch {batch}, {device}"
    return [
        Row(PART, f"step of {what}", "ms", 1e3 * batch / rate, note=f"{waits:.1%} of the time waiting for data"),
        Row(PART, f"peak memory of {what}", "MB", memory),
    ]


def steps_alone(path: Path) -> Path:
    """Write the config without validation and previews, which are not steps."""
    text = config_path(CONFIG).read_text(encoding="utf-8")
    path.write_text(re.sub(r"^(valid_every|listen_every) = \d+", r"\1 = 0", text, flags=re.MULTILINE), encoding="utf-8")
    return path
