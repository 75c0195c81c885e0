"""Adherence of audio to its controls, measured from the audio alone.

A measure of a clip is a ratio: a sum and the count it is divided by. Clips are averaged by adding both, so that a clip
counts by its frames, notes or patches, or as one for a rank correlation.

chroma          share of frames with a target pitch class whose tracked pitch is within half a semitone of it, modulo
                octaves; an unvoiced frame counts as wrong
pitch           share of voiced frames with a target pitch class that are within a semitone of it, modulo octaves
velocity_rank   Spearman's rank correlation, within a clip, of target velocities and those estimated from peak levels
                after their onsets
velocity_error  mean absolute error of velocities estimated from peak levels, in velocity / 127
onsets          F-measure of onsets within 50 ms
silence         F-measure of silent frames within 30 ms, since rests of a few frames end in releases
dynamics_rank   Spearman's rank correlation of target and measured level curves within notes, each note centred
dynamics_error  mean absolute error of the level curve within notes, each note centred, in dB
pitch_accuracy  share of frames with a target pitch whose tracked pitch is within 50 cents, octaves counted; an unvoiced
                frame counts as wrong (raw pitch accuracy of mir_eval)
pitch_error     mean absolute error of the tracked pitch of voiced frames in cents, octaves counted
brightness_rank   Spearman's rank correlation, within a clip, of target brightness and that estimated from the centroid
brightness_error  mean absolute error of the brightness estimated from the centroid, in 0..1
loudness_rank   Spearman's rank correlation, within a clip, of target and measured loudness where either is audible
loudness_error  mean absolute error of the loudness there, in dB
centroid_rank   Spearman's rank correlation, within a clip, of target and measured centroid
centroid_error  mean absolute error of the centroid, in semitones
noisiness_rank   Spearman's rank correlation, within a clip, of target and measured noisiness
noisiness_error  mean absolute error of the noisiness, in 0..1
instrument      share of patches of 1.04 s with a note that the classifier assigns to the target instrument

Frames within 25 ms of a change of note are left out of the measures of chroma, pitch, dynamics and brightness; of the
latter two also the first 60 ms of a note. Dynamics are those of notes whose target level moves by 3 dB or more.

`ADHERENCE` has an entry for each control that has measures; adherence to other controls is not measured. Measures are
undefined where the controls they need are unconditioned (-1). Levels and centroids are compared with those of real
clips with the same controls (`velocity.py`, `frame_models.py`).

B clips, F frames of 10 ms, P patches, I instruments.
"""

from collections.abc import Callable, Sequence
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
MIN_RANKED = 4  # smallest number of notes in a clip for a rank correlation
MIN_CURVE = 30  # smallest number of frames in a clip for the rank correlation of curves
MOVING_DB = 3.0  # smallest range of the target level within a note whose dynamics are measured
AUDIBLE_DB = -75.0  # A-weighted, 5 dB above the floor of the measurement
LOUDNESS, CENTROID, NOISINESS = MEASURED = Loudness.name, Centroid.name, Noisiness.name
DESCRIPTOR_UNITS = {  # scale and offset of a stored value
    LOUDNESS: (QUIETEST_DB, -QUIETEST_DB),
    CENTROID: (CENTROID_SPAN, 0.0),
    NOISINESS: (1.0, 0.0),
}
MOVING_BRIGHTNESS = 0.1  # smallest range of the target brightness in a clip for its rank correlation

Ratio = tuple[float, float]  # numerator and denominator; (0, 0) where a measure is undefined
Ratios = dict[str, Ratio]
Measured = tuple[Ratio, ...]
UNDEFINED: Ratio = (0.0, 0.0)


@dataclass(frozen=True)
class ClipAnalysis:
    """Analysis of B clips of N = `samples` audio samples each, independent of their controls."""

    features: FrameFeatures
    instruments: Float32  # [B, P, I], probabilities; [B, P, 0] if the classifier lacks an instrument
    samples: int

    def __len__(self) -> int:
        return len(self.features.midi)

    @classmethod
    def concatenate(cls, parts: Sequence["ClipAnalysis"]) -> "ClipAnalysis":
        """Return one analysis of the clips of one or more batches, in order; all clips have the same length."""
        arrays = [[getattr(part.features, field.name) for part in parts] for field in fields(FrameFeatures)]
        instruments = np.concatenate([part.instruments for part in parts])
        return cls(FrameFeatures(*map(np.concatenate, arrays)), instruments, parts[0].samples)


def analyze(audio: Tensor, classifier: InstrumentClassifier, controls: Sequence[str] = ()) -> ClipAnalysis:
    """Return the analysis of audio, float32 [B, 1, N] at 24 kHz; noisiness is NaN unless it is among `controls`.

    Raises:
        UserError: audio that is not finite, or shorter than a patch of the classifier.
    """
    if not bool(audio.isfinite().all()):
        raise UserError("audio must be finite, got inf or NaN; the model may have diverged: check its samples")
    features = extract_features(audio, NOISINESS in controls)
    return ClipAnalysis(features, classifier.instrument_probabilities(audio).numpy(), audio.shape[-1])


@dataclass(frozen=True)
class Calibration:
    """Models fitted on real clips: of note velocities by peak levels (`velocity`), of level and centroid (`frames`)."""

    velocity: VelocityScale
    frames: FrameModels

    @classmethod
    def fit(cls, real: ClipAnalysis, targets: Sequence[ControlTargets], instruments: int) -> "Calibration":
        """Return the models fitted on one or more real clips with the targets of each, for I = `instruments`."""
        arguments = real.features, targets, instruments
        return cls(VelocityScale.fit(*arguments), FrameModels.fit(*arguments))


def measure(analysis: ClipAnalysis, targets: Sequence[ControlTargets], calibration: Calibration) -> list[Ratios]:
    """Return all measures of each clip by name, as numerator and denominator.

    Args:
        analysis: analysis of B clips.
        targets: targets of each clip.
        calibration: models fitted on real clips of the same dataset.

    Raises:
        ValueError: the numbers of clips and targets differ.
    """
    found: list[Ratios] = []
    for number, one in zip(range(len(analysis)), targets, strict=True):
        found.append({})
        for control in ADHERENCE.values():
            found[-1] |= dict(zip(control.measures, control.ratios(analysis, number, one, calibration), strict=True))
    return found


def average(ratios: Sequence[Ratios], measures: Sequence[str] | None = None) -> dict[str, float | None]:
    """Return each measure over all clips: its summed numerators over its summed denominators; None if the latter are 0.

    Args:
        ratios: measures of each clip, which must include those of `measures`.
        measures: names of the measures; None for those of `measure_names`.
    """
    names = measure_names() if measures is None else measures
    sums = {name: np.sum([clip[name] for clip in ratios], axis=0) if ratios else (0, 0) for name in names}
    return {name: float(top / bottom) if bottom else None for name, (top, bottom) in sums.items()}


def anchors(
    real: ClipAnalysis, targets: Sequence[ControlTargets], calibration: Calibration, seed: int
) -> dict[str, dict[str, float | None]]:
    """Return the averaged measures of real clips against their own controls (`ceiling`) and those of others (`floor`).

    The other clip is the one before it in a random order, that of the first the last; `seed` determines the order.
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return {
        "ceiling": average(measure(real, targets, calibration)),
        "floor": average(measure(real, [targets[other[number]] for number in range(len(targets))], calibration)),
    }


def _chroma(analysis: ClipAnalysis, number: int, targets: ControlTargets, _: Calibration) -> Measured:
    features = analysis.features
    pitched = targets.stable & targets.note & (targets.pitch_class != UNSPECIFIED)
    distance = np.abs((features.midi[number] - targets.pitch_class + 6) % 12 - 6)
    voiced = pitched & features.voiced[number]
    return share(voiced & (distance < 0.5), pitched), share(voiced & (distance <= 1.0), voiced)


def _pitch(analysis: ClipAnalysis, number: int, targets: ControlTargets, _: Calibration) -> Measured:
    features = analysis.features
    cents = 100 * np.abs(features.midi[number] - targets.pitch)
    with_pitch = targets.stable & np.isfinite(targets.pitch)
    tracked = with_pitch & features.voiced[number]
    return share(tracked & (cents <= 50), with_pitch), (float(cents[tracked].sum()), float(tracked.sum()))


def share(right: Bool, of: Bool) -> Ratio:
    """Return the share of frames as a ratio: the number of true values in `right`, and that in `of`."""
    return float(right.sum()), float(of.sum())


def _silence(silent: Bool, targets: ControlTargets) -> Ratio:
    """Return the F-measure of `silent` frames and target rests as a ratio; frames within 30 ms of each other match."""
    found = silent & targets.rests_known
    right = (found & _widened(targets.rest)).sum() + (targets.rest & _widened(found)).sum()
    return float(right), float(found.sum() + targets.rest.sum())


def _widened(frames: Bool) -> Bool:
    """Return which frames are within SILENCE_TOLERANCE frames of a true one, bool [F]."""
    reach = np.ones(2 * SILENCE_TOLERANCE + 1)
    return np.convolve(frames, reach, mode="same") > 0.5


def _onsets(features: FrameFeatures, number: int, targets: ControlTargets) -> Ratio:
    found = features.times()[features.onset[number] & targets.onsets_known]
    return f_measure(targets.onsets, found)


def f_measure(one: Float64, other: Float64) -> Ratio:
    """Return the F-measure of two sorted lists of onsets in seconds as a ratio; they match within 50 ms."""
    return 2.0 * matches(one, other, ONSET_TOLERANCE_S), float(len(one) + len(other))


def matches(one: Float64, other: Float64, tolerance: float) -> int:
    """Return the largest number of pairs of a time of `one` and a time of `other` that differ by `tolerance` at most.

    All are in seconds, the lists are sorted, and a time is in one pair only. Matching each time to the earliest
    possible partner is optimal for sorted times.
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


def _velocity(analysis: ClipAnalysis, number: int, targets: ControlTargets, calibration: Calibration) -> Measured:
    features = analysis.features
    return (
        *_struck(features, number, targets, calibration.velocity),
        _onsets(features, number, targets),
        _silence(features.silent[number], targets),
        *_dynamics(note_frames(features, number, targets), calibration.frames),
    )


def _dynamics(frames: NoteFrames, models: FrameModels) -> tuple[Ratio, Ratio]:
    """Return `_curve` of target and measured level, each note centred, without notes that move less than MOVING_DB."""
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


def _brightness(analysis: ClipAnalysis, number: int, targets: ControlTargets, calibration: Calibration) -> Measured:
    """Return rank correlation and error of target brightness and the one estimated from the centroid, as `_curve`.

    The estimate is clipped to 0..1. The rank correlation is UNDEFINED if the range of the target is below
    MOVING_BRIGHTNESS, and both are where no frame has an estimate or brightness is unconditioned in all.
    """
    frames = note_frames(analysis.features, number, targets)
    estimate = calibration.frames.brightness(frames)
    known = np.isfinite(estimate)
    if not np.isfinite(targets.brightness).any() or not known.any():
        return UNDEFINED, UNDEFINED
    target = frames.brightness[known]
    rank, error = _curve(target, np.clip(estimate[known], 0, 1))
    return (rank if np.ptp(target) >= MOVING_BRIGHTNESS else UNDEFINED), error


def descriptor_adherence(
    name: str, features: FrameFeatures, number: int, targets: ControlTargets
) -> tuple[Ratio, Ratio]:
    """Return rank correlation and error of a measured control in one clip, over frames with a target and a measurement.

    Loudness is compared in frames where the target or the audio is above AUDIBLE_DB. The error is in dB, semitones or
    (for noisiness) a share. Both are UNDEFINED if there is no such frame.

    Args:
        name: name of the control, one of MEASURED.
        features: features of all clips.
        number: number of the clip in `features`.
        targets: targets of the clip.
    """
    found = getattr(features, name)[number].astype(np.float64)
    scale, offset = DESCRIPTOR_UNITS[name]
    target = scale * targets.controls.get(name, np.full(len(targets.note), np.nan)) + offset
    known = np.isfinite(target) & np.isfinite(found)
    if name == LOUDNESS:
        known &= np.maximum(target, found) > AUDIBLE_DB
    return _curve(target[known], found[known]) if known.any() else (UNDEFINED, UNDEFINED)


def _curve(target: Float64, measured: Float64) -> tuple[Ratio, Ratio]:
    """Return the rank correlation of two curves, over the count 1, and their summed absolute error, over their frames.

    The rank correlation is UNDEFINED for fewer than MIN_CURVE frames or a constant target.
    """
    error = (float(np.abs(measured - target).sum()), float(len(target)))
    return (UNDEFINED if len(target) < MIN_CURVE or np.ptp(target) == 0 else _rank(target, measured)), error


def _struck(features: FrameFeatures, number: int, targets: ControlTargets, scale: VelocityScale) -> tuple[Ratio, Ratio]:
    """Return rank correlation and error of the velocities of clip `number`, estimated from the levels after onsets.

    The rank correlation is UNDEFINED for fewer than MIN_RANKED notes, equal targets, or a note without an estimate.
    """
    notes = note_levels(features, number, targets)
    estimate = scale.velocity(notes)
    known = np.isfinite(estimate)
    error = (float(np.abs(estimate - notes.velocity)[known].sum()), float(known.sum()))
    defined = len(estimate) >= MIN_RANKED and np.ptp(notes.velocity) > 0 and known.all()
    return (_rank(notes.velocity, estimate) if defined else UNDEFINED), error


def _rank(target: Float64, measured: Float64) -> Ratio:
    """Return Spearman's rank correlation of two arrays, over the count 1; 0 if the measured values are all equal."""
    from scipy.stats import rankdata

    if np.ptp(measured) == 0:
        return 0.0, 1.0
    return float(np.corrcoef(rankdata(target), rankdata(measured))[0, 1]), 1.0


def _instruments(analysis: ClipAnalysis, number: int, targets: ControlTargets, _: Calibration) -> Measured:
    """Return the share of patches of a clip that are classified as their target instrument, as the only measure.

    It is that at the centre of the patch. Patches without a target there count in neither number, nor do those in which
    all frames are known to be rests. UNDEFINED if the classifier lacks an instrument.
    """
    if not analysis.instruments.shape[-1]:
        return (UNDEFINED,)
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
    """Measures of the adherence to one control.

    Attributes:
        measures: names of the measures.
        ratios: function of (analysis of all clips, number of one clip in it, targets of this clip, calibration) that
            returns the measures of this clip as ratios, in the order of `measures`.
        lower_is_better: names of the measures that are errors.
    """

    measures: tuple[str, ...]
    ratios: Callable[[ClipAnalysis, int, ControlTargets, Calibration], Measured]
    lower_is_better: frozenset[str] = frozenset()


def _descriptor(name: str) -> Adherence:
    """Return the measures of the adherence to the measured control `name`: `<name>_rank` and `<name>_error`."""

    def ratios(analysis: ClipAnalysis, number: int, targets: ControlTargets, _: Calibration) -> Measured:
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
    """Return the names of all measures, in the order of ADHERENCE."""
    return tuple(name for control in ADHERENCE.values() for name in control.measures)


def lower_is_better() -> frozenset[str]:
    """Return the names of the measures of which lower values are better: the errors."""
    return frozenset().union(*(control.lower_is_better for control in ADHERENCE.values()))


def to_json(ratios: Sequence[Ratios], ids: Sequence[str]) -> list[Json]:
    """Return a JSON object for each clip: its `id`, and the value of each measure by name, None where undefined."""
    return [
        {"id": one, **{name: top / bottom if bottom else None for name, (top, bottom) in clip.items()}}
        for one, clip in zip(ids, ratios, strict=True)
    ]
