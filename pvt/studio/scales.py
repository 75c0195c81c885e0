"""Fit the scales that map measured dynamics and brightness to controls: `python -m pvt.studio.scales DATA`.

DATA is the folder of an expressive dataset with PVT-audio; its valid clips are measured. The result replaces the
entries `level` and `centroid` of pvt/studio/scales.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from data_specs.analysis.pitch import HOP
from pvt.studio.analysis import SCALES
from training.data.dataset import Dataset
from training.evaluation.adherence import ClipAnalysis, analyze
from training.evaluation.embedders.classifier import WEIGHTS, PvtNet
from training.evaluation.frame_models import FrameModels
from training.evaluation.targets import control_targets

BATCH = 20


def main() -> None:
    """Run the command line: fit the scales and write them to scales.json."""
    parser = argparse.ArgumentParser(prog="python -m pvt.studio.scales", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    arguments = parser.parse_args()
    data = Dataset(arguments.data, "valid", format_name="audio")
    classifier = PvtNet.load(WEIGHTS, "cpu")
    parts, targets = [], []
    for start in range(0, min(arguments.clips, len(data)), BATCH):
        clips = [data[index] for index in range(start, min(start + BATCH, arguments.clips, len(data)))]
        parts.append(analyze(torch.stack([torch.as_tensor(clip["data"]) for clip in clips]), classifier))
        for clip in clips:
            controls = {name: np.asarray(clip[name]) for name in data.info.spec.controls}
            targets.append(control_targets(controls, data.info.frame_rate, parts[-1].samples // HOP))
    models = FrameModels.fit(ClipAnalysis.concatenate(parts).features, targets, len(data.info.spec.instrument_names))
    value = json.loads(SCALES.read_text(encoding="utf-8"))
    value |= {name: np.round(getattr(models, name), 5).tolist() for name in ("level", "centroid")}
    SCALES.write_text(json.dumps(value) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
