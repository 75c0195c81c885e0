"""`controls`: the gesture of a recording as a curve file."""

from pathlib import Path

from data_specs.analysis.recording_curves import curves_from_audio, read_recording
from data_specs.rates import SAMPLE_RATE
from data_specs.spec import Spec
from pipeline.tools.midi_curves import write_curve_file


def write_audio_curves(
    path: Path,
    out: Path | None,
    spec: Spec,
    *,
    seconds: float | None,
    start_s: float,
    instrument: str | None,
    sharpness: float,
    notes: bool,
    tracker: str,
) -> tuple[Path, str]:
    """Write the curves of a recording as JSON, by default beside it; return the path and a description.

    Args:
        path: an audio file.
        out: the curve file; None for one beside the recording.
        spec: its controls are given.
        seconds: length of the stretch; None for the whole recording.
        start_s: its start in the recording.
        instrument, sharpness, notes, tracker: as in `curves_from_audio`.

    Raises:
        UserError: not an audio file, nothing audible there, or the path is taken by a file with other content.
    """
    audio = read_recording(path, seconds, start_s)
    curves = curves_from_audio(audio, spec.controls, sharpness, notes, instrument, tracker)
    points = ", ".join(f"{len(curve.points)} of {name}" for name, curve in curves.curves.items())
    return write_curve_file(curves, path, out), f"{path.name}: {len(audio) / SAMPLE_RATE:.1f} s, points: {points}"
