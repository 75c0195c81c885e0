"""A folder of recordings of several formats, rates and numbers of channels, with files that must be rejected."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 44_100


def melody(seed: int, rate: int = RATE, notes: int = 3) -> np.ndarray:
    """Notes of half a second with harmonics and short gaps, drawn from a seed."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(notes):
        time = np.arange(rate // 2) / rate
        hertz = 440 * 2 ** (rng.integers(-12, 13) / 12)
        fade = np.minimum(1, np.minimum(time, time[-1] - time) / 0.01)
        tone = sum(np.sin(2 * np.pi * k * hertz * time) * rng.uniform(0.2, 1) / k for k in range(1, 8))
        parts += [0.15 * rng.uniform(0.3, 1) * fade * tone, np.zeros(rate // 20)]
    return np.concatenate(parts)


def write_recordings(folder: Path) -> Path:
    kinds = [
        ("a.wav", 44_100, 2),
        ("b.flac", 48_000, 1),
        ("c.ogg", 32_000, 2),
        ("d.mp3", 44_100, 1),
        ("e.aiff", 24_000, 7),
    ]
    for label in ("oboe", "voice"):
        (folder / label).mkdir(parents=True)
        for number, (name, rate, channels) in enumerate(kinds):
            sound = melody(10 * number + len(label), rate)
            soundfile.write(folder / label / name, np.repeat(sound[:, None], channels, axis=1), rate)
    soundfile.write(folder / "root.wav", melody(99), RATE)
    soundfile.write(folder / "oboe" / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "oboe" / "clipped.wav", np.clip(20 * melody(98), -1, 1), RATE)
    soundfile.write(folder / "oboe" / "tick.wav", np.concatenate([np.zeros(RATE), [0.5], np.zeros(RATE)]), RATE)
    (folder / "oboe" / "cut.wav").write_bytes((folder / "oboe" / "a.wav").read_bytes()[:50_000])
    (folder / "voice" / "junk.mp3").write_bytes(b"no audio at all")
    (folder / "voice" / "copy.wav").write_bytes((folder / "voice" / "a.wav").read_bytes())
    (folder / "notes.txt").write_text("a text")
    return folder


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings") / "all")
