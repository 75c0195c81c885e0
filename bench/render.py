"""Time of rendering a clip: this project, FluidSynth alone (loaded once, with its state kept), and pretty_midi."""

import os
from typing import Any

import numpy as np

from bench.fixtures import Context, planned, renderer, spec
from bench.table import Row, at_most, interleaved
from pipeline.plan.plan import PlannedClip
from pipeline.render.fluidsynth import load_fluidsynth
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path

CLIPS, REPEATS, PRETTY_REPEATS = 4, 31, 5
ORDERS = 6  # number of random orders of all clips
OURS, ALONE, PRETTY = "this project", "FluidSynth alone", "pretty_midi.fluidsynth"


def rows(context: Context) -> list[Row]:
    """Return rows of milliseconds per clip of 8 s on one thread, and of how many clips depend on those before."""
    clips = planned(context.scratch, CLIPS)
    samples = spec().clip.samples
    with renderer() as plays:

        def ours() -> int:
            for clip in clips:
                plays.render(clip.notes, spec().instruments[clip.instrument], samples)
            return len(clips)

        alone = Alone()
        songs = [pretty_song(clip) for clip in clips]
        font = str(soundfont_path(spec().rendering.soundfont))

        def pretty() -> int:
            for song in songs:
                song.fluidsynth(fs=spec().clip.sample_rate, sf2_path=font)
            return len(songs)

        timings = interleaved({OURS: ours, ALONE: lambda: alone.play(clips, samples)}, REPEATS)
        beside_pretty = interleaved({OURS: ours, PRETTY: pretty}, PRETTY_REPEATS)
        differing = differing_clips(plays, clips, samples)
    figure = "render an 8 s clip, one thread"
    note = "FluidSynth alone keeps one synthesizer, so that a clip depends on those before it"
    same = f"clips that differ from their first rendering, of {ORDERS * CLIPS} in random order"
    return [
        timings.row(figure, OURS, ALONE, at_most(1.3), note, limit=True),
        beside_pretty.row(figure, OURS, PRETTY),
        Row(same, "clips", float(differing), budget=at_most(0)),
    ]


def differing_clips(plays: Renderer, clips: list[PlannedClip], samples: int) -> int:
    """Return how many of ORDERS renderings of each clip, in random order, differ in a bit from its first rendering.

    `plays` renders each clip to `samples` samples.
    """

    def render(index: int) -> np.ndarray:
        clip = clips[index]
        return plays.render(clip.notes, spec().instruments[clip.instrument], samples)

    first = [render(index) for index in range(len(clips))]
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(clips)), ORDERS))
    return sum(not np.array_equal(render(int(index)), first[index]) for index in order)


class Alone:
    """FluidSynth called through its C functions, with one synthesizer."""

    def __init__(self) -> None:
        self.call = load_fluidsynth().call
        settings = self.call["new_fluid_settings"]()
        self.call["fluid_settings_setnum"](settings, b"synth.sample-rate", float(spec().clip.sample_rate))
        self.call["fluid_settings_setnum"](settings, b"synth.gain", spec().rendering.gain)
        for name in (b"synth.reverb.active", b"synth.chorus.active"):
            self.call["fluid_settings_setint"](settings, name, 0)
        self.synth = self.call["new_fluid_synth"](settings)
        font = soundfont_path(spec().rendering.soundfont)
        self.font = self.call["fluid_synth_sfload"](self.synth, os.fsencode(font), 1)

    def play(self, clips: list[PlannedClip], samples: int) -> int:
        """Render the notes of clips in order to `samples` samples each; return the number of clips, not the audio."""
        write, on, off = (self.call[f"fluid_synth_{name}"] for name in ("write_float", "noteon", "noteoff"))
        for clip in clips:
            program = spec().instruments[clip.instrument].program
            self.call["fluid_synth_program_select"](self.synth, 0, self.font, 0, program)
            left, right = np.empty(samples, np.float32), np.empty(samples, np.float32)
            now = 0
            for onset, offset, pitch, velocity in clip.notes.tolist():
                for time, velocity_ in ((onset, velocity), (offset, 0)):
                    if time > now:
                        write(self.synth, time - now, left.ctypes.data, now, 1, right.ctypes.data, now, 1)
                        now = time
                    if velocity_:
                        on(self.synth, 0, pitch, velocity_)
                    else:
                        off(self.synth, 0, pitch)
            if samples > now:
                write(self.synth, samples - now, left.ctypes.data, now, 1, right.ctypes.data, now, 1)
        return len(clips)


def pretty_song(clip: PlannedClip) -> Any:
    """Return the notes of a clip as a PrettyMIDI object."""
    import pretty_midi

    rate = spec().clip.sample_rate
    song = pretty_midi.PrettyMIDI()
    part = pretty_midi.Instrument(program=spec().instruments[clip.instrument].program)
    part.notes = [
        pretty_midi.Note(velocity=velocity, pitch=pitch, start=onset / rate, end=offset / rate)
        for onset, offset, pitch, velocity in clip.notes.tolist()
    ]
    song.instruments.append(part)
    return song
