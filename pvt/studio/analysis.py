"""Achieved curves: the controls as measured from the audio, beside the curves asked for, with the error of each.

Frames are 10 ms apart. A value is None where it is undefined: pitch of unvoiced frames, velocity without notes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_specs.analysis.pitch import HOP
from data_specs.controls import FEATURES
from data_specs.rates import SAMPLE_RATE
from training.evaluation.adherence import Calibration, ClipAnalysis, analyze, measure
from training.evaluation.embedders.classifier import PATCHES, WEIGHTS, PvtNet
from training.evaluation.features import FRAME_S
from training.evaluation.frame_models import FrameModels
from training.evaluation.targets import ControlTargets, control_targets
from training.evaluation.velocity import VelocityScale, note_levels

SCALE = Path(__file__).parent / "velocity_scale.json"  # fitted on rendered clips of the sample dataset
SHOWN_RANGE_DB = 65.0


@dataclass(frozen=True)
class Analyzer:
    """Networks and scales that measure takes."""

    classifier: PvtNet
    scale: VelocityScale

    @classmethod
    def load(cls) -> "Analyzer":
        """Load the shipped classifier and velocity scale."""
        value = json.loads(SCALE.read_text(encoding="utf-8"))
        arrays = (np.asarray(value[name], np.float64) for name in ("offset", "slope", "keys"))
        offset, slope, keys = arrays
        return cls(PvtNet.load(WEIGHTS, "cpu"), VelocityScale(offset, slope, keys, np.zeros(len(offset))))

    def __call__(
        self, audio: NDArray[np.float32], arrays: Mapping[str, NDArray[np.float32]], frame_rate: Fraction
    ) -> dict[str, Any]:
        """Return the achieved curves of audio [N] as a JSON value.

        Args:
            audio: at 24 kHz, a second or longer.
            arrays: control arrays asked for, [T] or [R, T].
            frame_rate: of the arrays.
        """
        analysis = analyze(torch.from_numpy(np.ascontiguousarray(audio))[None, None], self.classifier)
        targets = control_targets({name: arrays[name] for name in FEATURES}, frame_rate, len(audio) // HOP)
        calibration = Calibration(self.scale, FrameModels.unfitted(len(self.scale.offset)))
        (ratios,) = measure(analysis, [targets], calibration)
        measures = {name: top / bottom if bottom else None for name, (top, bottom) in ratios.items()}
        features = analysis.features
        return {
            "frame_seconds": FRAME_S,
            "level_db": _rounded(features.level_db[0], 1),
            "onsets": _rounded(features.times()[features.onset[0]], 3),
            "measures": {name: None if value is None else round(value, 4) for name, value in measures.items()},
            "lanes": {
                "velocity": {
                    "achieved": self._velocity(analysis, targets),
                    "error": measures["velocity_error"],
                    "text": _text("mean error {:.2f}", measures["velocity_error"]),
                },
                "chroma": {
                    "achieved": _rounded(np.where(features.voiced[0], features.midi[0], np.nan), 2),
                    "error": None if measures["chroma"] is None else 1 - measures["chroma"],
                    "text": _text("{:.0%} of frames on pitch", measures["chroma"]),
                },
                "instruments": {
                    "achieved": self._instruments(analysis),
                    "error": None if measures["instrument"] is None else 1 - measures["instrument"],
                    "text": _text("{:.0%} recognized", measures["instrument"]),
                },
            },
        }

    def _velocity(self, analysis: ClipAnalysis, targets: ControlTargets) -> list[float | None]:
        """Velocity of each note by the level of its attack, held until the next onset or rest."""
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
        """Most probable instrument of each patch of about a second."""
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


def spectrogram(audio: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Mel spectrogram of audio [N] as levels 0..255 of a range of 65 dB below its maximum, [F, T]."""
    from data_specs.viz.spectrogram import ceiling_db, mel_db

    levels = mel_db(audio)
    share = 1 + (levels - ceiling_db([levels])) / SHOWN_RANGE_DB
    return (np.clip(share, 0, 1) * 255).astype(np.uint8)


def _rounded(values: NDArray[Any], digits: int) -> list[Any]:
    return [None if not np.isfinite(value) else round(float(value), digits) for value in np.asarray(values).tolist()]


def _text(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)
