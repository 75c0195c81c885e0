"""Controls of the spec `expressive` against its audio: `python -m bench.expression > docs/results/expression.md`.

Each measure compares rendered audio with a rendering of the same clip without one part of its automation.

level    dB relative to the same notes at full level, by block, against 40 log10(velocity)
pitch    cents between the control and the pitch by librosa.pyin and, if installed, by swift_f0
centroid rank correlation of brightness and the spectral centroid, relative to that with an open filter
time     samples between a change of a parameter and the first sample that differs from a rendering without the change

Frames whose analysis window contains a change of note are left out of level, pitch and centroid.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.__main__ import machine
from bench.render import Alone
from bench.table import interleaved
from data_specs.analysis.swift_f0 import NAME, swift_pitch
from data_specs.arrays import Bool, Float32, Float64
from data_specs.controls.automation import BLOCK, Automation
from data_specs.rates import SAMPLE_RATE
from data_specs.spec import Spec, load_spec
from pipeline.cli import main as pipeline
from pipeline.plan.plan import Plan, PlannedClip
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path

ATTACK_BLOCKS = 24  # 64 ms, in which the release of the note before decays
TAIL_BLOCKS = 2
PITCH_WINDOW, PITCH_HOP = 1024, 320
CENTROID_WINDOW = 1024
CHANGE_DB, CHANGE_SEMITONES, CHANGE_CENTS = 0.1, 0.02, 20.0  # smallest changes between blocks whose time is measured
DIFFERS = 1e-7  # largest difference of equal samples, full scale is 1
TIMED_CLIPS, ROUNDS = 8, 25

Values = Float64
Tracker = Callable[[Float32], Values]  # MIDI pitch at frames of PITCH_HOP, NaN where unvoiced


@dataclass
class Found:
    """Measurements of all clips by name of the measure: a list of arrays or numbers, one or more for each clip."""

    parts: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, name: str, values: Any) -> None:
        """Add `values` of one clip, an array or a number, to the measure `name`."""
        self.parts.setdefault(name, []).append(values)

    def joined(self, name: str) -> Values:
        """Return the values of the measure `name` of all clips, [n]; empty if there are none."""
        return np.concatenate([np.atleast_1d(part) for part in self.parts.get(name, [np.zeros(0)])])


class Player:
    """Renderer of clips of `spec` with changed automation."""

    def __init__(self, spec: Spec, renderer: Renderer) -> None:
        self.spec, self.renderer, self.samples = spec, renderer, spec.clip.samples

    def play(self, clip: PlannedClip, **changed: Values) -> Float32:
        """Return the audio of a clip, float32 [N], with the fields `changed` of its automation replaced."""
        automation = replace(automation_of(clip), **changed)
        instruments = [self.spec.instruments[number] for number in automation.instruments.tolist()]
        return self.renderer.render_expressive(clip.notes, instruments, self.samples, automation)


def automation_of(clip: PlannedClip) -> Automation:
    """Return the automation of a clip of the spec `expressive`, which must not be None."""
    assert clip.automation is not None
    return clip.automation


def inner_blocks(clip: PlannedClip, margin: int) -> Bool:
    """Return a mask [B] of the blocks within notes, B blocks of a clip.

    A block is within a note if it is at least ATTACK_BLOCKS after the onset and more than `margin` before the offset.
    """
    inner = np.zeros(len(automation_of(clip).level), np.bool_)
    for onset, offset in clip.notes[:, :2].tolist():
        inner[onset // BLOCK + ATTACK_BLOCKS : max(0, offset // BLOCK - margin)] = True
    return inner


def measure_level(player: Player, clip: PlannedClip, audio: Float32, found: Found) -> None:
    """Add to `found` the errors of the level within notes and the range of the level asked for in the clip, both in dB.

    `audio` is the rendered clip, float32 [N].
    """
    level = automation_of(clip).level
    full = clip.notes.copy()
    full[:, 3] = 127
    loud = player.play(replace(clip, notes=full), level=np.ones(len(level))).reshape(-1, BLOCK)
    power = (loud.astype(np.float64) ** 2).mean(1)
    inner = inner_blocks(clip, TAIL_BLOCKS) & (power > 1e-8)
    gain = 10 * np.log10((audio.reshape(-1, BLOCK)[inner].astype(np.float64) ** 2).mean(1) / power[inner] + 1e-20)
    asked = 40 * np.log10(level[inner])
    found.add("level error dB", np.abs(gain - asked))
    found.add("level range dB", np.ptp(asked) if inner.any() else 0.0)


def trackers() -> dict[str, Tracker]:
    """Return the installed pitch trackers by name: librosa.pyin, and swift_f0 if it is installed."""
    swift = {NAME: lambda audio: swift_pitch(audio, PITCH_HOP, len(audio) // PITCH_HOP)}
    return {"librosa.pyin": pyin, **(swift if importlib.util.find_spec("swift_f0") else {})}


def pyin(audio: Float32) -> Values:
    """Return the pitch by librosa.pyin from F2 to G5: MIDI note numbers at frames of PITCH_HOP, NaN where unvoiced."""
    import librosa

    low, high = librosa.note_to_hz("F2"), librosa.note_to_hz("G5")
    hz = librosa.pyin(audio, fmin=low, fmax=high, sr=SAMPLE_RATE, frame_length=PITCH_WINDOW, hop_length=PITCH_HOP)[0]
    return np.asarray(librosa.hz_to_midi(hz))


def measure_pitch(clip: PlannedClip, audio: Float32, tracked: dict[str, Tracker], found: Found) -> None:
    """Add to `found`, for each tracker, the errors of its pitch in cents and whether frames are voiced, within notes.

    Errors of an octave count fully. Errors where the bend changes are added once more as `moving`. `audio` is the
    rendered clip [N], `tracked` has the trackers by name.
    """
    bend, inner = automation_of(clip).bend, inner_blocks(clip, PITCH_WINDOW // BLOCK)
    struck = np.zeros(len(bend))
    for onset, offset, pitch in clip.notes[:, :3].tolist():
        struck[onset // BLOCK : offset // BLOCK] = pitch
    moving = np.abs(np.gradient(bend)) > 0
    for name, track in tracked.items():
        midi = track(audio)
        block = np.minimum(np.arange(len(midi)) * PITCH_HOP // BLOCK, len(bend) - 1)
        kept, voiced = inner[block], np.isfinite(midi)
        found.add(f"{name} voiced", voiced[kept].astype(float))
        kept &= voiced
        cents = 100 * np.abs(midi - struck[block] - bend[block])
        found.add(f"{name} cents", cents[kept])
        found.add(f"{name} cents, moving", cents[kept & moving[block]])


def centroid(audio: Float32) -> Values:
    """Return the spectral centroid of `audio` [N] at each block, in semitones above 20 Hz, with centred windows."""
    padded = np.pad(audio.astype(np.float64), CENTROID_WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, CENTROID_WINDOW)[BLOCK // 2 :: BLOCK]
    power = np.abs(np.fft.rfft(frames * np.hanning(CENTROID_WINDOW), axis=-1)) ** 2
    hz = np.fft.rfftfreq(CENTROID_WINDOW, 1 / SAMPLE_RATE)
    return np.asarray(12 * np.log2(((power * hz).sum(-1) + 1e-12) / (power.sum(-1) + 1e-15) / 20 + 1e-9))


def measure_brightness(player: Player, clip: PlannedClip, audio: Float32, found: Found) -> None:
    """Add to `found` the rank correlation of brightness and relative centroid, for each instrument of the clip.

    The relative centroid is that of `audio` [N] minus that of a rendering with an open filter, in semitones; its
    largest fall is added too. Clips and instruments with less than 100 inner blocks, or whose brightness ranges over
    less than 0.1, are left out.
    """
    from scipy.stats import spearmanr

    automation = automation_of(clip)
    inner = inner_blocks(clip, CENTROID_WINDOW // BLOCK)
    if inner.sum() < 100 or np.ptp(automation.brightness[inner]) < 0.1:
        return
    still = player.play(clip, cutoff=np.zeros(len(automation.cutoff)))
    names = np.array([one.name for one in player.spec.instruments])
    onsets = clip.notes[:, 0] // BLOCK
    playing = automation.instruments[np.maximum(np.searchsorted(onsets, np.arange(len(inner)), side="right") - 1, 0)]
    change = centroid(audio)[: len(inner)] - centroid(still)[: len(inner)]
    for number in np.unique(playing[inner]).tolist():
        of = inner & (playing == number)
        if of.sum() >= 100 and np.ptp(automation.brightness[of]) >= 0.1:
            found.add(f"brightness rank, {names[number]}", spearmanr(automation.brightness[of], change[of]).statistic)
            found.add(f"brightness semitones, {names[number]}", -change[of].min())


def measure_times(player: Player, clip: PlannedClip, audio: Float32, found: Found) -> None:
    """Add to `found` the samples from the largest change of each curve within a note to the first sample it affects.

    Changes below CHANGE_DB, CHANGE_SEMITONES or CHANGE_CENTS are left out. The same is added for the onset of the
    middle note of the clip. `audio` is the rendered clip [N].
    """
    automation = automation_of(clip)
    inside = np.zeros(len(automation.level), np.bool_)
    for onset, offset in clip.notes[:, :2].tolist():
        inside[onset // BLOCK + 1 : offset // BLOCK] = True
    for name, least, values in (
        ("level", CHANGE_DB, 40 * np.log10(automation.level)),
        ("bend", CHANGE_SEMITONES, automation.bend),
        ("cutoff", CHANGE_CENTS, automation.cutoff),
    ):
        change = np.where(inside, np.abs(np.diff(values, prepend=values[:1])), 0)
        block = int(change.argmax())
        if change[block] < least:
            continue
        curve = getattr(automation, name)
        frozen = np.concatenate([curve[:block], np.full(len(curve) - block, curve[block - 1])])
        found.add(f"{name} samples", first_difference(audio, player.play(clip, **{name: frozen})) - block * BLOCK)
    middle = len(clip.notes) // 2
    first = replace(automation, instruments=automation.instruments[:middle])
    rest = replace(clip, notes=clip.notes[:middle], automation=first)
    found.add("onset samples", first_difference(audio, player.play(rest)) - int(clip.notes[middle, 0]))


def first_difference(one: Float32, other: Float32) -> int:
    """Return the index of the first sample that differs by more than DIFFERS, the number of samples if none does."""
    differs = np.flatnonzero(np.abs(one - other) > DIFFERS)
    return int(differs[0]) if len(differs) else len(one)


def time_rendering(player: Player, clips: list[PlannedClip]) -> Iterator[str]:
    """Yield table rows of milliseconds per clip on one thread: FluidSynth alone, plain and expressive clips.

    All ways render the same `clips`; FluidSynth alone and `plain` do so without their automation.
    """
    alone = Alone()

    def expressive() -> int:
        for clip in clips:
            player.play(clip)
        return len(clips)

    def plain() -> int:
        for clip in clips:
            player.renderer.render(clip.notes, player.spec.instruments[clip.instrument], player.samples)
        return len(clips)

    ways = {
        "FluidSynth alone": lambda: alone.play(clips, player.samples),
        "plain clip": plain,
        "expressive clip": expressive,
    }
    timings = interleaved(ways, ROUNDS)
    yield "| | ms a clip, median | processor ms | times FluidSynth alone |\n|---|---:|---:|---:|"
    for way in ways:
        ratio = timings.ratio(way, "FluidSynth alone")
        yield f"| {way} | {1e3 * timings.seconds(way):.1f} | {1e3 * np.median(timings.cpu[way]):.1f} | {ratio:.2f} |"


def spread(values: Values, unit: str) -> str:
    """Return median and 95th percentile of `values` in `unit`, and their number, as cells of a Markdown table."""
    if not len(values):
        return "– | – | 0"
    return f"{np.median(values):.2f} {unit} | {np.percentile(values, 95):.2f} {unit} | {len(values):,}"


def report(found: Found, names: list[str]) -> Iterator[str]:
    """Yield the lines of the report in Markdown; `names` are those of the pitch trackers."""
    yield "| | median | 95th percentile | frames or changes |\n|---|---:|---:|---:|"
    yield f"| level within notes, error | {spread(found.joined('level error dB'), 'dB')} |"
    for name in names:
        yield f"| pitch, {name}, error | {spread(found.joined(f'{name} cents'), 'cents')} |"
        yield f"| the same in glides and vibrato | {spread(found.joined(f'{name} cents, moving'), 'cents')} |"
    for change in ("onset", "level", "bend", "cutoff"):
        yield f"| change of {change} to its first effect | {spread(found.joined(f'{change} samples'), 'samples')} |"
    yield ""
    for name in names:
        cents, voiced = found.joined(f"{name} cents"), found.joined(f"{name} voiced")
        yield f"- {name}: {np.mean(cents <= 50):.1%} of voiced frames within 50 cents, {voiced.mean():.1%} voiced."
    within, span = np.mean(found.joined("level error dB") <= 1), np.median(found.joined("level range dB"))
    yield f"- level: {within:.2%} of blocks within 1 dB; the asked level of a clip spans {span:.1f} dB in the median."
    for key in sorted(name for name in found.parts if name.startswith("brightness rank")):
        ranks, falls = found.joined(key), found.joined(key.replace("rank", "semitones"))
        yield (
            f"- {key}: median {np.median(ranks):.3f}, 5th percentile {np.percentile(ranks, 5):.3f} over {len(ranks)} "
            f"clips, whose centroid falls by up to {np.median(falls):.1f} semitones in the median."
        )


def main() -> None:
    """Render and measure the first --clips train clips of `expressive`, and print the report in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.expression", description=__doc__)
    parser.add_argument("--clips", type=int, default=200)
    arguments = parser.parse_args()
    started = time.monotonic()
    spec = load_spec("expressive")
    with (
        TemporaryDirectory() as scratch,
        Renderer(soundfont_path(spec.rendering.soundfont), spec.rendering, SAMPLE_RATE) as renderer,
    ):
        with redirect_stdout(sys.stderr):
            pipeline(["dataset", "--spec", "expressive", "--dry-run", "--out", scratch])
        (path,) = (Path(scratch) / "index").glob("plan-*/plan.json")
        clips = Plan.open(path.parent).clips("train", 0, arguments.clips)
        player, found, tracked = Player(spec, renderer), Found(), trackers()
        for number, clip in enumerate(clips):
            audio = player.play(clip)
            measure_level(player, clip, audio, found)
            measure_pitch(clip, audio, tracked, found)
            measure_brightness(player, clip, audio, found)
            measure_times(player, clip, audio, found)
            print(f"clip {number + 1} of {len(clips)}", end="\r", file=sys.stderr)
        print(f"{len(clips)} clips of 8 s of the train split, {machine()}\n")
        print("\n".join(report(found, list(tracked))) + "\n")
        print("\n".join(time_rendering(player, clips[:TIMED_CLIPS])))
    print(f"\n{time.monotonic() - started:.0f} s in all, one thread")


if __name__ == "__main__":
    main()
