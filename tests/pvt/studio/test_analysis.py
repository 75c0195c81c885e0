"""Achieved curves of audio."""

from fractions import Fraction

import numpy as np
import pytest

from data_specs.errors import UserError
from pvt.studio.analysis import Analyzer


@pytest.mark.parametrize("seconds", [1, 2])
def test_a_tone_is_measured_in_clips_of_any_length(seconds):
    time_s = np.arange(seconds * 24_000) / 24_000
    audio = (0.2 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
    pitch = np.full(seconds * 75, 69, np.float32)
    found = Analyzer.load()(audio, {"pitch": pitch}, Fraction(75))
    voiced = [level for level in found["lanes"]["pitch"]["achieved"] if level is not None]
    assert len(found["level_db"]) == pytest.approx(100 * seconds, abs=2)
    assert np.median(voiced) == pytest.approx(69, abs=0.1)


def test_audio_that_is_not_finite_is_refused():
    with pytest.raises(UserError, match="not finite"):
        Analyzer.load()(np.full(24_000, np.nan, np.float32), {}, Fraction(75))
