"""Requests of clients and their bounds; every violation is a UserError."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from data_specs.cli import integer, number
from data_specs.controls.curve_files import parse_json, parse_value
from data_specs.controls.curves import Curves
from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE
from data_specs.strict import StrictModel, parse_model
from training.sampling.defaults import DEFAULT_GUIDANCE

MAX_SECONDS = 30.0
MAX_BODY = 8_000_000  # bytes, of curve files and other texts
MAX_UPLOAD = 64_000_000  # bytes, of recordings
SAMPLE_RATES = (24_000, 48_000)
BIT_DEPTHS = (16, 24)

Weight = Annotated[float, Field(ge=0, le=100)]


class Span(StrictModel):
    """A part of a take to generate anew; the rest of it is kept."""

    take: Annotated[str, Field(max_length=64)]
    start: Annotated[float, Field(ge=0, le=MAX_SECONDS)]
    stop: Annotated[float, Field(ge=0, le=MAX_SECONDS)]

    @model_validator(mode="after")
    def _ordered(self) -> "Span":
        if self.stop - self.start < 0.05:
            raise ValueError("a span must be at least 0.05 s long")
        return self


class Settings(StrictModel):
    """Curves and sampling.

    Attributes:
        curves: content of a curve file.
        seconds: length of each take.
        seed: of the noise.
        guidance: one weight, or one by control.
        steps: of the sampler; None for the model's default.
        s_churn: stochasticity of EDM samplers (Karras et al. 2022).
        span: part of an earlier take to generate anew.
    """

    curves: dict[str, Any]
    seconds: Annotated[float, Field(ge=1, le=MAX_SECONDS)] = 8.0
    seed: Annotated[int, Field(ge=0, le=2**53)] = 0
    guidance: Weight | dict[Annotated[str, Field(max_length=40)], Weight] = DEFAULT_GUIDANCE
    steps: Annotated[int, Field(ge=1, le=256)] | None = None
    s_churn: Annotated[float, Field(ge=0, le=1000)] = 0.0
    span: Span | None = None


class Generation(Settings):
    """A request to generate takes.

    Attributes:
        model: name in the menu; empty for the first.
        variants: number of takes, which differ in their noise.
        draft: generate with few steps first.
    """

    model: Annotated[str, Field(max_length=200)] = ""
    variants: Annotated[int, Field(ge=1, le=4)] = 1
    draft: bool = True

    def parsed_curves(self) -> Curves:
        """Return the curves, cut to the length.

        Raises:
            UserError: they are invalid.
        """
        return parse_value(self.curves).cropped(round(self.seconds * SAMPLE_RATE))


class RecipeModel(StrictModel):
    """The model of a recipe: its name, and the digest that identifies it."""

    name: Annotated[str, Field(max_length=200)]
    sha256: Annotated[str, Field(max_length=64)]


class Recipe(Settings):
    """Model, curves and settings that reproduce a take.

    Attributes:
        pvt_sound: version of the file.
        model: of the take.
        variant: number of the take among those of its request.
        kept: of a redrawn span, the recipe of the take before.
    """

    pvt_sound: Literal[1]
    model: RecipeModel
    variant: Annotated[int, Field(ge=0, le=3)] = 0
    kept: "Recipe | None" = None

    @model_validator(mode="after")
    def _complete(self) -> "Recipe":
        if (self.span is None) != (self.kept is None):
            raise ValueError("the recipe of a redrawn span must hold the recipe of the take before; export it again")
        return self

    def request(self, model: str, take: str | None) -> Generation:
        """Request of the take by a model of the menu, given the id of the take before; without one, of all of it."""
        span = self.span and take and self.span.model_copy(update={"take": take})
        shared = {name: getattr(self, name) for name in Settings.model_fields}
        return Generation(**{**shared, "span": span or None}, model=model, variants=self.variant + 1, draft=False)


def parse_recipe(body: bytes) -> Recipe:
    """Parse the JSON body of `POST /api/recipes`."""
    return parse_model(Recipe, _json(body), "recipe")


def parse_generation(body: bytes) -> Generation:
    """Parse the JSON body of `POST /api/jobs`."""
    return parse_model(Generation, _json(body), "request")


def parse_query(query: dict[str, str], body: bytes) -> Generation:
    """Parse `POST /generate`: a curve file as the body, options in the query.

    `guidance` is one weight, or `velocity=2,chroma=3` with the colons or equals signs encoded.
    """
    options: dict[str, Any] = {name: value for name, value in query.items() if name not in ("rate", "bits", "token")}
    for name in ("seconds", "s_churn"):
        if name in options:
            options[name] = number(name, options[name])
    for name in ("variants", "seed", "steps"):
        if name in options:
            options[name] = integer(name, options[name], least=0)
    if "guidance" in options:
        parts = [part.replace(":", "=").partition("=") for part in options["guidance"].split(",")]
        options["guidance"] = (
            number("guidance", parts[0][0])
            if not parts[0][1]
            else {name: number("guidance", value) for name, _, value in parts}
        )
    if unknown := set(options) - set(Generation.model_fields) or {"curves", "span"} & set(options):
        raise UserError(f"unknown option {min(unknown)!r:.40} in the query")
    parse_json(utf8_text(body))  # exact errors by point
    return parse_model(Generation, {"draft": False, **options, "curves": _json(body)}, "request")


def parse_format(query: dict[str, str]) -> tuple[int, int]:
    """Return sample rate and bit depth of a WAV file from a query."""
    rate, bits = integer("rate", query.get("rate", "24000")), integer("bits", query.get("bits", "16"))
    if rate not in SAMPLE_RATES or bits not in BIT_DEPTHS:
        raise UserError(f"rate must be 24000 or 48000 and bits 16 or 24, got {rate} and {bits}")
    return rate, bits


def utf8_text(body: bytes) -> str:
    """Return a body as text.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("the body must be UTF-8 text") from None


def _json(body: bytes) -> Any:
    try:
        return json.loads(utf8_text(body), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the body must be JSON ({error!s:.80})") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")
