"""How well audio follows the controls it was asked to follow, from the audio alone.

Every measure is a ratio of two counts a clip, so that clips average by their counts:

chroma          share of frames with an asked pitch class in which the pitch heard has it (within half a semitone,
                octaves apart); a frame without a pitch counts as wrong
pitch           share of frames that have both an asked and a heard pitch in which they are within a semitone, octaves
                apart: how well it is tuned, whatever is missing
velocity_rank   Spearman's rank correlation, within a clip, of asked velocities and peak levels after their onsets
velocity_error  mean distance of asked velocities and those read from the peak levels, in velocity / 127
onsets          F-measure of onsets within 50 ms
silence         F-measure of silent frames within 30 ms: rests of a few frames end in the sound of releases
instrument      share of one-second patches in which the classifier hears the asked instrument

A feature that is free (-1) gives no measure that needs it. B clips, F heard frames, P patches, I instruments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_specs.controls import Controls
from data_specs.errors import UserError
from training.evaluation.embedders.classifier import PATCHES, InstrumentClassifier
from training.evaluation.features import FrameFeatures, hear
from training.evaluation.pitch import HOP
from training.evaluation.targets import NOBODY, ControlTargets, asked
from training.evaluation.velocity import VelocityScale, strikes

MEASURES = ("chroma", "pitch", "velocity_rank", "velocity_error", "onsets", "silence", "instrument")
LOWER_IS_BETTER = frozenset({"velocity_error"})
ONSET_TOLERANCE_S = 0.05
SILENCE_TOLERANCE = 3  # frames
FEWEST_RANKED = 4  # strikes in a clip, below which a rank correlation is chance

Ratio = tuple[float, float]  # what was reached, out of what; nothing to measure is out of 0
Ratios = dict[str, Ratio]


@dataclass(frozen=True)
class ClipAnalysis:
    """Audio as the measures see it. It takes most of the time, so one analysis serves any controls."""

    heard: FrameFeatures
    instruments: NDArray[np.float32]  # [B, P, I], probabilities
    samples: int

    def __len__(self) -> int:
        return len(self.heard.midi)

    @classmethod
    def joined(cls, parts: Sequence["ClipAnalysis"]) -> "ClipAnalysis":
        """Several batches of clips of one length as one."""
        arrays = [[getattr(part.heard, field.name) for part in parts] for field in fields(FrameFeatures)]
        instruments = np.concatenate([part.instruments for part in parts])
        return cls(FrameFeatures(*map(np.concatenate, arrays)), instruments, parts[0].samples)


def listen(audio: Tensor, classifier: InstrumentClassifier) -> ClipAnalysis:
    """Analyse float32 [B, 1, N] at 24 kHz.

    Raises:
        UserError: audio that is not finite, or shorter than a patch of the classifier.
    """
    if not bool(audio.isfinite().all()):
        raise UserError("the audio is not finite; the model that made it may have diverged: listen to its samples")
    return ClipAnalysis(hear(audio), classifier.instrument_probabilities(audio).numpy(), audio.shape[-1])


def read_controls(controls: Sequence[Controls], frame_rate: Fraction, samples: int) -> list[ControlTargets]:
    """What clips of `samples` at 24 kHz are asked for by controls at `frame_rate` frames a second."""
    return [asked(one, frame_rate, samples // HOP) for one in controls]


def measure(listened: ClipAnalysis, wanted: Sequence[ControlTargets], scale: VelocityScale) -> list[Ratios]:
    """Every measure of every clip.

    Args:
        listened: B clips.
        wanted: what each of them was asked for.
        scale: fitted on real clips of the same dataset.

    Raises:
        ValueError: not as many controls as clips.
    """
    return [_clip(listened, number, one, scale) for number, one in zip(range(len(listened)), wanted, strict=True)]


def averages(ratios: Sequence[Ratios]) -> dict[str, float | None]:
    """Each measure over all clips, weighted by their counts; None where nothing could be measured."""
    sums = {name: np.sum([clip[name] for clip in ratios], axis=0) if ratios else (0, 0) for name in MEASURES}
    return {name: float(reached / out_of) if out_of else None for name, (reached, out_of) in sums.items()}


def anchors(
    real: ClipAnalysis, wanted: Sequence[ControlTargets], scale: VelocityScale, seed: int
) -> dict[str, dict[str, float | None]]:
    """What the measures can reach: `ceiling`, real clips against their own controls, and `floor`, against another's.

    The other clip is the next one in a seeded order, so nobody keeps its own.
    """
    order = np.random.default_rng(seed).permutation(len(wanted))
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return {
        "ceiling": averages(measure(real, wanted, scale)),
        "floor": averages(measure(real, [wanted[other[number]] for number in range(len(wanted))], scale)),
    }


def _clip(listened: ClipAnalysis, number: int, wanted: ControlTargets, scale: VelocityScale) -> Ratios:
    heard = listened.heard
    tuned = wanted.settled & wanted.note & (wanted.pitch_class != NOBODY)
    distance = np.abs((heard.midi[number] - wanted.pitch_class + 6) % 12 - 6)
    voiced = tuned & heard.voiced[number]
    rank, error = _velocity(heard, number, wanted, scale)
    return {
        "chroma": _share(voiced & (distance < 0.5), tuned),
        "pitch": _share(voiced & (distance <= 1.0), voiced),
        "velocity_rank": rank,
        "velocity_error": error,
        "onsets": _onsets(heard, number, wanted),
        "silence": _silence(heard.silent[number], wanted),
        "instrument": _instrument(listened, number, wanted),
    }


def _share(right: NDArray[np.bool_], of: NDArray[np.bool_]) -> Ratio:
    return float(right.sum()), float(of.sum())


def _silence(silent: NDArray[np.bool_], wanted: ControlTargets) -> Ratio:
    """F-measure over frames; one is right when the other side has one within the tolerance."""
    found = silent & wanted.rests_known
    right = (found & _widened(wanted.rest)).sum() + (wanted.rest & _widened(found)).sum()
    return float(right), float(found.sum() + wanted.rest.sum())


def _widened(frames: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True within `SILENCE_TOLERANCE` frames of a true one."""
    reach = np.ones(2 * SILENCE_TOLERANCE + 1)
    return np.convolve(frames, reach, mode="same") > 0.5


def _onsets(heard: FrameFeatures, number: int, wanted: ControlTargets) -> Ratio:
    found = heard.times()[heard.onset[number] & wanted.onsets_known]
    hits = matches(wanted.onsets, found, ONSET_TOLERANCE_S)
    return 2.0 * hits, float(len(wanted.onsets) + len(found))


def matches(one: NDArray[np.float64], other: NDArray[np.float64], tolerance: float) -> int:
    """Size of the largest one-to-one matching of two sorted lists of times, pairs at most `tolerance` apart.

    On a line, taking the earliest possible partner each time is optimal.
    """
    hits = first = second = 0
    while first < len(one) and second < len(other):
        step = one[first] - other[second]
        if abs(step) <= tolerance + 1e-9:  # decimal times are not exact in binary
            hits, first, second = hits + 1, first + 1, second + 1
        elif step < 0:
            first += 1
        else:
            second += 1
    return hits


def _velocity(heard: FrameFeatures, number: int, wanted: ControlTargets, scale: VelocityScale) -> tuple[Ratio, Ratio]:
    found = strikes(heard, number, wanted)
    read = scale.velocity(found.level_db, found.key, found.instrument)
    known = np.isfinite(read)
    error = (float(np.abs(read - found.velocity)[known].sum()), float(known.sum()))
    varied = len(read) >= FEWEST_RANKED and np.ptp(found.velocity) > 0
    if not varied or not known.all():
        return (0.0, 0.0), error
    if np.ptp(read) == 0:  # all alike, for example silent: nothing follows the curve
        return (0.0, 1.0), error
    return (float(_ranked_correlation(found.velocity, read)), 1.0), error


def _ranked_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's rho: the correlation of ranks, ties sharing their mean rank."""
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def _instrument(listened: ClipAnalysis, number: int, wanted: ControlTargets) -> Ratio:
    """Patches that hold a note, or all of them where nobody says whether there are notes."""
    half = PATCHES.length // 2
    middles = PATCHES.centres(listened.samples) // HOP
    playing = wanted.note | ~wanted.rest
    right = of = 0
    for middle, probabilities in zip(middles.tolist(), listened.instruments[number], strict=True):
        instrument = wanted.instrument[middle]
        if instrument != NOBODY and playing[max(0, middle - half) : middle + half].any():
            of += 1
            right += int(probabilities.argmax() == instrument)
    return float(right), float(of)


def to_json(ratios: Sequence[Ratios], ids: Sequence[str]) -> list[dict[str, Any]]:
    """Measures of each clip beside its id; None where there was nothing to measure."""
    return [{"id": one, **_values(clip)} for one, clip in zip(ids, ratios, strict=True)]


def _values(clip: Mapping[str, Ratio]) -> dict[str, float | None]:
    return {name: reached / out_of if out_of else None for name, (reached, out_of) in clip.items()}
