"""`controls` for a MIDI file: its melody as a curve file.

Pitch follows notes and pitch bend; chroma follows the notes alone. Velocity is that of the notes times the product of
volume and expression (controllers 7 and 11), divided by the largest product while the melody sounds.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_specs.arrays import Float64, Int64
from data_specs.controls import CHROMA, CONTROLS, INSTRUMENTS, PITCH, VELOCITY
from data_specs.controls.curve_files import curves_value
from data_specs.controls.curves import MAX_SECONDS, Curves
from data_specs.controls.pitch import PITCH_ORIGIN, PITCH_SPAN
from data_specs.errors import UserError
from data_specs.io.files import write_bytes
from data_specs.rates import SAMPLE_RATE
from data_specs.spec import load_spec
from pipeline.melody.expression import separate_repeats
from pipeline.melody.skyline import UNITS, Melody, melodies
from pipeline.melody.windows import Notes
from pipeline.midi.controllers import Controllers
from pipeline.midi.performance import read_performance_sandboxed
from pipeline.midi.song import Track
from pipeline.rejects import Rejected

STEP_SAMPLES = 240  # 10 ms: least distance between changes of bend or volume within a note
_LOWEST, _HIGHEST = PITCH_ORIGIN + 0.01, float(PITCH_ORIGIN + PITCH_SPAN)
Segment = tuple[int, int, float, float]  # onset, offset, pitch, velocity: a row of `Curves.from_notes`


@dataclass(frozen=True)
class MelodyCurves:
    """The curves of a melody, and `source`: a line with file name, track, its length and other tracks to choose."""

    curves: Curves
    source: str


def midi_curves(
    path: Path, seconds: float = 8, start_s: float = 0.0, track: int | None = None, instrument: str | None = None
) -> MelodyCurves:
    """Return the curves of a stretch of the melody of one track.

    Args:
        path: a MIDI file.
        seconds: length of the stretch, above 0 and at most `MAX_SECONDS` of `data_specs.controls.curves`.
        start_s: start of the stretch, in seconds from the first note of the track.
        track: index of the track. By default a track named like a melody is preferred, then one named like a voice or
            lead; among equal ones that with most notes.
        instrument: name of the instrument. By default it is the one of the spec `sample` with the program of the track;
            if there is none, the instrument is unconditioned.

    Raises:
        UserError: `seconds` or `start_s` is out of range, the file cannot be read or is not MIDI, or it has no melody,
            no such track or no notes in the stretch.
    """
    if not (math.isfinite(start_s) and start_s >= 0):
        raise UserError(f"START= must be >= 0 s, got {start_s}")
    if not 0 < seconds <= MAX_SECONDS:
        raise UserError(f"SECONDS= must be above 0 and at most {MAX_SECONDS}, got {seconds}")
    spec = load_spec("sample")
    try:
        with open(path, "rb") as file:
            song, controllers = read_performance_sandboxed(file.read(spec.limits.file_bytes + 1), spec.limits)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except Rejected as rejected:
        raise UserError(f"{path} is not a MIDI file that can be read ({rejected}); export it again") from None
    # A melody of any length is accepted, since the user chose the file.
    clip = spec.clip.model_copy(update={"seconds": math.ceil(seconds), "min_notes": 1})
    found, _ = melodies(song, clip)
    tracks = {one.index: one for one in song.tracks}
    melody = _chosen(found, tracks, track, path)
    notes = melody_notes(melody, start_s, seconds)
    length = (melody.offset[-1] - melody.onset[0]) / (SAMPLE_RATE * UNITS)
    if not len(notes):
        raise UserError(
            f"{path} has no notes there: track {melody.track} lasts {length:.1f} s from its first note; lower START="
        )
    programs = {one.program: one.name for one in spec.instruments}
    curves = performed_curves(
        separate_repeats(notes, spec.clip),
        melody,
        start_s,
        controllers[melody.track],
        instrument or programs.get(tracks[melody.track].program),
    )
    others = ", ".join(_label(tracks[one.track]) for one in found if one.track != melody.track)
    source = f"{path.name}: track {_label(tracks[melody.track])}, {length:.1f} s long"
    return MelodyCurves(curves, source + (f"; other tracks: {others} (TRACK=)" if others else ""))


def _label(track: Track) -> str:
    name = "".join(c for c in track.name[:40] if c.isprintable()).strip()
    return f"{track.index} ({name})" if name else str(track.index)


def melody_notes(melody: Melody, start_s: float, seconds: float) -> Notes:
    """Return the notes, int32 [n, 4], in the stretch of `seconds` that starts `start_s` seconds after the first note.

    Columns are onset and offset in samples at 24 kHz from the start of the stretch, MIDI pitch and velocity 0..127.
    Notes that sound at the start or the end of the stretch are cut there.
    """
    origin = int(melody.onset[0]) + round(start_s * SAMPLE_RATE * UNITS)
    end = round(seconds * SAMPLE_RATE)
    onset = np.clip((melody.onset - origin + UNITS // 2) // UNITS, 0, end)
    offset = np.clip((melody.offset - origin + UNITS // 2) // UNITS, 0, end)
    notes = np.stack([onset, offset, melody.pitch, melody.velocity], axis=1)
    return np.asarray(notes[offset > onset], np.int32)


def performed_curves(
    notes: Notes, melody: Melody, start_s: float, controllers: Controllers, instrument: str | None
) -> Curves:
    """Return the curves of notes [n, 4] from `melody_notes`, with the pitch bend and volume of their track.

    The pitch curve has the bend and is limited to the range of the control pitch; chroma has no bend. Velocities are
    scaled by the volume relative to its largest value while the melody sounds, and are at least 1 of 127.

    Args:
        notes: notes in the stretch, repeated notes separated.
        melody: the whole melody.
        start_s: start of the stretch, in seconds from the first note of the melody.
        controllers: bend and volume of the track.
        instrument: name of the instrument, None for unconditioned.
    """
    units = np.floor(np.maximum(controllers.seconds, -1) * (SAMPLE_RATE * UNITS) + 0.5).astype(np.int64)
    at_onset = np.searchsorted(units, melody.onset, side="right") - 1
    at_offset = np.searchsorted(units, melody.offset)
    loudest = max(controllers.volume[first:last].max() for first, last in zip(at_onset, at_offset, strict=True))
    gain = np.round(controllers.volume / loudest, 6) if loudest else np.ones(len(units))
    origin = int(melody.onset[0]) + round(start_s * SAMPLE_RATE * UNITS)
    times = (units - origin + UNITS // 2) // UNITS
    bent: list[Segment] = []
    scaled: list[Segment] = []
    for onset, offset, pitch, velocity in notes.tolist():
        for start, stop, bend in _steps(onset, offset, times, np.round(controllers.bend, 4)):
            bent.append((start, stop, min(max(pitch + bend, _LOWEST), _HIGHEST), velocity))
        for start, stop, share in _steps(onset, offset, times, gain):
            scaled.append((start, stop, pitch, max(velocity * share, 1)))
    found = (
        Curves.from_notes(scaled, instrument, (VELOCITY,)),
        Curves.from_notes(notes.tolist(), instrument, (CHROMA, INSTRUMENTS)),
        Curves.from_notes(bent, instrument, (PITCH,)),
    )
    curves = {name: curve for part in found for name, curve in part.curves.items()}
    return Curves({name: curves[name] for name in CONTROLS if name in curves})


def _steps(onset: int, offset: int, times: Int64, values: Float64) -> list[tuple[int, int, float]]:
    """Return the steps (start, stop, value) of a step function within a note, times in samples.

    `values[k]` applies from `times[k]` until `times[k + 1]`. Equal values in succession are one step. A step less than
    `STEP_SAMPLES` after the one before is delayed; of several such steps only the last is kept.
    """
    first, last = int(np.searchsorted(times, onset, side="right")) - 1, int(np.searchsorted(times, offset))
    starts, kept = [onset], [float(values[first])]
    for time, value in zip(times[first + 1 : last].tolist(), values[first + 1 : last].tolist(), strict=True):
        if time <= starts[-1]:
            kept[-1] = value
        elif value != kept[-1] and (start := max(time, starts[-1] + STEP_SAMPLES)) < offset:
            starts.append(start)
            kept.append(value)
    return list(zip(starts, [*starts[1:], offset], kept, strict=True))


def write_midi_curves(path: Path, out: Path | None, **choices: object) -> tuple[Path, str]:
    """Write the curves of `midi_curves` as JSON; return the path of the curve file and the line `MelodyCurves.source`.

    Args:
        path: a MIDI file.
        out: path of the curve file; None for that of the MIDI file with the suffix .json.
        choices: further arguments of `midi_curves`.

    Raises:
        UserError: as by `midi_curves` and `write_curve_file`.
    """
    found = midi_curves(path, **choices)  # type: ignore[arg-type]
    return write_curve_file(found.curves, path, out), found.source


def write_curve_file(curves: Curves, source: Path, out: Path | None) -> Path:
    """Write curves as JSON and return the path of the file.

    Args:
        curves: the curves.
        source: file from which the curves were made.
        out: path of the curve file; None for that of `source` with the suffix .json.

    Raises:
        UserError: the path is a folder or cannot be written, or a file with other content has it. With `out`, an
            existing curve file is replaced.
    """
    target = out or source.with_suffix(".json")
    content = (json.dumps(curves_value(curves)) + "\n").encode()
    if target.is_dir():
        raise UserError(f"OUT= must be a file, got the folder {target}")
    if target.exists() and target.read_bytes() != content and not (out and _is_curve_file(target)):
        raise UserError(f"{target} exists and has other content; name another file with OUT=, or remove it")
    write_bytes(target, content)
    return target


def _is_curve_file(path: Path) -> bool:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and "version" in value


def _chosen(found: list[Melody], tracks: dict[int, Track], track: int | None, path: Path) -> Melody:
    if not found:
        raise UserError(f"{path} has no melody: no track with pitched notes; choose another file")
    if track is None:
        return max(found, key=lambda one: (_melody_rank(tracks[one.track].name), len(one.onset), -one.track))
    for melody in found:
        if melody.track == track:
            return melody
    there = ", ".join(_label(tracks[melody.track]) for melody in found)
    raise UserError(f"{path} has no melody in track {track}; there is one in {there}")


def _melody_rank(name: str) -> int:
    """Return 2 for a track name with "melod", 1 for one of a voice or lead, else 0. Case does not matter."""
    words = name.lower()
    return 2 if "melod" in words else int(any(word in words for word in ("vocal", "voice", "vox", "lead", "sing")))
