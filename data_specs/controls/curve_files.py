"""Curve files in JSON and CSV, read into `Curves`.

JSON, version 1; every key but `version` is optional, and an absent feature is unconditioned:

    {"version": 1, "velocity": [[0, 0.2], [8, 0.9]], "chroma": [[0, "E"], [4, "G"], [6, null]], "instruments": "violin"}

Chroma and pitch also take "rest", which sets velocity to 0 where velocity is unconditioned. Pitch takes note names with
octaves ("E4") or MIDI note numbers with fractions (60 is C4).

A list of points `[seconds, value]` is short for `{"points": [...], "interpolation": "linear" or "step"}`, a single
value for a point at 0 s. CSV has a header with `time` and any of the features. A row is a point of each feature whose
cell is not empty; the word null means unconditioned. Semicolons or tabs, decimal commas, a first line such as `sep=;`
and trailing empty columns, as spreadsheets write them, are accepted:

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
from data_specs.controls.base import Value, parse_decimal
from data_specs.controls.curves import MAX_POINTS, Curve, Curves, time_sample
from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE

VERSION = 1
MAX_BYTES = 8_000_000
NULL_CELL = "null"  # of a CSV file: unconditioned


def read_curves(path: str | Path) -> Curves:
    """Read a .json or .csv curve file.

    Raises:
        UserError: another suffix, unreadable, above 8 MB, not UTF-8, or invalid; the message names the file and, where
            they are at fault, feature and point.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"curve files must be .json or .csv, got {path}; convert MIDI with: python -m pipeline controls {path}"
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES // 1_000_000} MB; reduce the number of points")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} must be UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None
    return reader(text, str(path))


def parse_json(text: str, where: str = "curves") -> Curves:
    """Return the curves of the text of a JSON curve file; `where` names it in errors.

    Raises:
        UserError: not JSON, or not a curve file.
    """
    try:
        value = json.loads(
            text,
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique_keys,
        )
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError, InvalidOperation) as error:
        raise UserError(f"{where} cannot be read as a curve file ({error!s:.80})") from None
    return parse_value(value, where)


def parse_value(value: Any, where: str = "curves") -> Curves:
    """Return the curves of a parsed JSON curve file: a dict with `version` and features; `where` names it in errors.

    Notices about values that were changed are in the result, each once.

    Raises:
        UserError: not a valid curve file; the message names feature and point.
    """
    if not isinstance(value, Mapping):
        raise UserError(f'{where} must be an object such as {{"version": {VERSION}, "velocity": [[0, 0.5]]}}')
    version = value.get("version")
    if isinstance(version, bool) or version not in (VERSION, str(VERSION)):
        found = "none" if "version" not in value else repr(str(version))[:20]
        raise UserError(f'{where}: "version" must be {VERSION}, got {found}; update this project, or write {VERSION}')
    curves: dict[str, Curve] = {}
    notices: list[str] = []
    for name in value:
        if name == "version":
            continue
        if name not in CONTROLS:
            raise UserError(f"{where}: keys must be version or one of {', '.join(CONTROLS)}; got {str(name)!r:.40}")
        points, interpolation = _points(value[name], CONTROLS[name], f"{where}: {name}")
        curves[name] = _curve(points, interpolation, CONTROLS[name], f"{where}: {name}", notices)
    return Curves(curves, tuple(dict.fromkeys(notices)))


def parse_csv(text: str, where: str = "curves") -> Curves:
    """Return the curves of the text of a CSV curve file, with the header `time,...`; `where` names it in errors.

    Every curve has the interpolation that is its feature's default. Columns without points are left out.

    Raises:
        UserError: not CSV, no points, or not a valid curve file; the message names the line, or feature and point.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    delimiter = _delimiter(lines)
    if lines and lines[0].lower().startswith("sep="):
        lines[0] = ""
    try:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        rows = [(number, row) for number, row in enumerate(reader, 1) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UserError(f"{where} is not CSV: {error}") from None
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    while header and not header[-1]:  # spreadsheets write empty columns
        header.pop()
    columns = header[1:]
    if header[:1] != ["time"] or set(columns) - set(CONTROLS) or len(set(columns)) < len(columns) or not columns:
        names, found = ", ".join(CONTROLS), ",".join(header)
        raise UserError(f"{where}: the header must be time, then one or more of {names}, each once; got {found!r:.60}")
    points: dict[str, list[Any]] = {name: [] for name in columns}
    for number, row in rows[1:]:
        cells, beyond = row[: len(header)], row[len(header) :]
        if len(cells) < len(header) or any(cell.strip() for cell in beyond):
            raise UserError(f"{where}: line {number} must have {len(header)} cells like the header, got {len(row)}")
        time = _cell(cells[0])
        for name, cell in zip(columns, cells[1:], strict=True):
            if cell.strip():
                points[name].append([time, _cell(cell)])
    notices: list[str] = []
    curves = {
        name: _curve(drawn, CONTROLS[name].default, CONTROLS[name], f"{where}: {name}", notices)
        for name, drawn in points.items()
        if drawn
    }
    if not curves:
        raise UserError(f"{where} has no points; add at least one row below the header")
    return Curves(curves, tuple(dict.fromkeys(notices)))


def curves_value(curves: Curves) -> dict[str, Any]:
    """Return the shortest JSON value that `parse_value` reads as these curves; notices are not written."""
    value: dict[str, Any] = {"version": VERSION}
    for name, curve in curves.curves.items():
        control = CONTROLS[name]
        points = [
            [_plain(round(sample / SAMPLE_RATE, 6)), _plain(control.format(level))] for sample, level in curve.points
        ]
        if curve.interpolation != control.default:
            value[name] = {"points": points, "interpolation": curve.interpolation}
        elif len(points) == 1 and points[0][0] == 0:
            value[name] = points[0][1]
        else:
            value[name] = points
    return value


def as_curves(value: "Curves | Mapping[str, Any] | str | Path") -> Curves:
    """Return curves given as themselves, as the value of a JSON curve file, or as the path of a curve file.

    Raises:
        UserError: the value or the file is invalid, or the file cannot be read.
    """
    if isinstance(value, Curves):
        return value
    return read_curves(Path(value)) if isinstance(value, (str, Path)) else parse_value(value)


READERS: dict[str, Callable[[str, str], Curves]] = {".json": parse_json, ".csv": parse_csv}


def _plain(value: Any) -> Any:
    """Return a float without a fraction as an int (2.0 as 2), for readable files; any other value unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _points(value: Any, control: Control, where: str) -> tuple[Any, Any]:
    """Return (points, interpolation) of any of the three forms of a curve, not yet checked.

    Raises:
        UserError: a dict has other keys than points and interpolation.
    """
    if isinstance(value, Mapping):
        if unknown := set(value) - {"points", "interpolation"}:
            raise UserError(f"{where}: keys must be points or interpolation, got {min(map(str, unknown))!r:.40}")
        return value.get("points"), value.get("interpolation", control.default)
    return (value if isinstance(value, (list, tuple)) else [[0, value]]), control.default


def _curve(points: Any, interpolation: Any, control: Control, where: str, notices: list[str]) -> Curve:
    if interpolation not in control.interpolations:
        choices = " or ".join(control.interpolations)
        raise UserError(f"{where}: interpolation must be {choices}, got {interpolation!r:.40}")
    if not isinstance(points, (list, tuple)) or not points:
        raise UserError(f"{where} has no points; omit the key for an unconditioned feature")
    if len(points) > MAX_POINTS:
        raise UserError(f"{where} must have at most {MAX_POINTS} points, got {len(points)}")
    found: list[tuple[int, Value]] = []
    for number, point in enumerate(points, start=1):
        at = f"{where}, point {number}"
        if not isinstance(point, (list, tuple)) or len(point) != 2:
            raise UserError(f"{at} must be a pair [seconds, value]")
        try:
            sample = time_sample(point[0])
            value, notice = (None, "") if point[1] is None else control.parse(point[1])
        except UserError as error:
            raise UserError(f"{at}: {error}") from None
        if notice:
            notices.append(f"{at}: {notice}")
        found.append((sample, value))
    if notice := control.announce([point[1] for point in points]):
        notices.append(f"{where}: {notice}")
    _check_order([parse_decimal(point[0], "time") for point in points], where)
    return Curve(tuple(found), interpolation)


def _check_order(times: list[Decimal], where: str) -> None:
    for number, (before, after) in enumerate(pairwise(times), start=2):
        if after < before:
            raise UserError(f"{where}, point {number} at {after} s follows one at {before} s; sort the points by time")
    for number, (first, third) in enumerate(zip(times, times[2:], strict=False), start=3):
        if first == third:
            raise UserError(f"{where}, point {number} is the third at {third} s; keep at most two, which make a jump")


def _delimiter(lines: list[str]) -> str:
    """Return the delimiter of a CSV text: that of a first line `sep=`, else the one in the first line.

    That is a semicolon or a tab where the line has one and no comma, else a comma.
    """
    first = lines[0] if lines else ""
    if first.lower().startswith("sep=") and len(first.strip()) == 5:
        return first.strip()[4]
    return next((mark for mark in (";", "\t") if mark in first and "," not in first), ",")


def _cell(text: str) -> Any:
    """Return a CSV cell as JSON would give it: None for null, a Decimal for a number, else the stripped text."""
    text = text.strip()
    if text.lower() == NULL_CELL:
        return None
    try:
        return Decimal(text.replace(",", "."))
    except InvalidOperation:
        return text


def _refuse_constant(name: str) -> Any:
    raise UserError(f"numbers must be finite, got {name}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise UserError(f"the key {repeated!r:.40} occurs twice; keep one")
    return value
