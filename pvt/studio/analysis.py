"""Curves measured from the audio of a take, with the error of each against the curve that was asked for.

Curves have a value for each frame, 10 ms apart, or None where it is undefined: pitch of unvoiced frames, velocity and
brightness outside of notes. Chroma is shown as the measured MIDI note number. Instruments have a value for each patch
of about a second instead, with its times.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_specs.analysis.pitch import HOP
from data_specs.arrays import Float32
from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE
from training.evaluation.adherence import Calibration, ClipAnalysis, measure
from training.evaluation.embedders.classifier import PATCHES, WEIGHTS, PvtNet
from training.evaluation.features import FRAME_S, extract_features
from training.evaluation.frame_models import FrameModels, kept_frames, note_frames
from training.evaluation.targets import ControlTargets, control_targets
from training.evaluation.velocity import VelocityScale, note_levels

SCALES = Path(__file__).parent / "scales.json"  # fitted on rendered clips, by pvt/studio/scales.py
SHOWN_RANGE_DB = 65.0

Measures = Mapping[str, float | None]
Lane = dict[str, Any]  # achieved: values by frame or patch; error: a number or None; text: of both


@dataclass(frozen=True)
class Analyzer:
    """Classifier, velocity scale and frame models for the measurement of takes."""

    classifier: PvtNet
    scale: VelocityScale
    frames: FrameModels

    @classmethod
    def load(cls) -> "Analyzer":
        """Return an analyzer with the shipped classifier and scales, read from the package, on the CPU."""
        stored = json.loads(SCALES.read_bytes())
        value = {
            name: np.asarray(stored[name], np.float64) for name in ("offset", "slope", "keys", "level", "centroid")
        }
        scale = VelocityScale(value["offset"], value["slope"], value["keys"], np.zeros(len(value["offset"])))
        return cls(PvtNet.load(WEIGHTS, "cpu"), scale, FrameModels(value["level"], value["centroid"]))

    def __call__(self, audio: Float32, arrays: Mapping[str, Float32], frame_rate: Fraction) -> dict[str, Any]:
        """Return the curves measured from audio [N], and their errors, as a JSON value.

        `frame_seconds` is the distance of frames, `level_db` the level of each frame, `onsets` are times in seconds,
        `measures` the adherence by measure, and `lanes` maps a control to its achieved values, error and a text on it.

        Args:
            audio: float32 [N] at 24 kHz. If it is shorter than a patch of the classifier, silence is appended for the
                classifier.
            arrays: control arrays asked for, by name, [T] or [R, T] with T frames and R rows.
            frame_rate: frames per second of `arrays`.

        Raises:
            UserError: the audio is not finite.
        """
        if not np.isfinite(audio).all():
            raise UserError("the audio is not finite; lower the guidance, or choose another model")
        clip = torch.from_numpy(np.ascontiguousarray(audio))[None, None]
        patch = (PATCHES.length - 1) * PATCHES.spectrum.hop + PATCHES.spectrum.window
        padded = torch.nn.functional.pad(clip, (0, max(0, patch - len(audio))))
        probabilities = self.classifier.instrument_probabilities(padded).numpy()
        analysis = ClipAnalysis(extract_features(clip), probabilities, padded.shape[-1])
        targets = control_targets(arrays, frame_rate, len(audio) // HOP)
        (ratios,) = measure(analysis, [targets], Calibration(self.scale, self.frames))
        measures = {name: top / bottom if bottom else None for name, (top, bottom) in ratios.items()}
        features = analysis.features
        return {
            "frame_seconds": FRAME_S,
            "level_db": _rounded(features.level_db[0], 1),
            "onsets": _rounded(features.times()[features.onset[0]], 3),
            "measures": {name: None if value is None else round(value, 4) for name, value in measures.items()},
            "lanes": {name: LANES[name](self, analysis, targets, measures) for name in arrays if name in LANES},
        }

    def _velocity_lane(self, analysis: ClipAnalysis, targets: ControlTargets, measures: Measures) -> Lane:
        """Return the lane of velocity.

        Its values are those of the notes, or of the frames within the notes if dynamics within notes were measured.
        """
        moving = measures["dynamics_error"]
        achieved = self._velocity(analysis, targets) if moving is None else self._level(analysis, targets)
        text = _text("mean error {:.2f}", measures["velocity_error"])
        if moving is not None:
            text = ", ".join(part for part in (text, _text("within notes {:.1f} dB", moving)) if part)
        return {"achieved": achieved, "error": measures["velocity_error"], "text": text}

    def _chroma_lane(self, analysis: ClipAnalysis, targets: ControlTargets, measures: Measures) -> Lane:
        share = measures["chroma"]
        error = None if share is None else 1 - share
        return {"achieved": _tracked(analysis), "error": error, "text": _text("{:.0%} of frames on pitch", share)}

    def _pitch_lane(self, analysis: ClipAnalysis, targets: ControlTargets, measures: Measures) -> Lane:
        share, cents = measures["pitch_accuracy"], measures["pitch_error"]
        text = _text("{:.0%} of frames within 50 cents", share)
        return {"achieved": _tracked(analysis), "error": cents, "text": text}

    def _brightness_lane(self, analysis: ClipAnalysis, targets: ControlTargets, measures: Measures) -> Lane:
        frames = note_frames(analysis.features, 0, targets)
        achieved = np.full(analysis.features.frames, np.nan)
        achieved[kept_frames(analysis.features, 0, targets)] = np.clip(self.frames.brightness(frames), 0, 1)
        error = measures["brightness_error"]
        return {"achieved": _rounded(achieved, 3), "error": error, "text": _text("mean error {:.2f}", error)}

    def _instruments_lane(self, analysis: ClipAnalysis, targets: ControlTargets, measures: Measures) -> Lane:
        share = measures["instrument"]
        error = None if share is None else 1 - share
        return {"achieved": self._instruments(analysis), "error": error, "text": _text("{:.0%} recognized", share)}

    def _level(self, analysis: ClipAnalysis, targets: ControlTargets) -> list[float | None]:
        """Return the velocity, 0..1, that corresponds to the level of each 10 ms frame.

        It is None outside of stable parts of notes.
        """
        frames = note_frames(analysis.features, 0, targets)
        target_db, measured_db = self.frames.dynamics(frames)
        slope = self.frames.level[frames.instrument, 2]
        velocity_db = frames.velocity_db + (measured_db - target_db) / slope
        achieved = np.full(analysis.features.frames, np.nan)
        achieved[kept_frames(analysis.features, 0, targets)] = np.clip(10 ** (velocity_db / 20), 0, 1)
        return _rounded(achieved, 3)

    def _velocity(self, analysis: ClipAnalysis, targets: ControlTargets) -> list[float | None]:
        """Return the velocity, 0..1, at each 10 ms frame: that of the note by the level of its attack.

        It is None in rests, before the first note, and for instruments without a scale.
        """
        notes = note_levels(analysis.features, 0, targets)
        velocity = self.scale.velocity(notes)
        frames = np.full(analysis.features.frames, np.nan)
        edges = np.round(targets.velocity_onsets / FRAME_S).astype(int)
        ends = np.round(targets.onset_end / FRAME_S).astype(int)
        for start, stop, value in zip(edges.tolist(), ends.tolist(), velocity.tolist(), strict=True):
            frames[start:stop] = value
        frames[targets.rest] = np.nan
        return _rounded(frames, 3)

    def _instruments(self, analysis: ClipAnalysis) -> list[dict[str, Any]]:
        """Return the most probable instrument of each patch of about a second, with its probability and times in s."""
        middles = PATCHES.centres(analysis.samples) / SAMPLE_RATE
        half = PATCHES.length * FRAME_S / 2
        return [
            {
                "start": round(max(0.0, middle - half), 3),
                "stop": round(middle + half, 3),
                "name": self.classifier.instruments[int(row.argmax())],
                "probability": round(float(row.max()), 3),
            }
            for middle, row in zip(middles.tolist(), analysis.instruments[0], strict=True)
        ]


LANES: dict[str, Callable[[Analyzer, ClipAnalysis, ControlTargets, Measures], Lane]] = {
    "velocity": Analyzer._velocity_lane,
    "chroma": Analyzer._chroma_lane,
    "pitch": Analyzer._pitch_lane,
    "brightness": Analyzer._brightness_lane,
    "instruments": Analyzer._instruments_lane,
}


def _tracked(analysis: ClipAnalysis) -> list[float | None]:
    """Return the pitch of each 10 ms frame as a MIDI note number with two decimals; None for unvoiced frames."""
    return _rounded(np.where(analysis.features.voiced[0], analysis.features.midi[0], np.nan), 2)


def spectrogram(audio: Float32) -> NDArray[np.uint8]:
    """Return the mel spectrogram of audio [N] at 24 kHz as levels, uint8 [F, T] with F bands and T frames.

    0 is 65 dB below the largest level or lower, and 255 is the largest level. Quiet audio does not reach 255, see
    `ceiling_db`.
    """
    from data_specs.viz.spectrogram import ceiling_db, mel_db

    levels = mel_db(audio)
    share = 1 + (levels - ceiling_db([levels])) / SHOWN_RANGE_DB
    return (np.clip(share, 0, 1) * 255).astype(np.uint8)


def _rounded(values: NDArray[Any], digits: int) -> list[Any]:
    return [None if not np.isfinite(value) else round(float(value), digits) for value in np.asarray(values).tolist()]


def _text(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)
