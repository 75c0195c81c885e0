"""Adherence of audio to its controls, measured from the audio alone.

A measure of a clip is a ratio of two counts, so that clips average by their counts:

chroma          share of frames with a target pitch class whose tracked pitch is within half a semitone of it, modulo
                octaves; an unvoiced frame counts as wrong
pitch           share of voiced frames with a target pitch class that are within a semitone of it, modulo octaves
velocity_rank   Spearman's rank correlation, within a clip, of target velocities and peak levels after their onsets
velocity_error  mean absolute error of velocities estimated from peak levels, in velocity / 127
onsets          F-measure of onsets within 50 ms
silence         F-measure of silent frames within 30 ms, since rests of a few frames end in releases
dynamics_rank   Spearman's rank correlation of target and measured level curves within notes, each note centred
dynamics_error  mean absolute error of the level curve within notes, each note centred, in dB
pitch_accuracy  share of frames with a target pitch whose tracked pitch is within 50 cents, octaves counted; an unvoiced
                frame counts as wrong (raw pitch accuracy of mir_eval)
pitch_error     mean absolute error of the tracked pitch of voiced frames in cents, octaves counted
brightness_rank   Spearman's rank correlation, within a clip, of target brightness and that estimated from the centroid
brightness_error  mean absolute error of the brightness estimated from the centroid
loudness_rank   Spearman's rank correlation, within a clip, of target and measured loudness where either is audible
loudness_error  mean absolute error of the loudness there, in dB
centroid_rank   Spearman's rank correlation, within a clip, of target and measured centroid
centroid_error  mean absolute error of the centroid, in semitones
instrument      share of one-second patches that the classifier assigns to the target instrument

A control has an entry in `ADHERENCE`; another control is followed unmeasured. A control that is unconditioned (-1)
leaves out the measures that need it. Levels and centroids are judged against
what real clips show for the same controls (`velocity.py`, `frame_models.py`).

B clips, F frames, P patches, I instruments.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from torch import Tensor

from data_specs.analysis.pitch import HOP
from data_specs.arrays import Bool, Float32, Float64
from data_specs.controls.measured import CENTROID_SPAN, QUIETEST_DB, Centroid, Loudness, Noisiness
from data_specs.errors import UserError
from data_specs.io.files import Json
from training.evaluation.embedders.classifier import PATCHES, InstrumentClassifier
from training.evaluation.features import FrameFeatures, extract_features
from training.evaluation.frame_models import FrameModels, NoteFrames, note_frames
from training.evaluation.targets import UNSPECIFIED, ControlTargets
from training.evaluation.velocity import VelocityScale, note_levels

ONSET_TOLERANCE_S = 0.05
SILENCE_TOLERANCE = 3  # frames
MIN_RANKED = 4  # notes of a clip: a rank correlation of fewer is chance
MIN_CURVE = 30  # frames of a clip, for the rank correlation of curves
MOVING_DB = 3.0  # range of the target level within a note, below which its dynamics are constant
AUDIBLE_DB = -75.0  # A-weighted, 5 dB above the floor of the measurement
LOUDNESS, CENTROID, NOISINESS = MEASURED = Loudness.name, Centroid.name, Noisiness.name
DESCRIPTOR_UNITS = {  # scale and offset of a stored value
    LOUDNESS: (QUIETEST_DB, -QUIETEST_DB),
    CENTROID: (CENTROID_SPAN, 0.0),
    NOISINESS: (1.0, 0.0),
}
MOVING_BRIGHTNESS = 0.1  # range of the target brightness within a clip

Ratio = tuple[float, float]  # numerator and denominator; (0, 0) where a measure is undefined
Ratios = dict[str, Ratio]


@dataclass(frozen=True)
class ClipAnalysis:
    """Analysis of clips, independent of their controls; it takes most of the time of a measurement."""

    features: FrameFeatures
    instruments: Float32  # [B, P, I], probabilities; [B, P, 0] without a classifier of the labels
    samples: int

    def __len__(self) -> int:
        return len(self.features.midi)

    @classmethod
    def concatenate(cls, parts: Sequence["ClipAnalysis"]) -> "ClipAnalysis":
        """Join batches of clips of one length."""
        arrays = [[getattr(part.features, field.name) for part in parts] for field in fields(FrameFeatures)]
        instruments = np.concatenate([part.instruments for part in parts])
        return cls(FrameFeatures(*map(np.concatenate, arrays)), instruments, parts[0].samples)


def analyze(audio: Tensor, classifier: InstrumentClassifier, controls: Sequence[str] = ()) -> ClipAnalysis:
    """Return the analysis of float32 [B, 1, N] at 24 kHz, with noisiness if it is among `controls`.

    Raises:
        UserError: audio that is not finite, or shorter than a patch of the classifier.
    """
    if not bool(audio.isfinite().all()):
        raise UserError("the audio is not finite; the model may have diverged: check its samples")
    features = extract_features(audio, NOISINESS in controls)
    return ClipAnalysis(features, classifier.instrument_probabilities(audio).numpy(), audio.shape[-1])


@dataclass(frozen=True)
class Calibration:
    """How level and centroid depend on the controls, fitted on real clips."""

    velocity: VelocityScale
    frames: FrameModels

    @classmethod
    def fit(cls, real: ClipAnalysis, targets: Sequence[ControlTargets], instruments: int) -> "Calibration":
        """Return the calibration of real clips with known controls."""
        arguments = real.features, targets, instruments
        return cls(VelocityScale.fit(*arguments), FrameModels.fit(*arguments))


def measure(analysis: ClipAnalysis, targets: Sequence[ControlTargets], calibration: Calibration) -> list[Ratios]:
    """Return every measure of every clip.

    Args:
        analysis: of B clips.
        targets: of each clip.
        calibration: fitted on real clips of the same dataset.

    Raises:
        ValueError: the numbers of clips and targets differ.
    """
    return [
        _clip(analysis, number, one, calibration) for number, one in zip(range(len(analysis)), targets, strict=True)
    ]


def average(ratios: Sequence[Ratios], measures: Sequence[str] | None = None) -> dict[str, float | None]:
    """Return each measure over all clips, weighted by their counts; None where it is undefined.

    Without `measures`: those of the project.
    """
    names = measure_names() if measures is None else measures
    sums = {name: np.sum([clip[name] for clip in ratios], axis=0) if ratios else (0, 0) for name in names}
    return {name: float(top / bottom) if bottom else None for name, (top, bottom) in sums.items()}


def anchors(
    real: ClipAnalysis, targets: Sequence[ControlTargets], calibration: Calibration, seed: int
) -> dict[str, dict[str, float | None]]:
    """Return the measures of real clips: `ceiling` against their own controls, `floor` against those of another clip.

    The other clip is the next one in a seeded order, so that no clip keeps its own controls.
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return {
        "ceiling": average(measure(real, targets, calibration)),
        "floor": average(measure(real, [targets[other[number]] for number in range(len(targets))], calibration)),
    }


def _clip(analysis: ClipAnalysis, number: int, targets: ControlTargets, calibration: Calibration) -> Ratios:
    found: Ratios = {}
    for control in ADHERENCE.values():
        found |= dict(zip(control.measures, control.ratios(analysis, number, targets, calibration), strict=True))
    return found


def _chroma(analysis: ClipAnalysis, number: int, targets: ControlTargets, _: Calibration) -> tuple[Ratio, ...]:
    features = analysis.features
    pitched = targets.stable & targets.note & (targets.pitch_class != UNSPECIFIED)
    distance = np.abs((features.midi[number] - targets.pitch_class + 6) % 12 - 6)
    voiced = pitched & features.voiced[number]
    return _share(voiced & (distance < 0.5), pitched), _share(voiced & (distance <= 1.0), voiced)


def _pitch(analysis: ClipAnalysis, number: int, targets: ControlTargets, _: Calibration) -> tuple[Ratio, ...]:
    features = analysis.features
    cents = 100 * np.abs(features.midi[number] - targets.pitch)
    with_pitch = targets.stable & np.isfinite(targets.pitch)
    tracked = with_pitch & features.voiced[number]
    return _share(tracked & (cents <= 50), with_pitch), (float(cents[tracked].sum()), float(tracked.sum()))


def _share(right: Bool, of: Bool) -> Ratio:
    return float(right.sum()), float(of.sum())


def _silence(silent: Bool, targets: ControlTargets) -> Ratio:
    """F-measure over frames; one is right when the other side has one within the tolerance."""
    found = silent & targets.rests_known
    right = (found & _widened(targets.rest)).sum() + (targets.rest & _widened(found)).sum()
    return float(right), float(found.sum() + targets.rest.sum())


def _widened(frames: Bool) -> Bool:
    """True within `SILENCE_TOLERANCE` frames of a true one."""
    reach = np.ones(2 * SILENCE_TOLERANCE + 1)
    return np.convolve(frames, reach, mode="same") > 0.5


def _onsets(features: FrameFeatures, number: int, targets: ControlTargets) -> Ratio:
    found = features.times()[features.onset[number] & targets.onsets_known]
    hits = matches(targets.onsets, found, ONSET_TOLERANCE_S)
    return 2.0 * hits, float(len(targets.onsets) + len(found))


def matches(one: Float64, other: Float64, tolerance: float) -> int:
    """Return the size of the largest one-to-one matching of two sorted lists of times, pairs within `tolerance`.

    Taking the earliest possible partner each time is optimal on a line.
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


def _velocity(
    analysis: ClipAnalysis, number: int, targets: ControlTargets, calibration: Calibration
) -> tuple[Ratio, ...]:
    features = analysis.features
    return (
        *_struck(features, number, targets, calibration.velocity),
        _onsets(features, number, targets),
        _silence(features.silent[number], targets),
        *_dynamics(note_frames(features, number, targets), calibration.frames),
    )


def _dynamics(frames: NoteFrames, models: FrameModels) -> tuple[Ratio, Ratio]:
    """Compare level curves within the notes whose target level moves."""
    target, level = models.dynamics(frames)
    _, note = np.unique(frames.note, return_inverse=True)
    moving = np.zeros(len(note), bool)
    for number in range(int(note.max(initial=-1)) + 1):
        of = note == number
        if np.ptp(target[of]) >= MOVING_DB:
            moving |= of
            target[of], level[of] = target[of] - target[of].mean(), level[of] - level[of].mean()
    moving &= np.isfinite(level)
    return _curve(target[moving], level[moving])


def _brightness(
    analysis: ClipAnalysis, number: int, targets: ControlTargets, calibration: Calibration
) -> tuple[Ratio, ...]:
    """Compare the brightness estimated from the centroid with its target."""
    frames = note_frames(analysis.features, number, targets)
    estimate = calibration.frames.brightness(frames)
    known = np.isfinite(estimate)
    if not np.isfinite(targets.brightness).any() or not known.any():
        return (0.0, 0.0), (0.0, 0.0)
    target = frames.brightness[known]
    rank, error = _curve(target, np.clip(estimate[known], 0, 1))
    return (rank if np.ptp(target) >= MOVING_BRIGHTNESS else (0.0, 0.0)), error


def descriptor_adherence(
    name: str, features: FrameFeatures, number: int, targets: ControlTargets
) -> tuple[Ratio, Ratio]:
    """Return rank correlation and error of a measured control, over the frames in which target and audio have it.

    Loudness is compared where target or audio is above the floor.
    """
    found = getattr(features, name)[number].astype(np.float64)
    scale, offset = DESCRIPTOR_UNITS[name]
    target = scale * _target(targets, name) + offset
    known = np.isfinite(target) & np.isfinite(found)
    if name == LOUDNESS:
        known &= np.maximum(target, found) > AUDIBLE_DB
    return _curve(target[known], found[known]) if known.any() else ((0.0, 0.0), (0.0, 0.0))


def _target(targets: ControlTargets, name: str) -> Float64:
    """Return a control of the targets [F]; NaN where unconditioned, everywhere without the control."""
    return targets.controls.get(name, np.full(len(targets.note), np.nan))


def _curve(target: Float64, measured: Float64) -> tuple[Ratio, Ratio]:
    """Rank correlation of two curves, one clip each, and their absolute error, one frame each."""
    error = (float(np.abs(measured - target).sum()), float(len(target)))
    if len(target) < MIN_CURVE or np.ptp(target) == 0:
        return (0.0, 0.0), error
    return (0.0 if np.ptp(measured) == 0 else float(_rank_correlation(target, measured)), 1.0), error


def _struck(features: FrameFeatures, number: int, targets: ControlTargets, scale: VelocityScale) -> tuple[Ratio, Ratio]:
    """Compare velocities estimated from the levels after onsets with their targets."""
    notes = note_levels(features, number, targets)
    estimate = scale.velocity(notes)
    known = np.isfinite(estimate)
    error = (float(np.abs(estimate - notes.velocity)[known].sum()), float(known.sum()))
    varied = len(estimate) >= MIN_RANKED and np.ptp(notes.velocity) > 0
    if not varied or not known.all():
        return (0.0, 0.0), error
    if np.ptp(estimate) == 0:  # constant, for example silent: no correlation
        return (0.0, 1.0), error
    return (float(_rank_correlation(notes.velocity, estimate)), 1.0), error


def _rank_correlation(one: Float64, other: Float64) -> float:
    """Spearman's rho: the correlation of ranks, ties sharing their mean rank."""
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def _instruments(analysis: ClipAnalysis, number: int, targets: ControlTargets, _: Calibration) -> tuple[Ratio, ...]:
    """Count the patches that hold a note, or all patches where rests are unconditioned."""
    if not analysis.instruments.shape[-1]:
        return ((0.0, 0.0),)
    half = PATCHES.length // 2
    centres = PATCHES.centres(analysis.samples) // HOP
    playing = targets.note | ~targets.rest
    right = of = 0
    for centre, probabilities in zip(centres.tolist(), analysis.instruments[number], strict=True):
        instrument = targets.instrument[centre]
        if instrument != UNSPECIFIED and playing[max(0, centre - half) : centre + half].any():
            of += 1
            right += int(probabilities.argmax() == instrument)
    return ((float(right), float(of)),)


@dataclass(frozen=True)
class Adherence:
    """How adherence to one control is measured.

    Attributes:
        measures: their names.
        ratios: measures one clip: analysis, number of the clip in it, targets, calibration -> a ratio of each measure.
        lower_is_better: the measures that are errors.
    """

    measures: tuple[str, ...]
    ratios: Callable[[ClipAnalysis, int, ControlTargets, Calibration], tuple[Ratio, ...]]
    lower_is_better: frozenset[str] = frozenset()


def _descriptor(name: str) -> Adherence:
    """Return how adherence to a measured control is measured."""

    def ratios(analysis: ClipAnalysis, number: int, targets: ControlTargets, _: Calibration) -> tuple[Ratio, ...]:
        return descriptor_adherence(name, analysis.features, number, targets)

    return Adherence((f"{name}_rank", f"{name}_error"), ratios, frozenset({f"{name}_error"}))


ADHERENCE = {
    "chroma": Adherence(("chroma", "pitch"), _chroma),
    "velocity": Adherence(
        ("velocity_rank", "velocity_error", "onsets", "silence", "dynamics_rank", "dynamics_error"),
        _velocity,
        frozenset({"velocity_error", "dynamics_error"}),
    ),
    "pitch": Adherence(("pitch_accuracy", "pitch_error"), _pitch, frozenset({"pitch_error"})),
    "brightness": Adherence(("brightness_rank", "brightness_error"), _brightness, frozenset({"brightness_error"})),
    **{name: _descriptor(name) for name in MEASURED},
    "instruments": Adherence(("instrument",), _instruments),
}


def measure_names() -> tuple[str, ...]:
    """Return the names of all measures."""
    return tuple(name for control in ADHERENCE.values() for name in control.measures)


def lower_is_better() -> frozenset[str]:
    """Return the names of the measures that are errors."""
    return frozenset().union(*(control.lower_is_better for control in ADHERENCE.values()))


def to_json(ratios: Sequence[Ratios], ids: Sequence[str]) -> list[Json]:
    """Return the measures of each clip beside its id; None where one is undefined."""
    return [{"id": one, **_values(clip)} for one, clip in zip(ids, ratios, strict=True)]


def _values(clip: Mapping[str, Ratio]) -> dict[str, float | None]:
    return {name: top / bottom if bottom else None for name, (top, bottom) in clip.items()}
