"""What a dataset is: the validated form of `sample.toml`, `pvt.toml` and every user's spec.

A spec holds everything that decides the bytes of a dataset. Two digests are drawn from it (`plan_key`, `format_key`):
which performances there are, and how one format stores them.
"""

import tomllib
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import pydantic
from pydantic import Field

from data_specs.errors import UserError
from data_specs.formats import FORMATS, check_format

SPLITS = ("train", "valid")
SYNTH_BLOCK = 64  # samples: FluidSynth starts and ends notes on the blocks it computes

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Pitch = Annotated[int, Field(ge=0, le=127)]
M = TypeVar("M", bound=pydantic.BaseModel)


class StrictModel(pydantic.BaseModel):
    """Immutable; an unknown key, an infinite number or a switch for a number is an error, never a silent default."""

    # promise: file-key-was-expected
    # promise: file-key-was-expected-2
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        switch = any(isinstance(one, bool) for one in (value if isinstance(value, list | tuple) else (value,)))
        # promise: file-key-was-expected-3
        if switch and kind is not Any and bool not in (kind, *get_args(kind)):
            raise ValueError("true or false stands where something else is expected")
        return value


class Clips(StrictModel):
    """Number of clips per split."""

    train: Annotated[int, Field(ge=0)]
    valid: Annotated[int, Field(ge=0)]

    @classmethod
    def parse(cls, text: str) -> Self:
        """`"400:80"` -> 400 for train, 80 for valid."""
        train, colon, valid = text.partition(":")
        if not colon or not train.isdecimal() or not valid.isdecimal():
            raise UserError(f"CLIPS={text} is not understood; write train:valid, for example CLIPS=400:80")
        return cls(train=int(train), valid=int(valid))


class Source(StrictModel):
    """Where melodies come from and how many of them a song may give."""

    midi: str  # `tunes` (the melodies that come with the project), a folder or a tar.gz
    valid_share: Share = 1 / 6  # of songs, by the hash of their digest
    clips_per_song: Positive
    key_shifts: tuple[Annotated[int, Field(ge=-24, le=24)], ...] = (0,)  # semitones, before the octave move


class Limits(StrictModel):
    """What one MIDI file may cost. The first four are deterministic, the last two a net."""

    file_bytes: Positive = 4_000_000
    events: Positive = 400_000
    notes: Positive = 100_000
    largest_tick: Positive = 10_000_000
    seconds: Positive = 20
    memory_mb: Positive = 2_000


class Clip(StrictModel):
    """The window that is cut from a melody, and what makes it good enough."""

    seconds: Positive = 8
    sample_rate: Literal[24_000] = 24_000
    lowest_pitch: Pitch = 48
    highest_pitch: Pitch = 72
    min_notes: Annotated[int, Field(ge=2)] = 8
    min_pitch_classes: Annotated[int, Field(ge=1, le=12)] = 3  # fewer are a drone or a beat, no melody
    max_folded: Share = 0.1  # of the notes, moved by an octave of their own
    max_rest_share: Share = 0.5  # of the clip without a note
    min_note_samples: Positive = 640  # 2 frames at 75 Hz
    min_rest_samples: Positive = 640

    @property
    def samples(self) -> int:
        """Length of a clip in samples."""
        return self.seconds * self.sample_rate

    @pydantic.model_validator(mode="after")
    def _whole_blocks(self) -> Self:
        if self.min_note_samples % SYNTH_BLOCK or self.min_rest_samples % SYNTH_BLOCK:
            raise ValueError(f"min_note_samples and min_rest_samples must be multiples of {SYNTH_BLOCK}")
        if self.highest_pitch - self.lowest_pitch < 12:
            raise ValueError("lowest_pitch and highest_pitch must be at least an octave apart")
        return self


class Instrument(StrictModel):
    """A General MIDI program, counted from 0."""

    name: str
    program: Annotated[int, Field(ge=0, le=127)]
    bank: Annotated[int, Field(ge=0, le=16_383)] = 0


class Modulation(StrictModel):
    """Sine that scales velocities: m(t) = 1 - depth (1 + sin(2 pi f t + phase)) / 2, f log-uniform."""

    depth: Share = 0.8
    lowest_hz: Annotated[float, Field(gt=0)] = 1 / 64
    highest_hz: Annotated[float, Field(gt=0)] = 1.0

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.lowest_hz > self.highest_hz:
            raise ValueError("lowest_hz must not be above highest_hz")
        return self


class Rendering(StrictModel):
    """How FluidSynth plays a clip."""

    soundfont: str  # `timgm6mb` (comes with pretty_midi) or the path of an .sf2 file
    gain: Annotated[float, Field(gt=0, le=10)] = 1.0  # densest melodies at velocity 127 peak at -2 dBFS
    reverb: bool = False  # how much of an instrument goes to an effect is the SoundFont's to say; often none
    chorus: bool = False


class Codec(StrictModel):
    """The codec behind encodec and disc."""

    name: str  # `phaseless`, `pvt`, `encodec_24khz` or the path of a weights file
    codebooks: Annotated[int, Field(ge=1, le=32)] = 16


class Format(StrictModel):
    """How one format is stored. Caps bound the clips taken from the front of the plan."""

    train: Annotated[int, Field(ge=0)] | None = None
    valid: Annotated[int, Field(ge=0)] | None = None
    dtype: Literal["float32", "float16", "int16"]
    shard_clips: Positive
    chunk_clips: Positive  # clips computed at once: part of the bytes, since batches round differently


class Spec(StrictModel):
    """Everything that decides a dataset."""

    name: str
    seed: int = 0
    clips: Clips
    source: Source
    limits: Limits = Limits()
    clip: Clip = Clip()
    instruments: tuple[Instrument, ...]
    modulation: Modulation = Modulation()
    rendering: Rendering
    codec: Codec
    formats: dict[str, Format]

    @pydantic.field_validator("formats")
    @classmethod
    def _formats(cls, formats: dict[str, Format]) -> dict[str, Format]:
        for name, stored in formats.items():
            if name not in FORMATS:
                raise ValueError(f"there is no format {name!r:.40}; expected {', '.join(FORMATS)}")
            if (stored.dtype == "int16") != FORMATS[name].codes:
                raise ValueError(f"formats.{name}.dtype cannot be {stored.dtype}; codes are int16, all else floats")
        return formats

    @pydantic.model_validator(mode="after")
    def _instruments(self) -> Self:
        names = [instrument.name for instrument in self.instruments]
        if not names or len(set(names)) < len(names):
            raise ValueError("instruments must be at least one, each with a name of its own")
        return self

    @cached_property
    def instrument_names(self) -> tuple[str, ...]:
        """Names in the order of the instruments feature's channels."""
        return tuple(instrument.name for instrument in self.instruments)

    def format(self, name: str) -> Format:
        """The storage of format `name`.

        Raises:
            UserError: no such format, or the spec leaves it out.
        """
        check_format(name)
        if name not in self.formats:
            raise UserError(f"the spec {self.name} does not say how {name} is stored; add {name} to its [formats]")
        return self.formats[name]

    def clips_of(self, name: str, split: str) -> int:
        """Number of clips that format `name` has in `split`."""
        cap = getattr(self.format(name), split)
        planned: int = getattr(self.clips, split)
        return planned if cap is None else min(cap, planned)

    def with_clips(self, clips: Clips) -> "Spec":
        """The spec with `clips` in every format: caps give way, since the user asked for a number."""
        formats = {n: stored.model_copy(update={"train": None, "valid": None}) for n, stored in self.formats.items()}
        return self.model_copy(update={"clips": clips, "formats": formats})

    def plan_key(self) -> dict[str, Any]:
        """What decides which performances there are: everything but the sources' content, CLIPS, sound and storage."""
        # promise: plan-order-per-split
        chosen = self.model_dump(mode="json", include={"seed", "source", "limits", "clip", "instruments", "modulation"})
        # promise: plan-order-per-split-2
        del chosen["source"]["midi"]  # its content counts, not where it lies
        return chosen

    def format_key(self, name: str) -> dict[str, Any]:
        """What decides how format `name` stores a performance, digests of SoundFont, codec and kernels apart."""
        stored = self.format(name).model_dump(mode="json", include={"dtype", "shard_clips", "chunk_clips"})
        key: dict[str, Any] = {"format": name, "rendering": self.rendering.model_dump(mode="json"), "storage": stored}
        del key["rendering"]["soundfont"]  # its digest counts, not where it lies
        # promise: refused-name-key-nothing-4
        if FORMATS[name].codes:
            key["codebooks"] = self.codec.codebooks
        return key


def frame_rate(sample_rate: int, hop: int) -> Fraction:
    """Frames a second, exactly."""
    return Fraction(sample_rate, hop)


def spec_path(name: str) -> Path:
    """The file of a spec: `sample` or `pvt` from this package, else a path.

    Raises:
        UserError: there is no such file.
    """
    folder = Path(__file__).parent
    shipped = sorted(path.stem for path in folder.glob("*.toml"))
    if name in shipped:
        return folder / f"{name}.toml"
    if Path(name).is_file():
        return Path(name)
    raise UserError(f"SPEC={name} is neither one of {', '.join(shipped)} nor a file; check the name or the path")


def load_spec(name: str = "sample") -> Spec:
    """Read and validate a spec by name or path.

    Raises:
        UserError: missing, not TOML, or a key that is unknown or of the wrong type, named with its file.
    """
    path = spec_path(name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML ({error}); mend it or take a copy of a shipped spec") from error
    return parse_model(Spec, values, str(path))


def parse_model(model: type[M], values: Any, where: str) -> M:
    """`model` made of `values`; the first fault becomes one sentence that names file, key and what was expected."""
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in fault["loc"]) or "the whole"
        raise UserError(f"{where}: {key}: {fault['msg']} (found {fault['input']!r:.80})") from error
