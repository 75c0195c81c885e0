"""Playing of notes whose level, pitch and brightness move, with FluidSynth's generators and pitch bend.

Generators act on all voices of a channel, also on those that are being released. Consecutive notes therefore take MIDI
channels in turn. The automation of a channel is constant from the release of a note to just before its next note-on.

FluidSynth attenuates a note of velocity v by 400 log10(127 / v) cB and truncates the sum of all attenuations to whole
centibels. For a level d (0..1, relative to velocity 127) an offset is added to the velocity's attenuation, such that
the sum is round(400 log10(1 / d)) cB. The level is then 40 log10(d) dB within 0.05 dB.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Float32, Int64
from data_specs.controls.automation import Automation
from data_specs.spec import SYNTH_BLOCK, Instrument

MIDI_CHANNELS = 16
DRUM_CHANNEL = 9
CHANNELS = tuple(channel for channel in range(MIDI_CHANNELS) if channel != DRUM_CHANNEL)
WHEEL_SEMITONES = 24
WHEEL_CENTER = 8192
GEN_FILTER_CUTOFF, GEN_ATTENUATION = 8, 48  # SoundFont 2.04 section 8.1.2
_GUARD_CB = 0.1  # keeps a sum of centibels away from the integer at which truncation changes it

Call = dict[str, Callable[..., Any]]


def _quantized(automation: Automation) -> Int64:
    """Return the synthesizer's settings at each block, int64 [3, B].

    Rows: attenuation in cB below velocity 127; pitch wheel, 0..16383, 8192 for no bend, clipped beyond 24 semitones;
    cents off the preset's filter cutoff.
    """
    bend = np.rint(automation.bend * (WHEEL_CENTER / WHEEL_SEMITONES)) + WHEEL_CENTER
    attenuation, cutoff = np.rint(-400 * np.log10(automation.level)), np.rint(automation.cutoff)
    return np.stack([attenuation, np.clip(bend, 0, 2 * WHEEL_CENTER - 1), cutoff]).astype(np.int64)


def _changes(settings: Int64, first: int, last: int) -> Iterator[tuple[int, int, int, int]]:
    """Iterate over (block, attenuation, bend, cutoff) at the block `first` and at each later block where one changes.

    Args:
        settings: the result of `_quantized`, [3, B].
        last: end of the blocks, exclusive.
    """
    values = settings[:, first:last]
    changed = np.flatnonzero((values[:, 1:] != values[:, :-1]).any(axis=0)) + 1
    blocks = np.concatenate([[0], changed])
    return zip((first + blocks).tolist(), *values[:, blocks].tolist(), strict=True)


@dataclass
class _Channel:
    """Values last sent to one MIDI channel, kept so that only changes are sent.

    `attenuation` is the offset in cB that was added to that of the velocity, `bend` the pitch wheel, `cutoff` in cents.
    """

    instrument: Instrument | None = None
    attenuation: float = 0.0
    bend: int = WHEEL_CENTER
    cutoff: int = 0


def play_expressive(
    call: Call,
    synth: int,
    select: Callable[[int, Instrument], None],
    notes: NDArray[Any],
    instruments: Sequence[Instrument],
    automation: Automation,
    left: Float32,
    right: Float32,
) -> None:
    """Write the audio of notes to `left` and `right`, float32 [N], both contiguous and filled to the end.

    Args:
        call: FluidSynth's functions by name.
        synth: pointer to a new synthesizer with a SoundFont.
        select: function (channel, instrument) that sets the instrument of a channel.
        notes: integers [n, 4]: onset and offset in samples, multiples of 64; pitch; velocity. They are in order and do
            not overlap.
        instruments: the instrument of each note.
        automation: level, bend and cutoff at each block of the clip. Its `instruments` are not used.
    """
    write, set_gen, pitch_bend = (call[f"fluid_synth_{name}"] for name in ("write_float", "set_gen", "pitch_bend"))
    noteon, noteoff = call["fluid_synth_noteon"], call["fluid_synth_noteoff"]
    left_at, right_at = left.ctypes.data, right.ctypes.data
    settings = _quantized(automation)
    states = {channel: _Channel() for channel in CHANNELS}
    for channel in CHANNELS:
        call["fluid_synth_pitch_wheel_sens"](synth, channel, WHEEL_SEMITONES)
    now = 0
    struck_cb = -400 * np.log10(notes[:, 3] / 127) - _GUARD_CB
    for number, (onset, offset, pitch, velocity) in enumerate(notes.tolist()):
        # promise: audio-follows-within-block-2
        channel = CHANNELS[number % len(CHANNELS)]
        state, instrument, own_cb = states[channel], instruments[number], float(struck_cb[number])
        sounding = False
        for block, attenuation, bend, cutoff in _changes(settings, onset // SYNTH_BLOCK, offset // SYNTH_BLOCK):
            time = block * SYNTH_BLOCK
            if time > now:
                write(synth, time - now, left_at, now, 1, right_at, now, 1)
                now = time
            # promise: audio-follows-within-block
            offset_cb = attenuation - own_cb
            if offset_cb != state.attenuation:
                set_gen(synth, channel, GEN_ATTENUATION, offset_cb)
                state.attenuation = offset_cb
            if bend != state.bend:
                pitch_bend(synth, channel, bend)
                state.bend = bend
            if cutoff != state.cutoff:
                set_gen(synth, channel, GEN_FILTER_CUTOFF, cutoff)
                state.cutoff = cutoff
            if not sounding:
                if instrument is not state.instrument:
                    select(channel, instrument)
                    state.instrument = instrument
                noteon(synth, channel, pitch, velocity)
                sounding = True
        write(synth, offset - now, left_at, now, 1, right_at, now, 1)
        now = offset
        noteoff(synth, channel, pitch)
    if len(left) > now:
        write(synth, len(left) - now, left_at, now, 1, right_at, now, 1)
