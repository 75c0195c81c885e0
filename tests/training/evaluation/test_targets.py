from fractions import Fraction

import numpy as np
import pytest

from data_specs.controls import control_arrays
from training.evaluation.features import FRAME_S
from training.evaluation.targets import STABLE_S, control_targets

RATE = Fraction(75)
ONE = np.ones((3, 600), np.float32) * np.array([[1], [0], [0]], np.float32)


def drawn(velocity, chroma, instruments=ONE):
    as_array = [np.asarray(x, np.float32) for x in (velocity, chroma)]
    return control_targets(dict(zip(("velocity", "chroma"), as_array, strict=True), instruments=instruments), RATE, 800)


@pytest.mark.parametrize("hop", [320, 100])
def test_notes_of_real_controls_are_read_as_they_were_written(clips, hop):
    """The notes themselves are the reference: every note strikes, within a frame, with its velocity and pitch."""
    for notes, instrument in zip(clips.notes, clips.instrument, strict=True):
        frames = 192_000 // hop
        found = control_targets(control_arrays(notes, int(instrument), 3, frames, hop), Fraction(24_000, hop), 800)
        starts = notes[:, 0] / 24_000
        # Two notes of one pitch and velocity without a rest between them are one note in the curves.
        joined = (notes[1:, 2] % 12 == notes[:-1, 2] % 12) & (notes[1:, 3] == notes[:-1, 3])
        joined &= notes[1:, 0] == notes[:-1, 1]
        starts = starts[np.concatenate([[True], ~joined])]
        assert len(found.onsets) == len(starts)
        assert np.abs(found.onsets - starts).max() <= hop / 24_000
        kept = notes[np.concatenate([[True], ~joined])]
        np.testing.assert_allclose(found.onset_velocity, kept[:, 3] / 127, atol=1e-6)
        assert (found.instrument == instrument).all()
        samples = np.arange(800) * 240
        for onset, offset, pitch, _ in notes:
            inside = (samples > onset + hop) & (samples < offset - hop)
            assert (found.pitch_class[inside] == pitch % 12).all()
            assert found.note[inside].all()
        covered = np.zeros(800, bool)
        for onset, offset, *_ in notes:
            covered |= (samples > onset - hop) & (samples < offset + hop)
        assert found.rest[~covered].all()


def test_settled_frames_keep_away_from_changes_on_both_sides():
    velocity = np.where(np.arange(600) < 300, 0.5, 0.0)
    found = drawn(velocity, velocity * 0)
    edge = 299.5 / 75
    times = np.arange(800) * FRAME_S
    away = np.minimum(np.abs(times - edge), np.abs(times))  # the first note starts with the clip
    assert found.stable[away > STABLE_S + 1 / 75].all()
    assert not found.stable[away < STABLE_S - 1 / 75].any()


def test_a_drawn_ramp_strikes_once_and_a_step_strikes_again():
    ramp = np.linspace(0.1, 1, 600)
    assert len(drawn(ramp, np.full(600, 4 / 11)).onsets) == 1
    step = np.where(np.arange(600) < 200, 0.4, 0.6)
    assert drawn(step, np.full(600, 4 / 11)).onsets.tolist() == pytest.approx([0, 199.5 / 75])


def test_a_free_feature_asks_for_nothing():
    velocity = np.where(np.arange(600) % 60 < 40, 0.5, 0.0)
    chroma = np.where(velocity > 0, 7 / 11, 0)
    free = np.full(600, -1.0)

    no_velocity = drawn(free, chroma)
    assert not no_velocity.rest.any()
    assert no_velocity.note.any()
    assert not len(no_velocity.onsets)
    assert not len(no_velocity.velocity_onsets)

    no_chroma = drawn(velocity, free)
    assert (no_chroma.pitch_class == -1).all()
    assert no_chroma.rest.any()
    assert len(no_chroma.velocity_onsets) == 10
    assert not len(no_chroma.onsets)

    nothing = drawn(free, free, -ONE)
    assert not (nothing.note | nothing.rest).any()
    assert (drawn(free, free, np.full((3, 600), -1.0)).instrument == -1).all()


def test_the_edge_of_a_free_span_is_no_onset():
    velocity, chroma = np.full(600, 0.5), np.full(600, 5 / 11)
    velocity[100:200] = chroma[100:200] = -1
    assert drawn(velocity, chroma).onsets.tolist() == [0]


def test_chroma_zero_alone_may_be_a_rest_or_a_c():
    found = drawn(np.full(600, -1.0), np.zeros(600))
    assert not (found.note | found.rest).any()
    assert (found.pitch_class == -1).all()
    assert (drawn(np.full(600, 0.3), np.zeros(600)).pitch_class == 0).all()
