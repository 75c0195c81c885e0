"""Samples on the way are files one can hear and look at."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from training.config import load_config
from training.data.dataset import Dataset
from training.log import RunLog
from training.metadata import DatasetMetadata
from training.model import build_model
from training.preview import log_samples

CONFIG = """
[training]
steps = 10
batch = 4
seconds = 1
[logging]
listen_clips = 2
[diffusion.discdpm]
steps = 4
[network.encodec]
kind = "unet"
channels = 4
skip = 1
factors = [2]
[network.cqt]
kind = "unet"
channels = 2
factors = [2]
[network.disc]
kind = "unet"
channels = 4
factors = [2]
code_embedding = 2
"""


@pytest.mark.parametrize(("paradigm", "format_name"), [("edm", "encodec"), ("ddpm", "cqt"), ("discdpm", "disc")])
def test_sounds_and_figures(make_dataset, tmp_path, paradigm, format_name):
    path = tmp_path / "small.toml"
    path.write_text(CONFIG)
    folder, _ = make_dataset(tmp_path, format_name, {"train": 2, "valid": 2})
    data = Dataset(folder, "valid")
    model = build_model(load_config(str(path), paradigm, format_name), DatasetMetadata.of(data.info, data.features))
    model.network.eval()
    for name in ("one", "two"):
        with RunLog(tmp_path, 0, 10, main=True) as log:
            log_samples(model, data, log, tmp_path / name)
    frames = data.crop_frames(1)
    for index in range(2):
        for kind in ("sample", "real"):
            audio, rate = soundfile.read(tmp_path / "one" / f"{kind}-{index}.wav")
            assert rate == 24_000
            assert len(audio) == (frames - 1) * 100 if format_name == "cqt" else frames * 320
            assert np.abs(audio).max() > 0
        sounds = [(tmp_path / name / f"sample-{index}.wav").read_bytes() for name in ("one", "two")]
        assert sounds[0] == sounds[1]  # controls and noise stay the same
        image = np.asarray(Image.open(tmp_path / "one" / f"sample-{index}.png"))
        assert image.shape[2] == 3
        assert image.std() > 10
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
