"""The EDM that comes with the project: small, described, and audibly led by curves."""

import re

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from data_specs.io.files import file_sha256
from training.model import TrainedModel, load_model
from training.networks import parameter_count
from training.runs import SNAPSHOTS

CURVES = {
    "version": 1,
    "velocity": [[0, 0.25], [2, 0.95], [4, 0.25]],
    "chroma": [[0, "E"], [0.5, "G"], [1, "A"], [1.5, "C"], [2, "E"], [2.5, "D"], [3, "G"], [3.5, "C"]],
    "instruments": "trumpet",
}
CLASSES = np.repeat([4, 7, 9, 0, 4, 2, 7, 0], 8)  # pitch class in each sixteenth of a second


@pytest.fixture(scope="module")
def run() -> TrainedModel:
    return load_model("edm")


@pytest.fixture(scope="module")
def audio(run: TrainedModel) -> np.ndarray:
    """Three samples of 4 s, [3, 96000]."""
    torch.set_num_threads(1)
    return run.sample(CURVES, seconds=4, n=3, seed=1)[:, 0].numpy()


def test_one_file_and_its_card(run: TrainedModel) -> None:
    file = SNAPSHOTS / "edm-phaseless.safetensors"
    assert file.stat().st_size <= 16e6
    card = file.with_suffix(".md").read_text(encoding="utf-8")
    assert re.findall(r"\b[0-9a-f]{64}\b", card) == [file_sha256(file)]
    assert f"{parameter_count(run.network) / 1e6:.1f} M parameters" in card
    assert run.data.codec == "phaseless"  # whose weights come with the project: nothing is fetched
    assert run.representation.digest == run.data.codec_digest


def test_loudness_follows_the_velocity_drawn(audio: np.ndarray) -> None:
    level = np.sqrt(np.square(audio.reshape(3, 64, 1500)).mean(-1))
    drawn = np.interp((np.arange(64) + 0.5) / 16, [0, 2, 4], [0.25, 0.95, 0.25])
    assert np.mean([spearmanr(one, drawn).statistic for one in level]) > 0.6


def test_pitch_follows_the_chroma_drawn(audio: np.ndarray) -> None:
    import librosa

    found = librosa.yin(audio, fmin=110, fmax=700, sr=24_000, frame_length=2048, hop_length=1500, center=True)
    semitones = (12 * np.log2(found[:, :64] / 440) + 69 - CLASSES + 6) % 12 - 6
    settled = np.arange(64) % 8 >= 2  # just after a change two notes sound at once
    assert np.mean(np.abs(semitones[:, settled]) < 0.5) > 0.8


def test_another_instrument_is_another_sound(run: TrainedModel, audio: np.ndarray) -> None:
    """The same curves for a piano: its notes decay, a trumpet's do not."""
    piano = run.sample({**CURVES, "velocity": [[0, 0.7]], "instruments": "piano"}, seconds=4, n=3, seed=1)[:, 0].numpy()
    trumpet = run.sample({**CURVES, "velocity": [[0, 0.7]]}, seconds=4, n=3, seed=1)[:, 0].numpy()

    def kept(audio: np.ndarray) -> float:
        """Level in the last quarter of a note over that in its second, mean over notes."""
        notes = np.sqrt(np.square(audio.reshape(3, 8, 4, 3000)).mean(-1))
        return float(np.mean(notes[..., 3] / (notes[..., 1] + 1e-6)))

    assert kept(piano) < 0.8 * kept(trumpet)
