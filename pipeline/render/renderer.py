"""From integer notes to audio: FluidSynth, one fresh synthesiser a clip, so a clip never depends on those before it.

FluidSynth keeps state that no reset clears (effect delay lines, modulation phase, the place in its block), hence a
clip's bits would depend on the worker's history. Loading a SoundFont is what is slow, so it is loaded once and shared.
"""

import importlib.util
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from data_specs.errors import UserError
from data_specs.io.files import file_sha256
from data_specs.spec import SYNTH_BLOCK, Instrument, Rendering
from pipeline.render.fluidsynth import FAILED, fluid

TIMGM6MB = "timgm6mb"
SILENCE_PEAK = 10 ** (-60 / 20)  # -60 dBFS: below this nobody hears what the controls claim
CLIPPING_PEAK = 1.0  # full scale: beyond it neither a WAV file nor a codec keeps the waveform
SILENCE, CLIPPING, NON_FINITE = "silence", "clipping", "non-finite"
_CHANNEL = 0


class Renderer:
    """Plays notes with one SoundFont. Not thread-safe: one per worker. Use as a context manager, or `close` it."""

    def __init__(self, soundfont: Path, rendering: Rendering, sample_rate: int) -> None:
        """Load `soundfont` (a second for 150 MB) at `sample_rate` in Hz.

        Raises:
            UserError: FluidSynth is missing or refuses the file.
        """
        self._fluid = fluid()
        self._soundfont = soundfont
        self._settings = self._call("new_fluid_settings")
        self._master = 0
        try:
            self._set(rendering, sample_rate)
            self._master = self._synth()
            self._font = self._load()
        except BaseException:
            self.close()
            raise

    def render(self, notes: np.ndarray, instrument: Instrument, samples: int) -> np.ndarray:
        """Audio of one clip, float32 [samples], the mean of left and right.

        Args:
            notes: integers [n, 4]: onset and offset in samples, multiples of 64 within 0..samples, MIDI pitch,
                velocity 1..127. A note starts and is released at exactly these samples.
            instrument: the program that plays all of them.
            samples: length of the clip.

        Raises:
            UserError: the SoundFont has no such program.
            ValueError: the notes are not as described, or the renderer is closed.
        """
        if not self._settings:
            raise ValueError("this renderer is closed; make another one")
        events = _events(notes, samples)
        left, right = np.empty(samples, np.float32), np.empty(samples, np.float32)
        # Sharing: the clip's synthesiser must let go of the SoundFont before it is deleted, or it would free it.
        # promise: bits-same-fresh-synthesiser
        synth = self._synth()
        try:
            font_id = self._call("fluid_synth_add_sfont", synth, self._font)
            try:
                self._select(synth, font_id, instrument)
                self._play(synth, events, left, right)
            finally:
                self._call("fluid_synth_remove_sfont", synth, self._font)
        finally:
            self._call("delete_fluid_synth", synth)
        left += right
        left *= 0.5
        return left

    def close(self) -> None:
        """Free the SoundFont and FluidSynth's settings; may be called twice."""
        if self._settings:
            self._call("delete_fluid_synth", self._master)
            self._call("delete_fluid_settings", self._settings)
            self._settings = self._master = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _call(self, name: str, *arguments: object) -> int:
        result: int = self._fluid.call[name](*arguments)
        return result or 0  # a null pointer comes as None

    def _synth(self) -> int:
        synth = self._call("new_fluid_synth", self._settings)
        if not synth:
            raise UserError(f"FluidSynth cannot start a synthesiser ({self._reason()}); free memory and repeat")
        return synth

    def _load(self) -> int:
        self._fluid.messages.clear()
        font_id = self._call("fluid_synth_sfload", self._master, os.fsencode(self._soundfont), 1)
        if font_id == FAILED:
            raise UserError(
                f"FluidSynth cannot load the SoundFont {self._soundfont} ({self._reason()}); give another one"
            )
        return self._call("fluid_synth_get_sfont_by_id", self._master, font_id)

    def _reason(self) -> str:
        return "; ".join(self._fluid.messages) or "no reason given"

    def _set(self, rendering: Rendering, sample_rate: int) -> None:
        numbers = {"synth.sample-rate": float(sample_rate), "synth.gain": rendering.gain}
        switches = {
            "synth.reverb.active": int(rendering.reverb),
            "synth.chorus.active": int(rendering.chorus),
            "synth.dynamic-sample-loading": 0,  # a shared SoundFont must hold all its samples
            "synth.min-note-length": 0,  # else short notes are lengthened to 10 ms
            "synth.cpu-cores": 1,
            "synth.threadsafe-api": 0,
            "synth.lock-memory": 0,  # containers limit locked memory, and FluidSynth warns for each sample
        }
        for name, number in numbers.items():
            if self._call("fluid_settings_setnum", self._settings, name.encode(), number) == FAILED:
                raise UserError(f"FluidSynth does not accept {name} = {number}; correct the spec")
        for name, switch in switches.items():
            self._call("fluid_settings_setint", self._settings, name.encode(), switch)

    def _select(self, synth: int, font_id: int, instrument: Instrument) -> None:
        chosen = self._call("fluid_synth_program_select", synth, _CHANNEL, font_id, instrument.bank, instrument.program)
        if chosen == FAILED:
            raise UserError(
                f"{self._soundfont.name} has no program {instrument.program} in bank {instrument.bank} "
                f"for {instrument.name}; change the instrument or the SoundFont"
            )

    def _play(self, synth: int, events: list[tuple[int, int, int]], left: np.ndarray, right: np.ndarray) -> None:
        noteon, noteoff, write = (
            self._fluid.call[f"fluid_synth_{name}"] for name in ("noteon", "noteoff", "write_float")
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


def _events(notes: np.ndarray, samples: int) -> list[tuple[int, int, int]]:
    """Sorted (sample, velocity, pitch), velocity 0 for a release, releases before the notes that start there."""
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


def soundfont_path(name: str) -> Path:
    """The file of a SoundFont: `timgm6mb` (6 MB, part of pretty_midi) or the path of an .sf2 or .sf3 file.

    Raises:
        UserError: no such file, or not a SoundFont.
    """
    path = _bundled() if name == TIMGM6MB else Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"SOUNDFONT={name} is neither `{TIMGM6MB}` nor a file; check the path")
    try:
        with open(path, "rb") as file:
            header = file.read(12)
    except OSError as error:
        raise UserError(f"SOUNDFONT={name} cannot be read ({error.strerror}); check its permissions") from None
    if header[:4] != b"RIFF" or header[8:] != b"sfbk":
        raise UserError(f"SOUNDFONT={name} is not a SoundFont (.sf2 or .sf3); give the path of one")
    return path


def _bundled() -> Path:
    found = importlib.util.find_spec("pretty_midi")  # finds without importing, which would cost a second
    if found is None or found.origin is None:
        raise UserError(
            f"SOUNDFONT={TIMGM6MB} comes with pretty_midi, which is missing; type `pip install pretty_midi`"
        )
    return Path(found.origin).with_name("TimGM6mb.sf2")


def soundfont_digest(path: Path) -> str:
    """SHA-256 of a SoundFont, hex."""
    return file_sha256(path)


def audio_fault(audio: np.ndarray) -> str | None:
    """Why a rendered clip [N] cannot be used: `non-finite`, `silence` or `clipping`; None when it can.

    Silence is a peak below -60 dBFS, clipping a peak above full scale.
    """
    peak = float(np.max(np.abs(audio), initial=0.0))
    if not math.isfinite(peak):
        return NON_FINITE
    if peak < SILENCE_PEAK:
        return SILENCE
    if peak > CLIPPING_PEAK:
        return CLIPPING
    return None


def level(audio: np.ndarray) -> float:
    """Root mean square of a clip [N] in dB relative to full scale (a constant 1 is 0 dB); -inf for digital silence."""
    power = float(np.mean(np.square(audio, dtype=np.float64)))
    return 10 * math.log10(power) if power > 0 else -math.inf
