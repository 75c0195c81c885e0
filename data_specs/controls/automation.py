"""Expression of a clip inside its notes."""

from dataclasses import dataclass

from data_specs.arrays import Float64, Int64

BLOCK = 64  # samples for which FluidSynth keeps its parameters


@dataclass(frozen=True)
class Automation:
    """Continuous parameters of a clip, one value per synthesizer block of 64 samples. n notes, B blocks.

    Attributes:
        level: float64 [B], MIDI velocity / 127 as it moves within notes, above 0 and at most 1; continues in rests.
        bend: float64 [B], semitones off the struck pitch; 0 outside glides and vibratos.
        brightness: float64 [B] in 0..1, 1 for an open filter, 0 for the lowest cutoff.
        cutoff: float64 [B], cents off the preset's filter cutoff, at most 0.
        instruments: int64 [n], index of the instrument of each note.
    """

    level: Float64
    bend: Float64
    brightness: Float64
    cutoff: Float64
    instruments: Int64
