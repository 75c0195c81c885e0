"""Adherence measured by external judges, beside the project's own measures of `adherence.py`.

crepe_chroma     as `chroma`, by CREPE's pitch
crepe_pitch      as `pitch_accuracy`, by CREPE's pitch
pitch_agreement  share of frames that both trackers call voiced where they are within 50 cents, octaves counted; without
                 frames close to a change of note
basic_onsets     as `onsets`, by Basic Pitch's onsets
onset_agreement  F-measure within 50 ms of the project's onsets and those of Basic Pitch, both detected in the audio,
                 where velocity and chroma are conditioned
librosa_...      as the measures of `loudness`, `centroid` and `noisiness`, by librosa, without `noisiness_error`;
                 measured where a dataset has these controls

B clips, N audio samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_specs.errors import UserError
from training.evaluation.adherence import (
    ADHERENCE,
    MEASURED,
    UNDEFINED,
    ClipAnalysis,
    Ratios,
    descriptor_adherence,
    f_measure,
    share,
)
from training.evaluation.embedders.musicnn import FILES, Musicnn
from training.evaluation.features import FRAME_S
from training.evaluation.judges.basic_pitch import BasicPitch
from training.evaluation.judges.crepe import Crepe
from training.evaluation.judges.librosa_descriptors import librosa_features
from training.evaluation.judges.wheels import judge_file
from training.evaluation.targets import UNSPECIFIED, ControlTargets

LIBROSA = {
    f"librosa_{measure}": measure
    for control in MEASURED
    for measure in ADHERENCE[control].measures
    if measure != "noisiness_error"  # spectral flatness has another scale
}
JUDGE_MEASURES = ("crepe_chroma", "crepe_pitch", "pitch_agreement", "basic_onsets", "onset_agreement", *LIBROSA)
# our measure of the same
BESIDE = {"crepe_chroma": "chroma", "crepe_pitch": "pitch_accuracy", "basic_onsets": "onsets", **LIBROSA}
NAMES = ("musicnn", "crepe", "basic-pitch")


def judge_names(text: str) -> tuple[str, ...]:
    """Return the names of judges in JUDGES=: all of NAMES for `all`, else those of a comma-separated list.

    Blanks and empty names are ignored; an empty text gives no name.

    Raises:
        UserError: an unknown name.
    """
    names = NAMES if text == "all" else tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in names if name not in NAMES]:
        raise UserError(f"JUDGES= must be all or names among {', '.join(NAMES)}, got {', '.join(unknown)}")
    return names


def embedders(names: Sequence[str], device: str | torch.device) -> tuple[Musicnn, ...]:
    """Return the embedders of FAD among the judges `names`: both taggers for `musicnn`, none without it.

    Raises:
        UserError: the weights are not in the cache folder, or cannot be read.
    """
    if "musicnn" not in names:
        return ()
    return tuple(Musicnn.load(name, judge_file(file), device) for name, file in FILES.items())


@dataclass(frozen=True)
class Judges:
    """External judges of adherence; a network that is not used is None."""

    crepe: Crepe | None = None
    basic_pitch: BasicPitch | None = None
    measured: tuple[str, ...] = ()  # controls that librosa judges

    @classmethod
    def load(cls, names: Sequence[str], device: str | torch.device, controls: Sequence[str] = ()) -> "Judges | None":
        """Load the judges of adherence; return None if there is none.

        Args:
            names: names among NAMES; `musicnn` is no judge of adherence and is ignored.
            device: device of CREPE.
            controls: controls of the dataset; librosa judges the measured ones among them.

        Raises:
            UserError: weights are not in the cache folder or cannot be read, or a package is missing.
        """
        found = cls(
            Crepe.load(judge_file("crepe-tiny.safetensors"), device) if "crepe" in names else None,
            BasicPitch.load(judge_file("basic-pitch.onnx")) if "basic-pitch" in names else None,
            tuple(name for name in MEASURED if name in controls),
        )
        return None if found == cls() else found

    def measure(self, audio: Tensor, analysis: ClipAnalysis, targets: Sequence[ControlTargets]) -> list[Ratios]:
        """Return the measures JUDGE_MEASURES of each clip; UNDEFINED for judges not used and controls not measured.

        Args:
            audio: clips, float32 [B, 1, N] at 24 kHz on the CPU.
            analysis: the project's analysis of the same clips.
            targets: targets of each clip.
        """
        found: list[Ratios] = [dict.fromkeys(JUDGE_MEASURES, UNDEFINED) for _ in targets]
        features = analysis.features
        if self.crepe is not None:
            midi, voiced = (tensor.numpy() for tensor in self.crepe.track(audio))
            for number, one in enumerate(targets):
                distance = np.abs((midi[number] - one.pitch_class + 6) % 12 - 6)
                pitched = one.stable & one.note & (one.pitch_class != UNSPECIFIED)
                with_pitch = one.stable & np.isfinite(one.pitch)
                both = one.stable & voiced[number] & features.voiced[number]
                near = np.abs(midi[number] - features.midi[number]) <= 0.5
                close = np.abs(midi[number] - np.nan_to_num(one.pitch, nan=np.inf)) <= 0.5
                found[number]["crepe_chroma"] = share(pitched & voiced[number] & (distance < 0.5), pitched)
                found[number]["crepe_pitch"] = share(with_pitch & voiced[number] & close, with_pitch)
                found[number]["pitch_agreement"] = share(both & near, both)
        if self.basic_pitch is not None:
            for number, one in enumerate(targets):
                theirs = self.basic_pitch.onsets(audio[number, 0].numpy())
                at = np.clip(np.round(theirs / FRAME_S).astype(int), 0, len(one.onsets_known) - 1)
                theirs = theirs[one.onsets_known[at]]
                ours = features.times()[features.onset[number] & one.onsets_known]
                found[number]["basic_onsets"] = f_measure(one.onsets, theirs)
                found[number]["onset_agreement"] = f_measure(ours, theirs)
        if self.measured:
            described = librosa_features(audio, features)
            for number, one in enumerate(targets):
                for name in self.measured:
                    rank, error = descriptor_adherence(name, described, number, one)
                    found[number] |= {f"librosa_{name}_rank": rank, f"librosa_{name}_error": error}
        return found
