"""Imports of the studio: MIDI files and recordings, read by the bounded readers."""

from itertools import pairwise
from typing import Any

import numpy as np

from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE as RATE
from data_specs.spec import load_spec
from pipeline.melody.skyline import UNITS, melodies
from pipeline.midi.reader import SandboxedReader
from pipeline.rejects import Rejected
from pipeline.tools.midi_curves import melody_notes

MAX_NOTES = 5000


def midi_notes(content: bytes, seconds: int, track: int | None) -> dict[str, Any]:
    """Return the melodies of a MIDI file: notes of one track, and the list of tracks to choose from.

    Args:
        content: of the file.
        seconds: length to read, from the first note of the track.
        track: index; None for the track with most notes.

    Raises:
        UserError: not a MIDI file, no melody, or no such track.
    """
    spec = load_spec("sample")
    if not 1 <= seconds <= 600:
        raise UserError(f"seconds must be in 1..600, got {seconds}")
    try:
        with SandboxedReader(spec.limits) as reader:
            song = reader(content[: spec.limits.file_bytes + 1])
    except Rejected as rejected:
        raise UserError(f"the file is not a readable MIDI file ({rejected})") from None
    found, _ = melodies(song, spec.clip.model_copy(update={"seconds": seconds, "min_notes": 1}))
    if not found:
        raise UserError("the file has no track with pitched notes")
    by_track = {melody.track: melody for melody in found}
    if track is None:
        track = max(by_track, key=lambda index: (len(by_track[index].onset), -index))
    if track not in by_track:
        raise UserError(f"track must be one of {', '.join(map(str, by_track))}, got {track}")
    notes = np.asarray(melody_notes(by_track[track], 0.0, seconds))[:MAX_NOTES].tolist()
    programs = {one.program: one.name for one in spec.instruments}
    program = {one.index: one.program for one in song.tracks}
    return {
        "track": track,
        "tracks": [
            {
                "index": index,
                "notes": len(melody.onset),
                "seconds": round(float(melody.offset[-1] - melody.onset[0]) / (RATE * UNITS), 1),
                "instrument": programs.get(program.get(index, -1), ""),
            }
            for index, melody in by_track.items()
        ],
        "notes": [
            {"start": onset / RATE, "stop": offset / RATE, "pitch": pitch, "velocity": round(velocity / 127, 4)}
            for onset, offset, pitch, velocity in notes
        ],
    }


def recording_curves(content: bytes, seconds: int, controls: tuple[str, ...]) -> dict[str, Any]:
    """Return curves measured from a recording: pitch of voiced frames as notes, level as velocity.

    Args:
        content: wav, flac, ogg or mp3, of any rate and number of channels.
        seconds: the first seconds of the file that are used.
        controls: of the model that will follow the curves.

    Raises:
        UserError: not an audio file, or nothing audible in it.
    """
    import io

    import soundfile
    import soxr
    import torch

    from training.evaluation.features import FRAME_S, extract_features

    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate = file.samplerate
            if not 4000 <= rate <= 192_000 or file.channels > 32:
                raise UserError(f"a recording must have 4 to 192 kHz and at most 32 channels, got {rate} Hz")
            audio = file.read(min(seconds, 60) * rate, dtype="float32", always_2d=True).mean(axis=1)
    except (soundfile.LibsndfileError, ValueError) as error:
        raise UserError(f"the file is not a readable recording ({error!s:.80})") from None
    mono = soxr.resample(audio, rate, RATE) if rate != RATE else audio
    if len(mono) < RATE // 4 or not np.isfinite(mono).all():
        raise UserError("a recording must be at least 0.25 s long")
    features = extract_features(torch.from_numpy(np.ascontiguousarray(mono, np.float32))[None, None])
    level = features.level_db[0]
    audible = level > max(float(level.max()) - 45.0, -70.0)
    if not audible.any() or level.max() < -65:
        raise UserError("the recording is silent")
    low, high = np.percentile(level[audible], [10, 98])
    loudness = np.clip(0.15 + 0.8 * (level - low) / max(high - low, 6.0), 0.05, 1.0)
    pitch = np.where(features.voiced[0] & audible, np.round(features.midi[0]), 0).astype(int)
    notes: list[dict[str, Any]] = []
    edges = [0, *(np.flatnonzero(np.diff(pitch)) + 1).tolist(), len(pitch)]
    for start, stop in pairwise(edges):
        if pitch[start] and stop - start >= 6:  # shorter than 60 ms: glides and errors of the tracker
            if notes and notes[-1]["pitch"] == pitch[start] and start * FRAME_S - notes[-1]["stop"] < 0.08:
                notes[-1]["stop"] = round(stop * FRAME_S, 3)
                continue
            notes.append(
                {"start": round(start * FRAME_S, 3), "stop": round(stop * FRAME_S, 3), "pitch": int(pitch[start])}
            )
    for note in notes:
        frames = loudness[round(note["start"] / FRAME_S) : round(note["stop"] / FRAME_S)]
        note["velocity"] = round(float(np.median(frames)), 3)
    return {"notes": notes, "seconds": round(len(mono) / RATE, 2), "controls": list(controls)}
