"""Validated models of TOML and JSON values: specs, configs, metadata."""

import json
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import Field

from data_specs.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
M = TypeVar("M", bound=pydantic.BaseModel)


class StrictModel(pydantic.BaseModel):
    """Immutable model. Unknown keys, NaN, infinity and values of another type are errors; integers serve as floats."""

    # promise: file-key-was-expected
    # promise: file-key-was-expected-2
    # promise: file-key-was-expected-3
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def parse_model(model: type[M], values: Any, where: str) -> M:
    """Return the `model` that JSON or TOML values describe; a list serves as a tuple. `where` names them in errors.

    Raises:
        UserError: the values are invalid; the message has the first fault, its key and what was expected.
    """
    try:
        # As JSON, since a strict model takes a list for a tuple only from there.
        return model.model_validate_json(json.dumps(values, default=str))
    except pydantic.ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in fault["loc"]) or "the whole"
        if fault["type"] == "extra_forbidden":
            known = f"; choose from {', '.join(model.model_fields)}" if len(fault["loc"]) == 1 else ""
            raise UserError(f"{where}: {key} is not a key{known}") from error
        reason = fault["msg"].replace("Input should", "must").removeprefix("Value error, ")
        raise UserError(f"{where}: {key}: {reason}, got {fault['input']!r:.80}") from error
