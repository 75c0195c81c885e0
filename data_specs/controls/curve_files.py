"""Curve files, JSON and CSV, and the object they become.

JSON, version 1; every key but `version` may be left out, which leaves its feature free:

    {"version": 1, "velocity": [[0, 0.2], [8, 0.9]], "chroma": [[0, "E"], [4, "G"], [6, null]], "instruments": "violin"}

A list of points `[seconds, value]` is short for `{"points": [...], "interpolation": "linear" or "step"}`, a single
value for a point at 0 s. CSV has a header with `time` and any of the features; a row is a point of each feature whose
cell is not empty, and the word null leaves it free:

    time,velocity,chroma,instruments
    0,0.2,E,violin
    4,,G,
    6,,null,
    8,0.9,,
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_specs.controls import CONTROLS, Control
from data_specs.controls.base import Value, exact_number
from data_specs.controls.curves import MAX_POINTS, RATE, Curve, Curves, time_sample
from data_specs.errors import UserError

VERSION = 1
MAX_BYTES = 8_000_000
FREE_WORD = "null"  # in a CSV cell


def read_curves(path: Path) -> Curves:
    """Read a .json or .csv curve file.

    Raises:
        UserError: what is wrong, with the file, the feature and the number of the point.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path} is not a curve file (.json, .csv); turn MIDI into one with: python -m pipeline controls {path}"
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES // 1_000_000} MB; thin out its points")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None
    return reader(text, str(path))


def parse_json(text: str, where: str = "curves") -> Curves:
    """Curves from the text of a JSON file; `where` names it in errors.

    Raises:
        UserError: what is wrong.
    """
    try:
        value = json.loads(
            text,
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_without_twins,
        )
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError, InvalidOperation) as error:
        raise UserError(f"{where} is not JSON of a curve file ({error!s:.80})") from None
    return curves_of_value(value, where)


def curves_of_value(value: Any, where: str = "curves") -> Curves:
    """Curves from the value that a JSON file holds: a dict with `version`.

    Raises:
        UserError: what is wrong.
    """
    if not isinstance(value, Mapping):
        raise UserError(f'{where} must be an object such as {{"version": {VERSION}, "velocity": [[0, 0.5]]}}')
    version = value.get("version")
    if isinstance(version, bool) or version != VERSION:
        found = "has no version" if "version" not in value else f"has version {version!s:.20}"
        raise UserError(f'{where} {found}; this program reads "version": {VERSION}')
    curves: dict[str, Curve] = {}
    notices: list[str] = []
    for name in value:
        if name == "version":
            continue
        if name not in CONTROLS:
            raise UserError(f"{where}: unknown key {str(name)!r:.40}; known are version, {', '.join(CONTROLS)}")
        points, interpolation = _drawn(value[name], CONTROLS[name], f"{where}: {name}")
        curves[name] = _curve(points, interpolation, CONTROLS[name], f"{where}: {name}", notices)
    return Curves(curves, tuple(dict.fromkeys(notices)))


def parse_csv(text: str, where: str = "curves") -> Curves:
    """Curves from the text of a CSV file with the header `time,...`.

    Raises:
        UserError: what is wrong.
    """
    try:
        rows = [(number, row) for number, row in enumerate(csv.reader(text.splitlines(), strict=True), 1) if any(row)]
    except csv.Error as error:
        raise UserError(f"{where} is not CSV ({error})") from None
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    columns = header[1:]
    if header[:1] != ["time"] or set(columns) - set(CONTROLS) or len(set(columns)) < len(columns) or not columns:
        raise UserError(f"{where} must begin with the header time and any of {', '.join(CONTROLS)}, each once")
    points: dict[str, list[Any]] = {name: [] for name in columns}
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise UserError(f"{where}: line {number} has {len(row)} cells, the header {len(header)}")
        time = _cell(row[0])
        for name, cell in zip(columns, row[1:], strict=True):
            if cell.strip():
                points[name].append([time, _cell(cell)])
    notices: list[str] = []
    curves = {
        name: _curve(drawn, CONTROLS[name].default, CONTROLS[name], f"{where}: {name}", notices)
        for name, drawn in points.items()
        if drawn
    }
    if not curves:
        raise UserError(f"{where} has no points; write at least one row below the header")
    return Curves(curves, tuple(dict.fromkeys(notices)))


def curves_value(curves: Curves) -> dict[str, Any]:
    """The value of a JSON file that gives these curves again, in its shortest form."""
    value: dict[str, Any] = {"version": VERSION}
    for name, curve in curves.curves.items():
        control = CONTROLS[name]
        points = [[_plain(round(sample / RATE, 6)), _plain(control.write(level))] for sample, level in curve.points]
        if curve.interpolation != control.default:
            value[name] = {"points": points, "interpolation": curve.interpolation}
        elif len(points) == 1 and points[0][0] == 0:
            value[name] = points[0][1]
        else:
            value[name] = points
    return value


def as_curves(value: "Curves | Mapping[str, Any] | str | Path") -> Curves:
    """Whatever describes curves: the object itself, the value of a JSON file, or the path of a curve file."""
    if isinstance(value, Curves):
        return value
    return read_curves(Path(value)) if isinstance(value, (str, Path)) else curves_of_value(value)


READERS: dict[str, Callable[[str, str], Curves]] = {".json": parse_json, ".csv": parse_csv}


def _plain(value: Any) -> Any:
    """2.0 as 2: files are for people."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _drawn(value: Any, control: Control, where: str) -> tuple[Any, Any]:
    """(points, interpolation) from any of the three ways to write a curve."""
    if isinstance(value, Mapping):
        if unknown := set(value) - {"points", "interpolation"}:
            raise UserError(f"{where}: unknown key {min(map(str, unknown))!r:.40}; known are points, interpolation")
        return value.get("points"), value.get("interpolation", control.default)
    return (value if isinstance(value, (list, tuple)) else [[0, value]]), control.default


def _curve(points: Any, interpolation: Any, control: Control, where: str, notices: list[str]) -> Curve:
    if interpolation not in control.interpolations:
        choices = " or ".join(control.interpolations)
        raise UserError(f"{where}: interpolation {interpolation!r:.40} is not possible; write {choices}")
    if not isinstance(points, (list, tuple)) or not points:
        raise UserError(f"{where} has no points; leave the key out for a feature that is free")
    if len(points) > MAX_POINTS:
        raise UserError(f"{where} has {len(points)} points, more than {MAX_POINTS}; thin them out")
    found: list[tuple[int, Value]] = []
    for number, point in enumerate(points, start=1):
        at = f"{where}, point {number}"
        if not isinstance(point, (list, tuple)) or len(point) != 2:
            raise UserError(f"{at} is not a pair [seconds, value]")
        try:
            sample = time_sample(point[0])
            value, notice = (None, "") if point[1] is None else control.read(point[1])
        except UserError as error:
            raise UserError(f"{at}: {error}") from None
        if notice:
            notices.append(f"{at}: {notice}")
        found.append((sample, value))
    _check_order([exact_number(point[0], "a time") for point in points], where)
    return Curve(tuple(found), interpolation)


def _check_order(times: list[Decimal], where: str) -> None:
    for number, (before, after) in enumerate(pairwise(times), start=2):
        if after < before:
            raise UserError(f"{where}, point {number} at {after} s comes after one at {before} s; sort them by time")
    for number, (first, third) in enumerate(zip(times, times[2:], strict=False), start=3):
        if first == third:
            raise UserError(f"{where}, point {number} is the third at {third} s; two make a jump, a third says nothing")


def _cell(text: str) -> Any:
    """A CSV cell as the same value that JSON would give."""
    text = text.strip()
    if text.lower() == FREE_WORD:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _refuse_constant(name: str) -> Any:
    raise UserError(f"{name} is not a number that a curve can take")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twin = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise UserError(f"the key {twin!r:.40} stands twice; keep one")
    return value
