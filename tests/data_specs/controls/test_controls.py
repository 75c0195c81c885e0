"""Controls against the definition read frame by frame, and against what a pitch tracker hears."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_specs.controls import CHROMA, FEATURES, INSTRUMENTS, UNCONDITIONED, VELOCITY, control_arrays
from data_specs.spec import Instrument, Rendering
from tests.published_controls import Controls

SAMPLES = 192_000


def controls(*arguments: Any) -> Controls:
    return Controls(**control_arrays(*arguments))


@st.composite
def melodies(draw: st.DrawFn) -> np.ndarray:
    edges = sorted(draw(st.sets(st.integers(0, SAMPLES // 64), max_size=40)))
    notes, last = [], 0
    for onset, offset in zip(edges[::2], edges[1::2], strict=False):
        onset = last if last and draw(st.booleans()) else onset  # some notes follow on without a rest
        notes.append([64 * onset, 64 * offset, draw(st.integers(0, 127)), draw(st.integers(1, 127))])
        last = offset
    return np.array(notes, np.int32).reshape(-1, 4)


@given(melodies(), st.sampled_from([(320, 600), (100, 1921), (64, 3001)]), st.integers(0, 2))
def test_equals_the_definition(notes: np.ndarray, frames_of: tuple[int, int], instrument: int) -> None:
    hop, frames = frames_of
    made = controls(notes, instrument, 3, frames, hop)
    velocity, chroma = np.zeros(frames), np.zeros(frames)
    for onset, offset, pitch, value in notes.tolist():
        for frame in range(frames):
            if onset <= frame * hop < offset:
                velocity[frame], chroma[frame] = value / 127, (pitch % 12) / 11
    assert np.array_equal(made.velocity, velocity.astype(np.float32))
    assert np.array_equal(made.chroma, chroma.astype(np.float32))
    assert np.array_equal(made.instruments, np.eye(3, dtype=np.float32)[:, [instrument] * frames])
    assert made.velocity.dtype == made.chroma.dtype == made.instruments.dtype == np.float32


def test_edges_are_onset_inclusive_offset_exclusive_and_frame_1920_is_after_the_end() -> None:
    notes = np.array([[6400, 12_800, 71, 127], [12_800, SAMPLES, 61, 1]], np.int32)
    made = controls(notes, 0, 1, 1921, 100)
    assert made.velocity[[63, 64, 127, 128, 1919, 1920]].tolist() == pytest.approx([0, 1, 1, 1 / 127, 1 / 127, 0])
    assert made.chroma[[64, 128, 1920]].tolist() == pytest.approx([1, 1 / 11, 0])


def test_a_clip_without_notes_is_all_rest() -> None:
    made = controls(np.zeros((0, 4), np.int32), 1, 2, 10, 320)
    assert not made.velocity.any()
    assert not made.chroma.any()
    assert made.instruments.tolist() == [[0] * 10, [1] * 10]


@pytest.mark.parametrize(
    "notes",
    [
        [[0, 640, 60, 1], [576, 1280, 60, 1]],  # overlap
        [[640, 1280, 60, 1], [0, 640, 60, 1]],  # order
        [[640, 640, 60, 1]],  # empty
    ],
)
def test_notes_off_the_contract_are_refused(notes: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="overlap"):
        controls(np.array(notes, np.int32), 0, 3, 600, 320)


@pytest.mark.parametrize("instrument", [-1, 3])
def test_an_instrument_outside_the_list_is_refused(instrument: int) -> None:
    with pytest.raises(ValueError, match="instrument"):
        controls(np.zeros((0, 4), np.int32), instrument, 3, 600, 320)


def test_names() -> None:
    assert FEATURES == (VELOCITY, CHROMA, INSTRUMENTS) == ("velocity", "chroma", "instruments")
    assert UNCONDITIONED == -1


@pytest.mark.parametrize("program", [0, 40, 56], ids=["piano", "violin", "trumpet"])
def test_a_pitch_tracker_hears_the_chroma(program: int) -> None:
    import librosa

    from pipeline.render.renderer import Renderer
    from pipeline.render.soundfont import soundfont_path

    rng = np.random.default_rng(program)
    lengths = rng.integers(90, 260, 14) * 64
    onsets = np.cumsum(lengths + 1920) - lengths
    columns = [onsets, onsets + lengths, rng.integers(48, 73, 14), rng.integers(40, 128, 14)]
    notes = np.stack(columns, axis=1).astype(np.int32)
    with Renderer(soundfont_path("timgm6mb"), Rendering(soundfont="timgm6mb"), 24_000) as renderer:
        audio = renderer.render(notes, Instrument(name="any", program=program), SAMPLES)
    window = 1024
    f0, voiced, _ = librosa.pyin(audio, fmin=110, fmax=660, sr=24_000, frame_length=window, hop_length=320)
    made = controls(notes, 0, 1, 600, 320)
    # A frame counts where its whole window lies in one note; elsewhere two notes, or note and rest, are heard at once.
    inner = notes + np.array([window // 2, -window // 2, 0, 0])
    counted = voiced[:600] & (controls(inner, 0, 1, 600, 320).velocity > 0)
    heard = np.round(librosa.hz_to_midi(f0[:600][counted])).astype(int) % 12
    agrees = heard == np.round(made.chroma[counted] * 11)
    assert counted.sum() > 0.5 * (made.velocity > 0).sum()
    assert agrees.mean() >= 0.95
