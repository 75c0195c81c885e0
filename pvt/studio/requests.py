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
    """A part of a take to generate again; the rest of the take is kept.

    `take` is the id of the take. `start` and `stop` are in seconds, at least 0.05 s apart.
    """

    take: Annotated[str, Field(max_length=64)]
    start: Annotated[float, Field(ge=0, le=MAX_SECONDS)]
    stop: Annotated[float, Field(ge=0, le=MAX_SECONDS)]

    @model_validator(mode="after")
    def _ordered(self) -> "Span":
        if self.stop - self.start < 0.05:
            raise ValueError("a span must be at least 0.05 s long")
        return self


class Settings(StrictModel):
    """Curves and settings of the sampler.

    Attributes:
        curves: content of a curve file, as a JSON object.
        seconds: length of each take, 1 to 30.
        seed: seed of the noise, 0 to 2^53.
        guidance: one weight for all controls, or a weight by control, each 0 to 100.
        steps: number of sampler steps, 1 to 256; None for the model's default.
        s_churn: stochasticity of EDM samplers (Karras et al. 2022), 0 to 1000; 0 for the paradigm's default.
        span: part of an earlier take to generate again; None to generate all.
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
        model: name of a model in the menu; empty for the first.
        variants: number of takes, 1 to 4, which differ in their noise.
        draft: also generate takes with fewer steps before those of full quality.
    """

    model: Annotated[str, Field(max_length=200)] = ""
    variants: Annotated[int, Field(ge=1, le=4)] = 1
    draft: bool = True

    def parsed_curves(self) -> Curves:
        """Return the curves of the request, cut off at `seconds`.

        Raises:
            UserError: they are invalid.
        """
        return parse_value(self.curves).cropped(round(self.seconds * SAMPLE_RATE))


class RecipeModel(StrictModel):
    """The model of a recipe: its name, and the SHA-256 (hex) of its snapshot file, which identifies it."""

    name: Annotated[str, Field(max_length=200)]
    sha256: Annotated[str, Field(max_length=64)]


class Recipe(Settings):
    """Model, curves and settings that reproduce a take.

    Attributes:
        pvt_sound: version of the recipe format, 1.
        model: model that generated the take.
        variant: number of the take, from 0, among those of its request.
        kept: for a take of which a span was generated again, the recipe of the take before; else None.
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
        """Return the request whose last variant is the take of this recipe.

        Args:
            model: name of the model in the menu.
            take: id of the take before, whose span is generated again. Without an id, the request has no span and
                generates the whole take.
        """
        span = self.span and take and self.span.model_copy(update={"take": take})
        shared = {name: getattr(self, name) for name in Settings.model_fields}
        return Generation(**{**shared, "span": span or None}, model=model, variants=self.variant + 1, draft=False)


def parse_recipe(body: bytes) -> Recipe:
    """Parse the JSON body of `POST /api/recipes`.

    Raises:
        UserError: the body is not JSON in UTF-8, or not a recipe with values in range.
    """
    return parse_model(Recipe, _json(body), "recipe")


def parse_generation(body: bytes) -> Generation:
    """Parse the JSON body of `POST /api/jobs`.

    Raises:
        UserError: the body is not JSON in UTF-8, or not a request with values in range.
    """
    return parse_model(Generation, _json(body), "request")


def parse_query(query: dict[str, str], body: bytes) -> Generation:
    """Parse `POST /generate`: a curve file in JSON as the body, options of `Generation` in the query.

    `guidance` is one weight, or weights by control such as `velocity:2,chroma:3`, where an encoded equals sign may
    replace the colon. The request has no draft. `rate`, `bits` and `token` are ignored here.

    Raises:
        UserError: an option is unknown or out of range, or the body is not a curve file in JSON.
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
    """Return sample rate in Hz (`rate`, default 24000) and bit depth (`bits`, default 16) of a WAV file from a query.

    Raises:
        UserError: the rate is not 24000 or 48000, or the depth is not 16 or 24.
    """
    rate, bits = integer("rate", query.get("rate", "24000")), integer("bits", query.get("bits", "16"))
    if rate not in SAMPLE_RATES or bits not in BIT_DEPTHS:
        raise UserError(f"rate must be 24000 or 48000 and bits 16 or 24, got {rate} and {bits}")
    return rate, bits


def utf8_text(body: bytes) -> str:
    """Return a body as text, without a byte order mark at its start.

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
