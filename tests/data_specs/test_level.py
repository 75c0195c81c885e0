"""Loudness and listening gain against values of ITU-R BS.1770-4 and EBU Tech 3341."""

import numpy as np
import pytest
from scipy.signal import lfilter

from data_specs.level import listening_gain, loudness


def sine(db, seconds, rate, hertz=997):
    return 10 ** (db / 20) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [24_000, 48_000])
def test_a_full_scale_sine_has_the_level_of_the_standard(rate):
    assert loudness([sine(0, 5, rate)], rate) == pytest.approx(-3.01, abs=0.05)
    assert loudness([sine(-23, 5, rate)], rate) == pytest.approx(-26.01, abs=0.05)


def test_quiet_parts_are_gated():
    parts = [sine(-36, 10, 48_000), sine(-23, 60, 48_000), sine(-36, 10, 48_000)]
    assert loudness([np.concatenate(parts)], 48_000) == pytest.approx(-26.01, abs=0.1)  # EBU Tech 3341, case 3
    assert loudness([sine(-20, 5, 24_000), np.zeros(240_000)], 24_000) == pytest.approx(-23.01, abs=0.1)


def test_gain_reaches_the_target_unless_a_peak_is_in_the_way():
    quiet = sine(-40, 3, 24_000)
    assert loudness([quiet * listening_gain([quiet], 24_000)], 24_000) == pytest.approx(-20, abs=0.05)
    click = quiet.copy()
    click[100] = 0.5
    assert np.abs(click * listening_gain([click], 24_000)).max() == pytest.approx(10 ** (-1 / 20))
    assert listening_gain([np.zeros(24_000)], 24_000) == 1.0


def test_loudness_is_pyloudnorms():
    """Coloured noise with pauses, below and above the gates."""
    meter = pytest.importorskip("pyloudnorm").Meter(24_000)
    rng = np.random.default_rng(0)
    for tilt in (0.0, 0.9):
        noise = rng.standard_normal(8 * 24_000)
        sound = lfilter([0.1], [1.0, -tilt], noise) * np.repeat([0.5, 0.0, 1.0, 0.02], 2 * 24_000)
        assert loudness([sound], 24_000) == pytest.approx(meter.integrated_loudness(sound), abs=0.1)
