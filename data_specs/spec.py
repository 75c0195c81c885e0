"""Dataset specs: the validated form of `sample.toml`, `pvt.toml` and users' own files.

A spec holds everything that decides the bytes of a dataset. Two digests are computed from it: `plan_key` identifies the
set of performances, `format_key` the way one format stores them.
"""

import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from data_specs.cli import decimal
from data_specs.errors import UserError
from data_specs.formats import FORMATS, check_format
from data_specs.rates import SAMPLE_RATE
from data_specs.strict import Positive, Share, StrictModel, parse_model

SPLITS = ("train", "valid")
SYNTH_BLOCK = 64  # samples per block of FluidSynth, on whose edges notes start and end
PUBLISHED_CONTROLS = ("velocity", "chroma", "instruments")
RECORDED_CONTROLS = ("pitch", "loudness", "centroid", "noisiness", "instruments")

Pitch = Annotated[int, Field(ge=0, le=127)]
Hertz = Annotated[float, Field(gt=0)]
Families = Annotated[tuple[Literal["sine", "ramp", "arch", "steps", "walk"], ...], Field(min_length=1)]


class ClipCounts(StrictModel):
    """Number of clips per split."""

    train: Annotated[int, Field(ge=0)]
    valid: Annotated[int, Field(ge=0)]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the counts written as `train:valid`, for example "400:80".

        Raises:
            UserError: not two integers >= 0 separated by a colon.
        """
        counts = [decimal(part) for part in text.split(":")]
        if len(counts) != len(SPLITS) or None in counts:
            raise UserError(f"CLIPS= must be train:valid, got {text!r:.40}; write for example CLIPS=400:80")
        return cls.model_validate(dict(zip(SPLITS, counts, strict=True)))


class SourceSpec(StrictModel):
    """Source of the melodies or recordings, and how many clips one song or file may give at most."""

    midi: str = ""  # `tunes` (shipped melodies), a folder or a tar.gz
    audio: str = ""  # instead of `midi`: a folder of recordings
    valid_share: Share = 1 / 6  # of songs, by the hash of their digest; of groups of recordings
    clips_per_song: Positive
    key_shifts: tuple[Annotated[int, Field(ge=-24, le=24)], ...] = (0,)  # semitones, before the octave move

    @pydantic.model_validator(mode="after")
    def _check_kind(self) -> Self:
        if bool(self.midi) == bool(self.audio):
            raise ValueError("must have either midi or audio")
        return self

    @pydantic.model_serializer(mode="wrap")
    def _of_one_kind(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the values to write, without the keys of the other kind: `midi` and `key_shifts`, or `audio`."""
        values: dict[str, Any] = handler(self)
        for name in ("midi", "key_shifts") if self.audio else ("audio",):
            values.pop(name, None)
        return values


class RecordingsSpec(StrictModel):
    """How recordings are cut into events: stretches of sound with no pause of `pause_seconds` or more inside."""

    range_db: Annotated[float, Field(gt=0, le=100)] = 50.0  # below a file's loud frames, at which it counts as silent
    pause_seconds: Annotated[float, Field(ge=0.02)] = 0.5  # silence that ends an event
    min_seconds: Annotated[float, Field(ge=0.02)] = 0.1  # shorter events are rejected
    max_clipped: Share = 0.001  # of the samples of a clip, in runs of three and more at full scale


class Limits(StrictModel):
    """Limits above which a MIDI file is rejected. `seconds` and `memory_mb`, of reading it, depend on the machine."""

    file_bytes: Positive = 4_000_000
    events: Positive = 400_000
    notes: Positive = 100_000
    largest_tick: Positive = 10_000_000
    seconds: Positive = 20
    memory_mb: Positive = 2_000


class ClipSpec(StrictModel):
    """Length of a clip, and the conditions that a window of a melody must meet."""

    seconds: Positive = 8
    sample_rate: Annotated[int, Field(ge=SAMPLE_RATE, le=SAMPLE_RATE)] = SAMPLE_RATE
    lowest_pitch: Pitch = 48
    highest_pitch: Pitch = 72
    min_notes: Annotated[int, Field(ge=2)] = 8
    min_pitch_classes: Annotated[int, Field(ge=1, le=12)] = 3  # fewer make a drone or a beat, not a melody
    max_folded: Share = 0.1  # of the notes, moved by octaves into the pitch range one by one
    max_rest_share: Share = 0.5  # of the clip
    min_note_samples: Positive = 640  # 2 frames at 75 Hz
    min_rest_samples: Positive = 640

    @property
    def samples(self) -> int:
        """Samples per clip."""
        return self.seconds * self.sample_rate

    @pydantic.model_validator(mode="after")
    def _check_blocks_and_range(self) -> Self:
        if self.min_note_samples % SYNTH_BLOCK or self.min_rest_samples % SYNTH_BLOCK:
            raise ValueError(f"min_note_samples and min_rest_samples must be multiples of {SYNTH_BLOCK}")
        if self.highest_pitch - self.lowest_pitch < 12:
            raise ValueError("lowest_pitch and highest_pitch must be at least an octave apart")
        return self


class Instrument(StrictModel):
    """General MIDI program and bank, both counted from 0; of recordings a label, which has only a name."""

    name: str
    program: Annotated[int, Field(ge=0, le=127)] = 0
    bank: Annotated[int, Field(ge=0, le=16_383)] = 0


class ModulationSpec(StrictModel):
    """Sine that scales velocities, t in seconds: m(t) = 1 - depth (1 + sin(2 pi f t + phase)) / 2, log f uniform."""

    depth: Share = 0.8
    lowest_hz: Hertz = 1 / 64
    highest_hz: Hertz = 1.0

    @pydantic.model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.lowest_hz > self.highest_hz:
            raise ValueError("lowest_hz must not be above highest_hz")
        return self


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("must be [lowest, highest]")
    return bounds


Bounds = Annotated[tuple[Hertz, Hertz], pydantic.AfterValidator(_ascending)]
CURVE_FAMILIES: Families = ("sine", "ramp", "arch", "steps", "walk")


class VelocitySpec(StrictModel):
    """Curve over a clip, of one of `families`, whose values 1 - depth .. 1 multiply the velocity, within notes too."""

    families: Families = CURVE_FAMILIES
    depth: Annotated[float, Field(ge=0, lt=1)] = 0.8


class GlideSpec(StrictModel):
    """Glides from the pitch of the note before, in a share of the legato notes; `seconds` bounds their duration."""

    share: Share = 0.0
    seconds: Bounds = (0.03, 0.2)


class VibratoSpec(StrictModel):
    """Vibrato, a sine of amplitude `cents` from `delay` s on, in a share of the notes that hold a period of it."""

    share: Share = 0.0
    hz: Bounds = (4.0, 7.0)
    cents: Bounds = (10.0, 60.0)
    delay: Annotated[float, Field(ge=0)] = 0.2


class BrightnessSpec(StrictModel):
    """Curve of the filter cutoff in a share of the clips; at 0 it is `depth_cents[instrument]` below the preset's."""

    share: Share = 0.0
    families: Families = CURVE_FAMILIES
    depth_cents: dict[str, Annotated[float, Field(gt=0, le=12_000)]] = Field(default_factory=dict)


class RelaySpec(StrictModel):
    """Changes of the instrument between notes, in a share of the clips."""

    share: Share = 0.0


class ExpressionSpec(StrictModel):
    """Expression inside notes; every curve is a function of the spec's seed and the clip's id."""

    velocity: VelocitySpec = VelocitySpec()
    glide: GlideSpec = GlideSpec()
    vibrato: VibratoSpec = VibratoSpec()
    brightness: BrightnessSpec = BrightnessSpec()
    relay: RelaySpec = RelaySpec()


class Rendering(StrictModel):
    """Settings of FluidSynth."""

    soundfont: str  # `timgm6mb` (packaged with pretty_midi) or the path of an .sf2 file
    gain: Annotated[float, Field(gt=0, le=10)] = 1.0  # dense melodies at velocity 127 peak at -2 dBFS
    reverb: bool = False  # send levels are the SoundFont's, often zero
    chorus: bool = False


class CodecSpec(StrictModel):
    """Codec of the formats encodec and disc; only disc uses `codebooks`."""

    name: str  # `phaseless`, `pvt`, `encodec_24khz` or the path of a weights file
    codebooks: Annotated[int, Field(ge=1, le=32)] = 16


class FormatSpec(StrictModel):
    """Storage of one format. `train` and `valid` cap its number of clips, the first of the plan; None is no cap."""

    train: Annotated[int, Field(ge=0)] | None = None
    valid: Annotated[int, Field(ge=0)] | None = None
    dtype: Literal["float32", "float16", "int16"]
    shard_clips: Positive
    chunk_clips: Positive  # clips computed at once; decides bytes, since batches round differently


# promise: plan-order-per-split
PLAN_FIELDS = {"seed", "source", "limits", "clip", "instruments", "modulation", "expression", "recordings"}


class Spec(StrictModel):
    """A dataset spec: the contents of its TOML file, with defaults."""

    name: str
    seed: int = 0
    clips: ClipCounts | None = None  # of recordings None: all
    source: SourceSpec
    recordings: RecordingsSpec = RecordingsSpec()
    limits: Limits = Limits()
    clip: ClipSpec = ClipSpec()
    instruments: tuple[Instrument, ...] = ()  # of recordings: the labels, from the names of folders
    controls: tuple[str, ...] = PUBLISHED_CONTROLS
    modulation: ModulationSpec = ModulationSpec()
    expression: ExpressionSpec | None = None  # replaces `modulation`
    rendering: Rendering = Rendering(soundfont="timgm6mb")
    codec: CodecSpec
    formats: dict[str, FormatSpec]

    @pydantic.field_validator("formats")
    @classmethod
    def _formats(cls, formats: dict[str, FormatSpec]) -> dict[str, FormatSpec]:
        for name, stored in formats.items():
            if name not in FORMATS:
                raise ValueError(f"formats must be among {', '.join(FORMATS)}; got {name!r:.40}")
            if (stored.dtype == "int16") != FORMATS[name].codes:
                raise ValueError(f"formats.{name}.dtype cannot be {stored.dtype}; codes are int16, all else floats")
        return formats

    @pydantic.model_validator(mode="after")
    def _instruments(self) -> Self:
        names = [instrument.name for instrument in self.instruments]
        if len(set(names)) < len(names) or not (names or self.source.audio):
            raise ValueError("instruments must be at least one, with distinct names")
        if self.source.midi and not all("program" in one.model_fields_set for one in self.instruments):
            raise ValueError("instruments must have a program")
        if self.source.midi and self.clips is None:
            raise ValueError("clips must be given")
        return self

    @pydantic.model_validator(mode="after")
    def _measurable(self) -> Self:
        from data_specs.controls import CONTROLS, INSTRUMENTS

        if self.source.audio and not all(CONTROLS[name].descriptor or name == INSTRUMENTS for name in self.controls):
            raise ValueError(f"controls of recordings must be among {', '.join(RECORDED_CONTROLS)}")
        return self

    @pydantic.field_validator("controls")
    @classmethod
    def _controls(cls, controls: tuple[str, ...]) -> tuple[str, ...]:
        from data_specs.controls import CONTROLS

        if not controls or len(set(controls)) < len(controls) or not set(controls) <= set(CONTROLS):
            raise ValueError(f"controls must be distinct names among {', '.join(CONTROLS)}")
        return controls

    @pydantic.model_validator(mode="after")
    def _expression(self) -> Self:
        if self.expression is None:
            return self
        if "modulation" in self.model_fields_set:
            raise ValueError("modulation and expression exclude each other; remove one of them")
        brightness = self.expression.brightness
        missing = [name for name in self.instrument_names if name not in brightness.depth_cents]
        if brightness.share and missing:
            raise ValueError(f"expression.brightness.depth_cents must name {', '.join(missing)}")
        return self

    @pydantic.model_serializer(mode="wrap")
    def _without_defaults(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the values to write, without unused keys and without defaults that older versions do not know."""
        values: dict[str, Any] = handler(self)
        if self.controls == PUBLISHED_CONTROLS:
            values.pop("controls", None)
        values.pop("modulation" if self.expression is not None else "expression", None)
        if not self.source.audio:
            values.pop("recordings", None)
            return values
        for name in ("modulation", "rendering"):
            values.pop(name, None)
        if "instruments" in values:
            values["instruments"] = [{"name": one.name} for one in self.instruments]
        return values

    @cached_property
    def instrument_names(self) -> tuple[str, ...]:
        """Names of the instruments, in the order of the rows of the control `instruments`."""
        return tuple(instrument.name for instrument in self.instruments)

    def format(self, name: str) -> FormatSpec:
        """Return the storage settings of format `name`.

        Raises:
            UserError: no such format, or none in this spec.
        """
        check_format(name)
        if name not in self.formats:
            raise UserError(f"the spec {self.name} has no format {name}; add it to [formats]")
        return self.formats[name]

    def clips_of(self, name: str, split: str) -> int:
        """Return the number of clips of format `name` in `split`, capped; ValueError if `clips` is None."""
        cap = getattr(self.format(name), split)
        if self.clips is None:
            raise ValueError("the number of clips is not known before the plan")
        planned: int = getattr(self.clips, split)
        return planned if cap is None else min(cap, planned)

    def with_clips(self, clips: ClipCounts) -> "Spec":
        """Return a copy of the spec with `clips` in every format: their caps are removed."""
        formats = {n: stored.model_copy(update={"train": None, "valid": None}) for n, stored in self.formats.items()}
        return self.model_copy(update={"clips": clips, "formats": formats})

    def plan_key(self) -> dict[str, Any]:
        """Return the fields that decide the plan: not sources (path and content), clip counts, sound and storage."""
        chosen = self.model_dump(mode="json", include=PLAN_FIELDS)
        # promise: plan-order-per-split-2
        for name in ("midi", "audio"):
            chosen["source"].pop(name, None)  # its content decides, not its path
        return chosen

    def format_key(self, name: str) -> dict[str, Any]:
        """Return the fields that decide the arrays of format `name`, except digests of SoundFont, codec, kernels."""
        stored = self.format(name).model_dump(mode="json", include={"dtype", "shard_clips", "chunk_clips"})
        key: dict[str, Any] = {"format": name, "storage": stored}
        if self.source.midi:
            # The SoundFont's digest decides, not its path.
            key["rendering"] = self.rendering.model_dump(mode="json", exclude={"soundfont"})
        # promise: refused-name-key-nothing-4
        if FORMATS[name].codes:
            key["codebooks"] = self.codec.codebooks
        if self.controls != PUBLISHED_CONTROLS:
            key["controls"] = list(self.controls)
        return key


def shipped_specs() -> list[str]:
    """Return the names of the specs in this package, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.toml"))


def spec_path(name: str) -> Path:
    """Return the path of a spec's file: of a shipped spec by its name, else `name` itself as a path.

    Raises:
        UserError: no such file.
    """
    folder, shipped = Path(__file__).parent, shipped_specs()
    if name in shipped:
        return folder / f"{name}.toml"
    if Path(name).is_file():
        return Path(name)
    raise UserError(f"SPEC= must be one of {', '.join(shipped)} or a file; got {name!r:.200}")


def load_spec(name: str = "sample") -> Spec:
    """Read and validate the spec of a shipped name or a path.

    Raises:
        UserError: missing, unreadable, not TOML, or a key or value is invalid; the message names file and key.
    """
    path = spec_path(name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}; correct it, or copy a shipped spec") from error
    return parse_model(Spec, values, str(path))
