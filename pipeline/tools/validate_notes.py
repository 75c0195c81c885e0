"""Checks that the notes which the controls of a dataset describe can be heard.

`check_planned_notes` compares the planned notes with what the presets of the SoundFont can play. It is exact, but needs
the SoundFont and the plan. `AudioNotes` measures the stored audio, and needs a dataset of the format audio.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from data_specs.analysis.pitch import PitchRange, track
from data_specs.arrays import Arrays
from data_specs.dataset import DatasetInfo
from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE
from data_specs.spec import SPLITS
from pipeline.build.presets import built_plan
from pipeline.plan.plan import count_unplayable
from pipeline.render.preset_check import MAX_DETUNE_CENTS, refuse_unusable
from pipeline.render.renderer import SILENCE_PEAK

ATTACK = SAMPLE_RATE // 10  # samples within which a note has to sound
PITCH_CLIPS = 24  # clips of each instrument whose pitch is measured
SEARCHED = PitchRange(52.0, 1400.0)
CLIPS_AT_ONCE = 1000  # clips of a plan that are in memory at once
UNPLAYABLE, UNUSABLE = "clip with notes that the preset cannot play", "unusable preset"
SILENT, DETUNED = "note without sound", "instrument out of tune"


def check_planned_notes(info: DatasetInfo, index: Path, ids: set[str]) -> list[tuple[str, str]] | None:
    """Compare the planned notes of the clips `ids` with what the presets of the SoundFont play.

    Checks of presets that are missing in the folder `index` are measured and written there, see `check_presets`.

    Args:
        info: manifest of the dataset.
        index: the index folder beside the dataset.
        ids: ids of the clips to compare; other planned clips are left out.

    Returns:
        (kind of fault, description) of each unusable preset and of each clip with notes that its preset cannot play.
            Empty
        if `ids` is. None for recordings, if the plan or the SoundFont is missing, or if the SoundFont is another one
            now.
    """
    if not ids:
        return []
    spec = info.spec
    plan, checks = built_plan(info, index) or (None, None)
    if plan is None or checks is None:
        return None
    found = []
    for instrument, check in zip(spec.instruments, checks, strict=True):
        try:
            refuse_unusable(check, instrument, spec.rendering.soundfont)
        except UserError as error:
            found.append((UNUSABLE, str(error)))
    playable = np.stack([check.playable for check in checks])
    for split in SPLITS:
        planned = min(info.splits[split].planned, plan.counts[split])
        for start in range(0, planned, CLIPS_AT_ONCE):
            for clip in plan.clips(split, start, min(start + CLIPS_AT_ONCE, planned)):
                players = clip.instrument if clip.automation is None else clip.automation.instruments
                count = count_unplayable(playable, clip.notes, players)
                if count and clip.id in ids:
                    found.append((UNPLAYABLE, f"{clip.id}: {count} of {len(clip.notes)} notes"))
    return found


class AudioNotes:
    """Measurement of the notes in the stored audio of clips, one record at a time. `info` is the dataset's manifest."""

    def __init__(self, info: DatasetInfo) -> None:
        self._info = info
        self._cents: dict[int, list[float]] = defaultdict(list)
        self._clips: dict[int, int] = defaultdict(int)

    def silent(self, arrays: Arrays) -> int:
        """Return the number of notes of a clip that do not sound, and collect the pitch of its notes for `detuned`.

        Notes are found from the controls, with equal notes without a rest as one. A note sounds if its peak within 100
        ms is above -60 dBFS + 40 log10(v) dB, with v in 0..1 the control velocity at its first frame. Notes shorter
        than 100 ms are left out. The pitch is measured in the first 24 clips of an instrument, and only if there is the
        control chroma.

        Args:
            arrays: arrays of a record of the format audio, by feature; `velocity` and `instruments` are needed.
        """
        audio = arrays["data"].reshape(-1)
        instrument = int(arrays["instruments"][:, 0].argmax())
        measures_pitch = "chroma" in arrays and self._clips[instrument] < PITCH_CLIPS
        self._clips[instrument] += 1
        if measures_pitch:
            found = track(torch.from_numpy(audio.copy())[None, None], self._info.hop, searched=SEARCHED)
            midi, voiced = found.midi[0].numpy(), found.voiced[0].numpy()
        silent = 0
        for first, last in self._segments(arrays):
            start, stop = first * self._info.hop, last * self._info.hop
            if stop - start < ATTACK:
                continue
            velocity = float(arrays["velocity"][first])
            silent += bool(np.abs(audio[start : start + ATTACK]).max() <= SILENCE_PEAK * velocity**2)
            if measures_pitch:
                asked = 11 * float(arrays["chroma"][first])
                frames = midi[first:last][voiced[first:last]]
                if len(frames):
                    self._cents[instrument].append(100 * (float(np.median(frames) - asked + 6) % 12 - 6))
        return silent

    def detuned(self) -> Iterator[str]:
        """Iterate over a description of each instrument that is out of tune by the pitches that `silent` collected.

        An instrument is out of tune if the median over its notes of the deviation from the pitch class is above 50
        cents in size. A deviation is in -600..600 cents, so octave errors are not found.
        """
        for instrument, cents in sorted(self._cents.items()):
            if abs(median := float(np.median(cents))) > MAX_DETUNE_CENTS:
                name = self._info.spec.instrument_names[instrument]
                yield f"{name}: {median:+.0f} cents off the pitch class, median of {len(cents)} notes"

    def _segments(self, arrays: Arrays) -> Iterator[tuple[int, int]]:
        """Iterate over (first frame, last frame + 1) of each note; equal notes without a rest are one."""
        velocity = arrays["velocity"]
        values = [arrays[name] for name in ("chroma", "pitch") if name in arrays]
        if self._info.spec.expression is None:
            values.append(velocity)  # constant within a note
        changed = np.zeros(len(velocity), np.bool_)
        changed[0] = True
        for value in (velocity > 0, *values):
            changed[1:] |= value[1:] != value[:-1]
        bounds = [*np.flatnonzero(changed).tolist(), len(velocity)]
        yield from ((a, b) for a, b in pairwise(bounds) if velocity[a] > 0)
