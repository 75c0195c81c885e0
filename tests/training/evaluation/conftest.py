"""Real clips for measuring: random melodies, rendered once a session."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from data_specs.controls import control_arrays
from data_specs.spec import load_spec
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path
from tests.published_controls import Controls
from training.evaluation.embedders.classifier import PvtNet

SAMPLES = 192_000
HOP = 320


def melody(rng: np.random.Generator, samples: int = SAMPLES) -> np.ndarray:
    """A random melody, int32 [n, 4]: onset, offset (multiples of 64 samples), pitch 48..72, modulated velocity."""
    notes, time, pitch = [], 0, int(rng.integers(53, 68))
    hz, phase = np.exp(rng.uniform(np.log(1 / 64), 0)), rng.uniform(0, 2 * np.pi)
    beat = int(rng.integers(60, 150)) * 64
    while time < samples - beat:
        length = int(beat * rng.choice([0.5, 1, 1, 2]) // 64 * 64)
        if rng.random() < 0.15 and notes:
            time += length
            continue
        pitch = int(np.clip(pitch + rng.choice([-5, -4, -2, -1, 0, 1, 2, 3, 5, 7]), 48, 72))
        gate = int(length * rng.choice([0.6, 0.9, 1.0]) // 64 * 64)
        sine = 1 - 0.8 * (1 + np.sin(2 * np.pi * hz * time / 24_000 + phase)) / 2
        velocity = int(np.clip(round(float(rng.integers(80, 120)) * sine), 1, 127))
        notes.append((time, min(time + gate, samples), pitch, velocity))
        time += length
    return np.array(notes, np.int32)


@dataclass(frozen=True)
class Clips:
    """Rendered clips with all that is true of them."""

    audio: torch.Tensor  # [B, 1, N]
    notes: list[np.ndarray]
    instrument: np.ndarray  # [B]

    def controls(self, hop: int = HOP) -> list[Controls]:
        frames = self.audio.shape[-1] // hop
        return [
            Controls(**control_arrays(n, int(i), 3, frames, hop))
            for n, i in zip(self.notes, self.instrument, strict=True)
        ]


def rendered(count: int, seed: int) -> Clips:
    spec = load_spec("sample")
    notes = [melody(np.random.default_rng([seed, i])) for i in range(count)]
    with Renderer(soundfont_path("timgm6mb"), spec.rendering, 24_000) as renderer:
        audio = [renderer.render(n, spec.instruments[i % 3], SAMPLES) for i, n in enumerate(notes)]
    return Clips(torch.from_numpy(np.stack(audio))[:, None], notes, np.arange(count) % 3)


@pytest.fixture(scope="session", autouse=True)
def _no_download():
    """Nothing here may fetch VGGish's weights: without a file of their own, tests find none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVT_VGGISH", "/nowhere/vggish.pth")
        yield


@pytest.fixture(scope="session")
def clips() -> Clips:
    """24 clips, thirds of piano, violin and trumpet."""
    return rendered(24, seed=1)


@pytest.fixture(scope="session")
def other_clips() -> Clips:
    """48 clips, thirds of piano, violin and trumpet, none of them in `clips`."""
    return rendered(48, seed=2)


@pytest.fixture(scope="session")
def net() -> PvtNet:
    """The shipped classifier."""
    return PvtNet.load()
