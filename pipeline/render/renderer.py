"""Rendering of notes with FluidSynth, by one new synthesizer per clip.

A synthesizer has state that no reset clears (effect delay lines, modulation phase, position in its block), so with one
for all clips the bits of a clip would depend on the clips before it. Loading a SoundFont takes longest, so it is loaded
once and shared between synthesizers.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from data_specs.arrays import AnyFloat, AnyInt, Float32
from data_specs.controls.automation import Automation
from data_specs.errors import UserError
from data_specs.spec import SYNTH_BLOCK, Instrument, Rendering
from pipeline.render.expressive import play_expressive
from pipeline.render.fluidsynth import FAILED, load_fluidsynth

SILENCE_PEAK = 10 ** (-60 / 20)  # -60 dBFS
CLIPPING_PEAK = 1.0  # full scale, above which WAV files and codecs change the waveform
SILENCE, CLIPPING, NON_FINITE = "silence", "clipping", "non-finite"
_CHANNEL = 0


class Renderer:
    """Renderer of notes with one SoundFont. Not thread-safe. Use it as a context manager, or call `close`."""

    def __init__(self, soundfont: Path, rendering: Rendering, sample_rate: int) -> None:
        """Load `soundfont` (1 s for 150 MB) for rendering at `sample_rate` in Hz.

        Raises:
            UserError: FluidSynth is missing, cannot load the file, does not accept a setting, or cannot create a
                synthesizer.
        """
        self._fluidsynth = load_fluidsynth()
        self._soundfont = soundfont
        self._settings = self._call("new_fluid_settings")
        self._master = 0
        try:
            self._configure(rendering, sample_rate)
            self._master = self._new_synth()
            self._font = self._load()
        except BaseException:
            self.close()
            raise

    def render(self, notes: AnyInt, instrument: Instrument, samples: int) -> Float32:
        """Return the audio of one clip, float32 [samples], the mean of the left and right channel.

        Args:
            notes: integers [n, 4]: onset and offset in samples, multiples of 64 within 0..samples; MIDI pitch; velocity
                1..127. A note starts and is released at exactly these samples.
            instrument: bank and program that play all notes.
            samples: length of the clip.

        Raises:
            UserError: the SoundFont lacks the program, or FluidSynth cannot create a synthesizer.
            ValueError: invalid notes, or the renderer is closed.
        """
        events = _events(notes, samples)
        left, right = np.empty(samples, np.float32), np.empty(samples, np.float32)
        with self.synth() as synth:
            self.select(synth, _CHANNEL, instrument)
            self._play(synth, events, left, right)
        return _mean(left, right)

    def render_expressive(
        self, notes: AnyInt, instruments: Sequence[Instrument], samples: int, automation: Automation
    ) -> Float32:
        """Return the audio of one clip whose level, pitch and brightness move, float32 [samples], as in `render`.

        Args:
            notes: as in `render`, sorted by time and not overlapping.
            instruments: bank and program of each note.
            samples: length of the clip.
            automation: values at each block of 64 samples. From the onset on, its level decides the loudness in place
                of the velocity's. Its `instruments` are not used.

        Raises:
            UserError: the SoundFont lacks a program, or FluidSynth cannot create a synthesizer.
            ValueError: invalid notes, another number of instruments than of notes, or the renderer is closed.
        """
        _events(notes, samples)
        if np.any(notes[1:, 0] < notes[:-1, 1]) or len(instruments) != len(notes):
            raise ValueError("notes must be sorted, monophonic and with one instrument each")
        left, right = np.empty(samples, np.float32), np.empty(samples, np.float32)
        with self.synth() as synth:
            select = partial(self.select, synth)
            play_expressive(self._fluidsynth.call, synth, select, notes, instruments, automation, left, right)
        return _mean(left, right)

    @contextmanager
    def synth(self) -> Iterator[int]:
        """Context manager that gives a new synthesizer (a pointer) with the shared SoundFont and deletes it at the end.

        Raises:
            ValueError: the renderer is closed.
            UserError: FluidSynth cannot create it.
        """
        if not self._settings:
            raise ValueError("this renderer is closed; create another one")
        # promise: bits-same-fresh-synthesiser
        synth = self._new_synth()
        try:
            if self._call("fluid_synth_add_sfont", synth, self._font) == FAILED:
                raise UserError(
                    f"FluidSynth cannot share the SoundFont {self._soundfont} ({self._reason()}); free memory and retry"
                )
            try:
                yield synth
            finally:  # a deleted synthesizer would free the shared SoundFont
                self._call("fluid_synth_remove_sfont", synth, self._font)
        finally:
            # promise: bits-same-fresh-synthesiser-2
            self._call("delete_fluid_synth", synth)

    @contextmanager
    def probe(self, instrument: Instrument) -> Iterator[Callable[[int, int, int], Float32]]:
        """Context manager that gives a function which plays single notes for measurements.

        The function is (pitch, velocity, blocks) -> float32 [64 * blocks], the mean of both channels. A note is not
        released within its blocks; the next call ends it. The notes share a synthesizer, so unlike those of `render`
        their bits may depend on the notes before.

        Raises:
            ValueError: the renderer is closed.
            UserError: the SoundFont lacks the program, or FluidSynth cannot create a synthesizer.
        """
        call = self._fluidsynth.call
        with self.synth() as synth:
            self.select(synth, _CHANNEL, instrument)

            def play(pitch: int, velocity: int, blocks: int) -> Float32:
                left, right = np.empty((2, blocks * SYNTH_BLOCK), np.float32)
                left_at, right_at = left.ctypes.data, right.ctypes.data
                call["fluid_synth_all_sounds_off"](synth, _CHANNEL)  # voices end in the block that follows
                call["fluid_synth_write_float"](synth, SYNTH_BLOCK, left_at, 0, 1, right_at, 0, 1)
                call["fluid_synth_noteon"](synth, _CHANNEL, pitch, velocity)
                call["fluid_synth_write_float"](synth, len(left), left_at, 0, 1, right_at, 0, 1)
                return _mean(left, right)

            yield play

    def select(self, synth: int, channel: int, instrument: Instrument) -> None:
        """Set bank and program of `channel` (0..15) of a synthesizer.

        Raises:
            UserError: the SoundFont lacks the program.
        """
        bank, program = instrument.bank, instrument.program
        font_id = self._call("fluid_sfont_get_id", self._font)
        if self._call("fluid_synth_program_select", synth, channel, font_id, bank, program) == FAILED:
            raise UserError(
                f"{self._soundfont.name} has no program {program} in bank {bank} for {instrument.name}; "
                "change the instrument or the SoundFont"
            )

    def close(self) -> None:
        """Free the SoundFont and FluidSynth's settings; may be called twice. Rendering afterwards raises ValueError."""
        if self._settings:
            self._call("delete_fluid_synth", self._master)
            self._call("delete_fluid_settings", self._settings)
            self._settings = self._master = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, name: str, *arguments: object) -> int:
        return self._fluidsynth.call[name](*arguments) or 0  # a null pointer is None

    def _new_synth(self) -> int:
        synth = self._call("new_fluid_synth", self._settings)
        if not synth:
            raise UserError(f"FluidSynth cannot create a synthesizer ({self._reason()}); free memory and retry")
        return synth

    def _load(self) -> int:
        self._fluidsynth.messages.clear()
        font_id = self._call("fluid_synth_sfload", self._master, os.fsencode(self._soundfont), 1)
        if font_id == FAILED:
            raise UserError(
                f"FluidSynth cannot load the SoundFont {self._soundfont} ({self._reason()}); choose another one"
            )
        return self._call("fluid_synth_get_sfont_by_id", self._master, font_id)

    def _reason(self) -> str:
        return "; ".join(self._fluidsynth.messages) or "no reason given"

    def _configure(self, rendering: Rendering, sample_rate: int) -> None:
        numbers = {"synth.sample-rate": float(sample_rate), "synth.gain": rendering.gain}
        integers = {
            "synth.reverb.active": int(rendering.reverb),
            "synth.chorus.active": int(rendering.chorus),
            "synth.dynamic-sample-loading": 0,  # a shared SoundFont must hold all its samples
            "synth.min-note-length": 0,  # otherwise short notes are lengthened to 10 ms
            "synth.cpu-cores": 1,
            "synth.threadsafe-api": 0,
            "synth.lock-memory": 0,  # containers limit locked memory, and FluidSynth warns for each sample
        }
        for name, number in numbers.items():
            if self._call("fluid_settings_setnum", self._settings, name.encode(), number) == FAILED:
                raise UserError(f"{name} must be a value that FluidSynth accepts, got {number}; correct the spec")
        for name, integer in integers.items():
            self._call("fluid_settings_setint", self._settings, name.encode(), integer)

    def _play(self, synth: int, events: list[tuple[int, int, int]], left: Float32, right: Float32) -> None:
        noteon, noteoff, write = (
            self._fluidsynth.call[f"fluid_synth_{name}"] for name in ("noteon", "noteoff", "write_float")
        )
        left_at, right_at = left.ctypes.data, right.ctypes.data
        now = 0
        for time, velocity, pitch in [*events, (len(left), 0, -1)]:
            if time > now:
                write(synth, time - now, left_at, now, 1, right_at, now, 1)
                now = time
            if velocity:
                noteon(synth, _CHANNEL, pitch, velocity)
            elif pitch >= 0:
                noteoff(synth, _CHANNEL, pitch)


def _events(notes: AnyInt, samples: int) -> list[tuple[int, int, int]]:
    """Return two events (sample, velocity, pitch) of each of the notes [n, 4], sorted: its start and its release.

    Velocity 0 is a release; releases come before the notes that start at the same sample.

    Raises:
        ValueError: the notes are not integers, or a time, pitch or velocity is not as `Renderer.render` requires.
    """
    onset, offset, pitch, velocity = np.asarray(notes).reshape(-1, 4).T
    valid = (
        np.issubdtype(onset.dtype, np.integer)
        # promise: note-times-integers-synthesiser-2
        and np.all((onset % SYNTH_BLOCK == 0) & (offset % SYNTH_BLOCK == 0))
        and np.all((onset >= 0) & (onset < offset) & (offset <= samples))
        and np.all((pitch >= 0) & (pitch <= 127) & (velocity >= 1) & (velocity <= 127))
    )
    if not valid:
        raise ValueError(f"notes must be integers on multiples of {SYNTH_BLOCK} within 0..{samples}, velocity 1..127")
    starts = zip(onset.tolist(), velocity.tolist(), pitch.tolist(), strict=True)
    ends = ((time, 0, key) for time, key in zip(offset.tolist(), pitch.tolist(), strict=True))
    return sorted([*starts, *ends])


def _mean(left: Float32, right: Float32) -> Float32:
    left += right
    left *= 0.5
    return left


def audio_fault(audio: Float32) -> str | None:
    """Return the reason for which the audio [N] of a clip is unusable, None if it is usable.

    `silence`: the peak is below -60 dBFS. `clipping`: the peak is above 1.0, full scale. `non-finite`: there is a NaN
    or an infinity.
    """
    peak = float(np.max(np.abs(audio), initial=0.0))
    if not math.isfinite(peak):
        return NON_FINITE
    if peak < SILENCE_PEAK:
        return SILENCE
    if peak > CLIPPING_PEAK:
        return CLIPPING
    return None


def rms_dbfs(audio: AnyFloat) -> float:
    """Return the root mean square of audio [N] in dB re full scale: 0 for a constant 1, -inf for digital silence."""
    power = float(np.mean(np.square(audio, dtype=np.float64)))
    return 10 * math.log10(power) if power > 0 else -math.inf
