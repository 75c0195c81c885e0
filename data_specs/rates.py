"""The project's sample rate, and frame rates derived from it."""

from fractions import Fraction

SAMPLE_RATE = 24_000  # Hz, of all audio and of the sample indices of notes and curve points


def frame_rate(hop: int) -> Fraction:
    """Return the exact number of frames per second for frames `hop` samples apart."""
    return Fraction(SAMPLE_RATE, hop)
