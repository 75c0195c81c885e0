"""`controls` for a recording: curves measured from it as a curve file."""

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
    """Write the curves of a stretch of a recording as JSON.

    Args:
        path: an audio file.
        out: path of the curve file; None for that of the recording with the suffix .json.
        spec: spec whose controls are written, except those that a recording does not determine.
        seconds: length of the stretch, padded with silence beyond the end of the recording; None for the rest of the
            recording, at most 30 s.
        start_s: start of the stretch, in seconds from that of the recording.
        instrument, sharpness, notes, tracker: as in `curves_from_audio`.

    Returns:
        The path of the curve file, and a line with the length of the stretch and the number of points of each curve.

    Raises:
        UserError: the file is not audio, an option is out of range, the tracker is not installed, the stretch is
            silent, or the curve file cannot be written, see `write_curve_file`.
    """
    audio = read_recording(path, seconds, start_s)
    curves = curves_from_audio(audio, spec.controls, sharpness, notes, instrument, tracker)
    points = ", ".join(f"{len(curve.points)} of {name}" for name, curve in curves.curves.items())
    return write_curve_file(curves, path, out), f"{path.name}: {len(audio) / SAMPLE_RATE:.1f} s, points: {points}"
