"""Sounds with player, spectrogram, waveform and controls on one time axis.

N samples at 24 kHz, T frames of the controls, R rows.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Bool
from data_specs.controls import CHROMA_STEPS, CONTROLS, NOTES, UNCONDITIONED, VELOCITY
from data_specs.controls.curves import true_spans, unconditioned_spans
from data_specs.controls.pitch import PITCH_ORIGIN, PITCH_SPAN, is_black, note_name
from data_specs.level import listening_gain
from data_specs.rates import SAMPLE_RATE
from data_specs.viz.figures import COLOUR_MAP, INSTRUMENT_COLOURS
from data_specs.viz.page.markup import Markup, element, joined
from data_specs.viz.spectrogram import RANGE_DB, ceiling_db, mel_db

ENVELOPE = 300  # columns of a waveform
SPECTROGRAM_QUALITY = 80  # of WebP
PITCH_MARGIN = 1 / PITCH_SPAN  # a semitone above and below the notes of a lane
HEIGHT = 100.0  # units of a drawing, whatever its size on the screen


@dataclass(frozen=True)
class Sound:
    """One sound of a card.

    Attributes:
        label: what made it, for example a representation or a run.
        audio: float [N] at 24 kHz, in -1..1.
        remark: a few words after the label; may be empty.
    """

    label: str
    audio: NDArray[np.floating]
    remark: str = ""


def card(
    title: str,
    facts: Sequence[str],
    sounds: Sequence[Sound],
    controls: Mapping[str, NDArray[np.floating]],
    hop: int,
    instruments: Sequence[str],
) -> Markup:
    """Return sounds that share one set of controls, side by side.

    All are played at one gain, which brings them together to the listening level; from 1 dB on a fact states it.

    Args:
        title: heading.
        facts: short remarks beside the heading.
        sounds: at least one, all of one length.
        controls: arrays by feature as `Curves.arrays` gives them, [T] or [R, T].
        hop: samples between frames of `controls`.
        instruments: names of the rows of `controls["instruments"]`.
    """
    seconds = len(sounds[0].audio) / SAMPLE_RATE
    lanes = curve_lanes(controls, hop, seconds, instruments)
    # Compared sounds share color scale, waveform scale and listening gain, as the files of `make sample` do.
    pictures = [mel_db(sound.audio) for sound in sounds]
    ceiling = ceiling_db(pictures)
    peak = max(float(np.abs(sound.audio).max()) for sound in sounds) or 1.0
    gain = listening_gain([sound.audio for sound in sounds], SAMPLE_RATE)
    shown = [
        _track(sound, gain, spectrogram_uri(levels, ceiling), _envelope(sound.audio / peak), lanes, seconds)
        for sound, levels in zip(sounds, pictures, strict=True)
    ]
    if abs(gain_db := 20 * math.log10(gain)) >= 1:
        facts = [*facts, f"played {abs(gain_db):.0f} dB {'louder' if gain > 1 else 'softer'}"]
    head = element("h3", title, *(element("span", fact, class_="fact") for fact in facts))
    return element("article", head, element("div", *shown, class_="tracks"), class_="card")


def audio_uri(audio: NDArray[np.floating]) -> str:
    """Return float [N] at 24 kHz, clipped to -1..1, as the data URI of a 16-bit FLAC file."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(audio, -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return _data_uri("audio/flac", buffer.getvalue())


def spectrogram_uri(levels: NDArray[np.floating], ceiling: float) -> str:
    """Return levels in dB [F, T], as `mel_db` gives them, as the data URI of a WebP picture, low bands at the bottom.

    The color scale ends at `ceiling` dB and begins 65 dB below it.
    """
    from matplotlib import colormaps
    from PIL import Image

    share = (levels[::-1] - ceiling) / RANGE_DB + 1
    pixels = (colormaps[COLOUR_MAP](share)[..., :3] * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=SPECTROGRAM_QUALITY, method=6)
    return _data_uri("image/webp", buffer.getvalue())


def curve_lanes(
    controls: Mapping[str, NDArray[np.floating]], hop: int, seconds: float, instruments: Sequence[str]
) -> Markup:
    """Return a lane for each control, as its `lane` states, and a time axis of `seconds`.

    `hop` is the number of samples between frames; `instruments` are the names of the rows of the control `instruments`.
    """
    width = seconds * SAMPLE_RATE / hop  # frames a lane is wide
    lanes = [_LANES[CONTROLS[name].lane](name, controls, width, instruments) for name in CONTROLS if name in controls]
    ticks = [
        element("span", f"{tick:g} s" if tick == 0 else f"{tick:g}", style=f"left:{100 * tick / seconds:.3f}%")
        for tick in _ticks(seconds)
    ]
    return joined([*lanes, element("div", *ticks, class_="time")])


Arrays = Mapping[str, NDArray[np.floating]]


def _area_lane(name: str, controls: Arrays, width: float, instruments: Sequence[str]) -> Markup:
    values = controls[name]
    area = joined([_area(values, span) for span in true_spans(values != UNCONDITIONED)])
    return _lane(name, _drawing(area, width), *_unconditioned(values, width))


def _notes_lane(name: str, controls: Arrays, width: float, instruments: Sequence[str]) -> Markup:
    values = controls[name]
    # Chroma is 0 in rests without being a C: rests are gaps.
    drawn = (values != UNCONDITIONED) & (controls[VELOCITY] != 0 if VELOCITY in controls else True)
    steps = joined([_step_path(values, span) for span in true_spans(drawn)])
    labels = joined([element("span", NOTES[0], class_="low"), element("span", NOTES[-1], class_="high")])
    return _lane(name, _drawing(steps, width), labels, *_unconditioned(values, width))


def _line_lane(name: str, controls: Arrays, width: float, instruments: Sequence[str]) -> Markup:
    values = controls[name]
    return _curve_lane(name, values, values != UNCONDITIONED, (0.0, 1.0), width)


def _pitch_lane(name: str, controls: Arrays, width: float, instruments: Sequence[str]) -> Markup:
    """Return a piano roll over the range of the notes, bends included; rests, stored as 0, are gaps.

    Without a pitch at any frame the lane is empty.
    """
    values = controls[name]
    drawn = values > 0
    if not drawn.any():
        return _curve_lane(name, values, drawn, (0.0, 1.0), width)
    low, high = float(values[drawn].min()) - PITCH_MARGIN, float(values[drawn].max()) + PITCH_MARGIN
    lowest, highest = (round(level * PITCH_SPAN + PITCH_ORIGIN) for level in (low + PITCH_MARGIN, high - PITCH_MARGIN))
    keys = [_key_band(midi, low, high, width) for midi in range(lowest - 1, highest + 2) if is_black(midi)]
    labels = [
        element("span", note_name(lowest), class_="low"),
        *([element("span", note_name(highest), class_="high")] if highest > lowest else []),
    ]
    return _curve_lane(name, values, drawn, (low, high), width, below=joined(keys), labels=labels)


def _key_band(midi: int, low: float, high: float, width: float) -> Markup:
    """Return the rectangle behind the row of the black key `midi`.

    `low` and `high` are the stored pitches at the lane's edges, `width` is its width in frames.
    """
    level = (midi - 0.5 - PITCH_ORIGIN) / PITCH_SPAN
    top = _height(level + PITCH_MARGIN - low, high - low)
    return element(
        "rect", x="0", y=f"{top:.1f}", width=f"{width:g}", height=f"{(HEIGHT - 8) * PITCH_MARGIN / (high - low):.1f}"
    )


def _curve_lane(
    name: str,
    values: NDArray[np.floating],
    drawn: Bool,
    limits: tuple[float, float],
    width: float,
    below: Markup | None = None,
    labels: Sequence[Markup] = (),
) -> Markup:
    low, high = limits
    paths = [
        element("path", d=f"M{_path(_corners(values - low, span), high - low)}", class_="stroke")
        for span in true_spans(drawn)
    ]
    drawing = joined([below, *paths] if below else paths)
    return _lane(name, _drawing(drawing, width), *labels, *_unconditioned(values, width))


def _strip_lane(name: str, controls: Arrays, width: float, instruments: Sequence[str]) -> Markup:
    values = controls[name]
    bars = [
        element("span", label, class_="bar", style=f"{_place(span, width)};--colour:{_colour(row)}")
        for row, label in enumerate(instruments)
        for span in true_spans(values[row] == 1)
    ]
    return element("div", *bars, *_unconditioned(values, width), class_=f"lane {name}")


_LANES = {
    "area": _area_lane,
    "line": _line_lane,
    "notes": _notes_lane,
    "pitch": _pitch_lane,
    "strip": _strip_lane,
}


def _lane(name: str, *content: Markup) -> Markup:
    return element("div", *content, element("span", name, class_="name"), class_=f"lane {name}")


def _track(sound: Sound, gain: float, picture_uri: str, wave: Markup, lanes: Markup, seconds: float) -> Markup:
    caption = element("figcaption", element("b", sound.label), *([f" {sound.remark}"] if sound.remark else []))
    picture = element("img", src=picture_uri, alt=f"Mel spectrogram of {sound.label}", loading="lazy")
    stage = element(
        "div",
        picture,
        element("div", _drawing(wave, ENVELOPE), class_="lane wave"),
        lanes,
        element("i", class_="head"),
        class_="stage",
    )
    player = element(
        "audio", src=audio_uri(sound.audio * gain), controls="", preload="metadata", aria_label=f"{sound.label}"
    )
    return element("figure", caption, player, stage, class_="track", data_seconds=f"{seconds:g}")


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _drawing(content: Markup, width: float) -> Markup:
    """Return an SVG drawing, `width` by HEIGHT units, that is stretched to its lane and hidden from screen readers."""
    box = f"0 0 {width:g} {HEIGHT:g}"
    return element("svg", content, viewBox=box, preserveAspectRatio="none", aria_hidden="true")


def _envelope(audio: NDArray[np.floating]) -> Markup:
    """Return the outline of the lowest and highest sample of each of 300 columns, as one closed path.

    Samples in -1..1 fill the height; those beyond are clipped.
    """
    columns = np.array_split(np.asarray(audio), ENVELOPE)
    high = [f"{x:g},{50 - 50 * min(1.0, float(part.max())):.1f}" for x, part in enumerate(columns)]
    low = [f"{x:g},{50 - 50 * max(-1.0, float(part.min())):.1f}" for x, part in enumerate(columns)]
    return element("path", d="M" + "L".join(high + low[::-1]) + "Z")


def _corners(values: NDArray[np.floating], span: tuple[int, int]) -> list[tuple[int, float]]:
    """Return the corners (frame, value) of a curve over the frames of a span: each frame holds its value.

    A constant stretch gives its two ends only, [first, last + 1].
    """
    start, stop = span
    inside = values[start:stop]
    changes = [start, *(np.flatnonzero(np.diff(inside)) + 1 + start).tolist(), stop]
    return [
        corner
        for first, last in pairwise(changes)
        for corner in ((first, float(values[first])), (last, float(values[first])))
    ]


def _path(corners: Sequence[tuple[int, float]], height: float) -> str:
    return "L".join(f"{x},{_height(level, height):.1f}" for x, level in corners)


def _height(level: float, height: float) -> float:
    """Return the vertical position, in units from the top, of a level in a lane of the range 0..`height`."""
    return HEIGHT - 4 - (HEIGHT - 8) * level / height


def _area(velocity: NDArray[np.floating], span: tuple[int, int]) -> Markup:
    line = _path(_corners(velocity, span), 1)
    filled = element("path", d=f"M{span[0]},{HEIGHT:g}L{line}L{span[1]},{HEIGHT:g}Z", class_="fill")
    return joined([filled, element("path", d=f"M{line}", class_="stroke")])


def _step_path(chroma: NDArray[np.floating], span: tuple[int, int]) -> Markup:
    corners = _corners(chroma * CHROMA_STEPS, span)
    notes = [
        element("path", d=f"M{_path([begin, end], CHROMA_STEPS)}", class_="note")
        for begin, end in zip(corners[::2], corners[1::2], strict=True)
    ]
    return joined([element("path", d=f"M{_path(corners, CHROMA_STEPS)}", class_="thin"), *notes])


def _place(span: tuple[int, int], width: float) -> str:
    start, stop = span[0], min(float(span[1]), width)
    return f"left:{100 * start / width:.3f}%;width:{100 * (stop - start) / width:.3f}%"


def _unconditioned(values: NDArray[np.floating], width: float) -> list[Markup]:
    return [
        element("span", "unconditioned", class_="unconditioned", style=_place(span, width))
        for span in unconditioned_spans(values)
    ]


def _colour(row: int) -> str:
    return INSTRUMENT_COLOURS[row % len(INSTRUMENT_COLOURS)]


def _ticks(seconds: float) -> list[float]:
    step = next((step for step in (0.5, 1, 2, 5, 10, 30, 60) if seconds / step <= 9), 120)
    return [step * k for k in range(int(seconds / step) + 1)]
