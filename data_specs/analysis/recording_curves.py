"""Curves from a recording of a voice or an instrument, for a model to follow. N samples at 24 kHz, T frames (75 Hz)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.stats import rankdata

from data_specs.analysis import SHARPNESS, YIN, swift_f0
from data_specs.analysis.descriptors import SILENT_DB, AudioAnalysis
from data_specs.arrays import Bool, Float32, Float64
from data_specs.controls import CHROMA, CHROMA_STEPS, INSTRUMENTS, MAX_VELOCITY, UNCONDITIONED, VELOCITY
from data_specs.controls.brightness import Brightness
from data_specs.controls.curves import MAX_SECONDS, Curve, Curves
from data_specs.controls.pitch import PITCH_ORIGIN, PITCH_SPAN, Pitch
from data_specs.errors import UserError
from data_specs.io.audio import AudioError, read_audio
from data_specs.rates import SAMPLE_RATE

MOST_SECONDS = 30  # of a recording whose length is not given
HOP = 320  # samples: 75 frames a second
TRACKERS = (YIN, swift_f0.NAME)
GESTURE_S = 0.5  # window of the median filter at sharpness 0
TRACKER_FRAMES = 5  # window of the median filter against octave errors of the pitch, at any sharpness
SHORTEST_NOTE = 5  # frames: shorter runs of one semitone are glides or errors of the tracker
RANGE_PERCENTILES = (5.0, 95.0)  # of the loudness of sounding frames: softest and loudest velocity
NARROWEST_DB = 12.0  # range of loudness that is spread over all velocities, at least
SOFTEST = 0.15  # velocity at the lower percentile
DEEPEST_DB = 40.0  # below the loud frames, at which everything is a rest
BRIGHTNESS_STEPS, PITCH_STEPS = 100, 20  # of brightness; per semitone
ABOVE_NOISE_DB = 6.0  # level above the quietest frames at which an unvoiced frame sounds


@dataclass(frozen=True)
class _Gesture:
    """Descriptors of a recording, float32 [T] each; NaN where undefined."""

    loudness: Float32  # dB
    pitch: Float32  # MIDI note number, octave errors of a few frames removed
    centroid: Float32  # semitones above 20 Hz
    window: int  # frames of the median filter

    @cached_property
    def voiced(self) -> Bool:
        return ~np.isnan(self.pitch)

    @cached_property
    def resting(self) -> Bool:
        """Frames without sound, bool [T].

        These are below -70 dB, or more than 40 dB below the loud frames (95th percentile), or unvoiced and near the
        quietest frames (5th percentile, not below those limits): by less than 6 dB, or half the range up to the loud.
        """
        low, loud = (float(value) for value in np.percentile(self.loudness, RANGE_PERCENTILES))
        lowest = max(loud - DEEPEST_DB, SILENT_DB)
        quietest = max(low, lowest)
        threshold = quietest + min(ABOVE_NOISE_DB, (loud - quietest) / 2)
        return np.asarray((self.loudness < lowest) | (~self.voiced & (self.loudness < threshold)))

    def smoothed(self, values: Float32) -> Float32:
        """Return the median of `values` [T] over the window around each frame, NaN ignored; NaN values stay NaN."""
        return _median(values, self.window)

    def velocity(self) -> Float64:
        """Return velocities [T] by the smoothed loudness: 0 in rests, else linear in dB and clipped to 0.01..1.

        The 95th percentile of the sounding frames gives 1, the 5th 0.15; a smaller range than 12 dB counts as 12 dB.
        """
        sounding = self.loudness[~self.resting]
        low, high = np.percentile(sounding, RANGE_PERCENTILES)
        level = 1 - (high - self.smoothed(self.loudness)) / max(high - low, NARROWEST_DB)
        return np.where(self.resting, 0.0, np.clip(SOFTEST + (1 - SOFTEST) * level, 0.01, 1.0))

    def notes(self) -> Float64:
        """Return the MIDI note number [T] of the semitone nearest to the smoothed pitch.

        NaN without a pitch, and in runs of one semitone shorter than 5 frames.
        """
        semitones = np.round(self.smoothed(self.pitch)).astype(np.float64)
        edges = np.flatnonzero(np.diff(np.nan_to_num(semitones, nan=-1.0))) + 1
        for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(semitones)], strict=True):
            if stop - start < SHORTEST_NOTE:
                semitones[start:stop] = np.nan
        return semitones

    def brightness(self) -> Float64:
        """Return the rank of the smoothed centroid among the sounding frames, divided by their number: [T], in 0..1.

        It is UNCONDITIONED in rests and where the centroid is undefined.
        """
        centroid = self.smoothed(self.centroid)
        known = ~np.isnan(centroid) & ~self.resting
        found = np.full(len(centroid), UNCONDITIONED)
        if known.any():
            found[known] = (rankdata(centroid[known]) - 0.5) / known.sum()
        return found


def read_recording(path: Path | BinaryIO, seconds: float | None = None, start_s: float = 0.0) -> Float32:
    """Return a stretch of an audio file, float32 [N] at 24 kHz, mono, padded at its end with silence to `seconds`.

    Args:
        path: an audio file, or an open one.
        seconds: length of the stretch; None for the rest of the recording, at most 30 s of it.
        start_s: start of the stretch in the recording, in seconds.

    Raises:
        UserError: the file is unreadable or not audio, it ends before `start_s`, or a time is out of range.
    """
    if not 0 <= start_s < math.inf:
        raise UserError(f"START= must be >= 0 s, got {start_s:g}")
    if seconds is not None and not 0 < seconds <= MAX_SECONDS:
        raise UserError(f"SECONDS= must be above 0 and at most {MAX_SECONDS}, got {seconds:g}")
    name = path if isinstance(path, Path) else "the recording"
    try:
        audio = read_audio(path)[round(start_s * SAMPLE_RATE) :]
    except AudioError as error:
        raise UserError(f"{name} cannot be read: {error}; choose another file or export it again") from None
    if not len(audio):
        raise UserError(f"START= must be within {name}, got {start_s:g} s")
    wanted = min(len(audio), MOST_SECONDS * SAMPLE_RATE) if seconds is None else round(seconds * SAMPLE_RATE)
    return np.pad(audio[:wanted], (0, max(0, wanted - len(audio))))


def curves_from_audio(
    audio: Float32,
    names: Sequence[str],
    sharpness: float = SHARPNESS,
    notes: bool = False,
    instrument: str | None = None,
    tracker: str = YIN,
) -> Curves:
    """Return the curves of a recording, each with at most 75 points a second.

    Velocity is the loudness in dB between its 5th and 95th percentile, brightness the rank of the spectral centroid.
    Pitch follows the pitch or, with `notes`, its nearest semitone, as chroma always does. Frames without sound are
    rests; pitch and chroma are unconditioned at other frames without a reliable pitch.

    Args:
        audio: float32 [N] at 24 kHz.
        names: the controls to return; controls other than these four and `instruments` are left out.
        sharpness: 1 follows every frame; below, a median filter of (1 - sharpness) / 2 seconds smooths all curves.
        notes: whether pitch moves in steps of semitones.
        instrument: name of the instrument; None leaves the control `instruments` unconditioned.
        tracker: of the pitch: `yin`, or `swift-f0` for noisy recordings.

    Raises:
        UserError: `sharpness` or `tracker` is out of range, the tracker is not installed, or the recording is silent.
    """
    if not 0 <= sharpness <= 1:
        raise UserError(f"SHARPNESS= must be in 0..1, got {sharpness:g}")
    if tracker not in TRACKERS:
        raise UserError(f"TRACKER= must be {' or '.join(TRACKERS)}, got {tracker}")
    gesture = _analyze(audio, sharpness, tracker)
    if gesture.resting.all():
        raise UserError("the recording is silent")
    found = {name: values for name in names if (values := _frames(gesture, name, notes)) is not None}
    sounding = np.where(gesture.resting, 0.0, 1.0)
    curves = dict(Curves.from_arrays(found, (), HOP, sounding).curves)
    if instrument is not None and INSTRUMENTS in names:
        curves[INSTRUMENTS] = Curve(((0, instrument),), "step")
    return Curves(curves)


def _analyze(audio: Float32, sharpness: float, tracker: str) -> _Gesture:
    found = AudioAnalysis(torch.from_numpy(np.ascontiguousarray(audio, np.float32)), HOP, max(1, -(-len(audio) // HOP)))
    loudness, centroid = found.loudness[0].numpy(), found.centroid[0].numpy()
    if tracker == YIN:
        pitch = found.pitch[0].numpy()
    else:
        pitch = np.where(found.silent[0].numpy(), np.nan, swift_f0.swift_pitch(audio, HOP, found.frames))
    window = 2 * round((1 - sharpness) * GESTURE_S * SAMPLE_RATE / HOP / 2) + 1
    return _Gesture(loudness, _median(pitch, TRACKER_FRAMES), centroid, window)


def _median(values: Float32, window: int) -> Float32:
    """Return the running median of values [T] over `window` frames, which ignores NaN; NaN values stay NaN."""
    if window < 2:
        return values
    half = window // 2
    padded = np.pad(values, half, constant_values=np.nan)
    missing = np.isnan(values)
    if not np.isnan(padded[half:-half]).any():
        return np.asarray(median_filter(values, window, mode="nearest"))
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)
    found = values.copy()
    found[~missing] = np.nanmedian(windows[~missing], axis=1)
    return found


def _frames(gesture: _Gesture, name: str, notes: bool) -> Float32 | None:
    """Return the frames [T] of the control `name`, UNCONDITIONED where not known; None if a recording cannot give it.

    `notes` is whether pitch is in steps of semitones.
    """
    if name == VELOCITY:
        return _rounded(gesture.velocity(), MAX_VELOCITY)
    if name == Brightness.name:
        return _rounded(gesture.brightness(), BRIGHTNESS_STEPS)
    if name == CHROMA:
        midi = gesture.notes()
        return _rounded(np.where(gesture.resting, 0.0, np.nan_to_num(midi % 12 / CHROMA_STEPS, nan=UNCONDITIONED)), 0)
    if name == Pitch.name:
        midi = gesture.notes() if notes else gesture.smoothed(gesture.pitch).astype(np.float64)
        midi = np.where((midi > PITCH_ORIGIN) & (midi <= PITCH_ORIGIN + PITCH_SPAN), midi, np.nan)
        stored = np.nan_to_num((midi - PITCH_ORIGIN) / PITCH_SPAN, nan=UNCONDITIONED)
        return _rounded(np.where(gesture.resting, 0.0, stored), PITCH_SPAN * PITCH_STEPS)
    return None


def _rounded(values: NDArray[Any], steps: int) -> Float32:
    """Return values rounded to multiples of 1 / `steps`, so that small changes add no points; for 0 unchanged."""
    return np.asarray(values if not steps else np.round(values * steps) / steps, np.float32)
