"""Checks of the presets that a build uses, measured once and kept in the index folder.

The check of one instrument is in `index/preset-<key>.json`. The key is the start of a digest of all that the check
depends on.
"""

import json
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_specs.arrays import Bool
from data_specs.dataset import DatasetInfo
from data_specs.errors import UserError
from data_specs.io.files import file_sha256, value_digest, write_json
from data_specs.spec import Spec
from pipeline.plan.plan import Plan
from pipeline.render.fluidsynth import library_version
from pipeline.render.preset_check import CHECK_VERSION, PresetCheck, check_preset, refuse_unusable
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path

LIMITS = "presets"  # name of the entry of `preset_limits` in a format key
_checks: dict[str, PresetCheck] = {}  # checks known to this process, by their key
MOST_LAW_DB = 1.0  # deviation of levels from the law of velocities above which a build prints a notice


def playable_notes(spec: Spec, soundfont: Path, index: Path) -> Bool:
    """Return which notes each instrument's preset can play, bool [instruments, 128, 128] by pitch and velocity.

    Notes outside the pitch range of the clips are False. The checks come from `check_presets`, which may write to the
    folder `index`. Pitches of the range that a preset plays at no velocity are printed, and for a spec with expression
    deviations of more than 1 dB from the law of velocities.

    Raises:
        UserError: the SoundFont lacks a preset, or a preset is silent, unpitched or detuned.
    """
    checks = check_presets(spec, soundfont, index)
    for instrument, check in zip(spec.instruments, checks, strict=True):
        # promise: detuned-preset-refused
        refuse_unusable(check, instrument, soundfont.name)
        if missing := _missing_pitches(check, spec):
            print(
                f"{instrument.name} (program {instrument.program}) of {soundfont.name} cannot play the MIDI pitches "
                f"{missing}; their notes are moved by octaves"
            )
        if spec.expression is not None and check.law_db > MOST_LAW_DB:
            print(
                f"{instrument.name} (program {instrument.program}) of {soundfont.name}: levels deviate by up to "
                f"{check.law_db:.1f} dB from 40 log10(velocity / 127) dB, which the control velocity assumes"
            )
    return np.stack([check.playable for check in checks])


def check_presets(spec: Spec, soundfont: Path, index: Path) -> list[PresetCheck]:
    """Return the check of each instrument's preset, in the order of `spec.instruments`.

    A check that this process does not have yet is read from the folder `index`, or measured if it is not there. Checks
    that are not there are then written there if the folder is writable. A measurement prints a line.

    Raises:
        UserError: the SoundFont lacks a preset.
    """
    about = {
        "version": CHECK_VERSION,
        "fluidsynth": library_version(),
        "soundfont": file_sha256(soundfont),
        "rendering": spec.rendering.model_dump(mode="json", exclude={"soundfont"}),
        "pitches": [spec.clip.lowest_pitch, spec.clip.highest_pitch],
        "sample_rate": spec.clip.sample_rate,
    }
    keys = [value_digest({**about, "preset": [one.bank, one.program]}) for one in spec.instruments]
    files = {key: index / f"preset-{key[:16]}.json" for key in keys}
    for key, path in files.items():
        if key not in _checks and (check := _read_check(path)) is not None:
            _checks[key] = check
    todo = {key: one for key, one in zip(keys, spec.instruments, strict=True) if key not in _checks}
    if todo:
        start, clip = time.perf_counter(), spec.clip
        with Renderer(soundfont, spec.rendering, clip.sample_rate) as renderer:
            for key, one in todo.items():
                _checks[key] = check_preset(renderer, one, clip.lowest_pitch, clip.highest_pitch, clip.sample_rate)
        seconds = time.perf_counter() - start
        names = ", ".join(instrument.name for instrument in todo.values())
        print(f"{soundfont.name}: checked range and tuning of {names} in {seconds:.1f} s")
    for key, path in files.items():
        if not path.is_file():
            with suppress(UserError):  # a read-only index
                write_json(path, _checks[key].to_json())
    return [_checks[key] for key in keys]


def velocity_law(spec: Spec, soundfont: Path, index: Path) -> dict[str, float]:
    """Return, by instrument name, the largest deviation in dB of a preset's level from 40 log10(velocity / 127) dB.

    It is taken from `check_presets`. Empty for a spec without expression.
    """
    if spec.expression is None:
        return {}
    checks = check_presets(spec, soundfont, index)
    return {name: check.law_db for name, check in zip(spec.instrument_names, checks, strict=True)}


def _read_check(path: Path) -> PresetCheck | None:
    """Return the check in the file at `path`, None if it is missing or damaged."""
    try:
        return PresetCheck.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _missing_pitches(check: PresetCheck, spec: Spec) -> str:
    """Return the MIDI pitches of the clips' range that play at no velocity, as text such as "48-54, 72", else empty."""
    missing = [p for p in range(spec.clip.lowest_pitch, spec.clip.highest_pitch + 1) if not check.playable[p].any()]
    starts = [p for p in missing if p - 1 not in missing]
    ends = [p for p in missing if p + 1 not in missing]
    return ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in zip(starts, ends, strict=True))


def built_plan(info: DatasetInfo, index: Path) -> tuple[Plan, list[PresetCheck] | None] | None:
    """Return the plan of a finished dataset and the checks of its presets, if the files that they need still exist.

    Checks are measured and written to `index` if they are missing, see `check_presets`.

    Args:
        info: manifest of the dataset.
        index: the index folder beside the dataset.

    Returns:
        (plan, checks). None in place of both if the plan is missing or damaged, or if the dataset's notes were moved to
        playable pitches and the SoundFont is missing or another one now. The checks alone are None for recordings, and
            if
        the SoundFont is missing or another one.
    """
    soundfont, checks = info.spec.rendering.soundfont, None
    try:
        plan = Plan.open(index / f"plan-{info.plan_digest[:16]}")
    except UserError:
        return None
    if plan.recorded:
        return plan, None
    with suppress(UserError):
        path = soundfont_path(soundfont)
        if file_sha256(path) == info.format_key.get("soundfont"):
            checks = check_presets(info.spec, path, index)
    if LIMITS not in info.format_key:
        return plan, checks
    if checks is None:
        return None
    return replace(plan, playable=np.stack([check.playable for check in checks])), checks


def preset_limits(plan: Plan, spec: Spec) -> dict[str, Any] | None:
    """Return a digest (16 hex digits) of the playable notes of each limited instrument, by its name.

    An instrument is limited if its preset cannot play every pitch of the clips' range at every velocity 1..127. The
    limits change the clips and are therefore part of the format key of a dataset.

    Returns:
        None if no instrument is limited, or if `plan.playable` is None.
    """
    if plan.playable is None:
        return None
    within = plan.playable[:, spec.clip.lowest_pitch : spec.clip.highest_pitch + 1, 1:]
    limits = {
        name: value_digest(np.packbits(notes).tobytes().hex())[:16]
        for name, notes in zip(spec.instrument_names, within, strict=True)
        if not notes.all()
    }
    return limits or None
