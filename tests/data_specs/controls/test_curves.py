"""Curves against a frame-by-frame definition in fractions, against the dataset's own controls, and hostile files."""

import json
import math
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_specs.controls import NOTES, control_arrays
from data_specs.controls.curve_files import as_curves, curves_value, parse_csv, parse_json, parse_value, read_curves
from data_specs.controls.curves import Curve, Curves, unconditioned_spans
from data_specs.errors import UserError

PVT = ("piano", "violin", "trumpet")
SECONDS = 8
SAMPLES = SECONDS * 24_000
GRIDS = [(600, 320), (1921, 100)]  # frames and hop of codes and of the CQT


def sampled(value, frames=600, hop=320, samples=SAMPLES):
    return parse_value(value).arrays(PVT, samples, frames, hop)


def velocity_by_definition(points, linear, frames, hop):
    """Value at each frame from times in exact fractions, by looking at every pair of neighbours."""
    out = []
    for frame in range(frames):
        now = Fraction(frame * hop, 24_000)
        before = [k for k, (time, _) in enumerate(points) if time <= now]
        if not before or points[before[-1]][1] is None:
            out.append(-1.0)
            continue
        k = before[-1]
        time, value = points[k]
        following = points[k + 1] if k + 1 < len(points) else (None, None)
        if linear and following[1] is not None:
            share = (now - time) / (following[0] - time)
            out.append(float(value + (following[1] - value) * share))
        else:
            out.append(float(value))
    return np.array(out, np.float32)


TIMES = st.integers(0, SAMPLES).map(lambda sample: Fraction(sample, 24_000))
LEVELS = st.one_of(st.none(), st.fractions(0, 1, max_denominator=1000))


@given(st.lists(st.tuples(TIMES, LEVELS), min_size=1, max_size=8), st.booleans(), st.sampled_from(GRIDS))
@settings(max_examples=60, deadline=None)
def test_sampling_agrees_with_the_definition(points, linear, grid):
    points = sorted(points, key=lambda point: point[0])
    times = [time for time, _ in points]
    points = [p for k, p in enumerate(points) if times.count(p[0]) <= 2 or k == times.index(p[0])]
    drawn = {"points": [list(point) for point in points], "interpolation": "linear" if linear else "step"}
    found = sampled({"version": 1, "velocity": drawn}, *grid)["velocity"]
    np.testing.assert_allclose(found, velocity_by_definition(points, linear, *grid), atol=2e-7)


@pytest.mark.parametrize(("frames", "hop"), GRIDS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_notes_give_the_controls_of_the_dataset_to_the_bit(frames, hop, data):
    edges = sorted(data.draw(st.lists(st.integers(0, SAMPLES // 64), min_size=2, max_size=30, unique=True)))
    spans = [(64 * a, 64 * b) for a, b in pairwise(edges) if data.draw(st.booleans())]
    notes = np.array(
        [[a, b, data.draw(st.integers(48, 72)), data.draw(st.integers(1, 127))] for a, b in spans], np.int32
    ).reshape(-1, 4)
    expected = control_arrays(notes, 1, 3, frames, hop)
    found = Curves.from_notes(notes, "violin").arrays(PVT, SAMPLES, frames, hop)
    for name, values in found.items():
        assert np.array_equal(values, expected[name]), name


@pytest.mark.parametrize(("frames", "hop"), GRIDS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_arrays_to_curves_to_file_and_back_is_the_identity(frames, hop, data):
    spans = data.draw(st.lists(st.integers(1, frames - 1), max_size=12, unique=True).map(sorted))
    pieces = np.diff([0, *spans, frames])

    def steps(choices):
        return np.repeat(np.array([data.draw(st.sampled_from(choices)) for _ in pieces], np.float32), pieces)

    row = steps([-1.0, 0.0, 1.0, 2.0])  # -1: free, else the index of an instrument
    arrays = {
        "velocity": steps([-1.0, *(v / 127 for v in range(128))]),
        "chroma": steps([-1.0, *(k / 11 for k in range(12))]),
        "instruments": np.where(row == -1, -1, (row == np.arange(3)[:, None]).astype(np.float32)),
    }
    text = json.dumps(curves_value(Curves.from_arrays(arrays, PVT, hop)))
    again = parse_json(text).arrays(PVT, SAMPLES, frames, hop)
    for name, values in arrays.items():
        assert np.array_equal(values, again[name]), name


@pytest.mark.parametrize("hop", [100, 320])
def test_times_that_floats_cannot_hold_fall_on_their_own_frame(hop):
    frames = SAMPLES // hop
    for frame in range(frames):
        value = {"version": 1, "velocity": {"points": [[0, 0], [frame * hop / 24_000, 1]], "interpolation": "step"}}
        assert np.flatnonzero(sampled(value, frames, hop)["velocity"])[0] == frame


def test_null_is_never_interpolated_into_or_out_of():
    velocity = sampled({"version": 1, "velocity": [[0, 0.2], [2, 0.4], [4, None], [6, 1], [8, 0]]})["velocity"]
    assert velocity[150:300] == pytest.approx(0.4)
    assert (velocity[300:450] == -1).all()
    assert velocity[450] == 1
    assert velocity[525] == pytest.approx(0.5)
    assert unconditioned_spans(velocity) == [(300, 450)]


def test_what_is_absent_or_comes_before_the_first_point_is_free():
    arrays = sampled({"version": 1, "chroma": [[1, "G"]]})
    assert (arrays["velocity"] == -1).all()
    assert arrays["instruments"].shape == (3, 600)
    assert (arrays["instruments"] == -1).all()
    assert unconditioned_spans(arrays["chroma"]) == [(0, 75)]
    assert arrays["chroma"][75:] == pytest.approx(7 / 11)


def test_two_points_at_one_time_are_a_jump():
    velocity = sampled({"version": 1, "velocity": [[0, 0], [4, 1], [4, 0.5], [8, 0.5]]})["velocity"]
    assert velocity[299] == pytest.approx(299 / 300)
    assert (velocity[300:] == 0.5).all()


def test_short_forms_mean_the_same():
    plain = {"version": 1, "velocity": 0.5, "instruments": "violin"}
    full = {"version": 1, "velocity": {"points": [[0, 0.5]]}, "instruments": [[0, "violin"]]}
    for name, values in sampled(plain).items():
        assert np.array_equal(values, sampled(full)[name])
    assert curves_value(parse_value(full)) == plain


def test_note_names_and_elevenths_and_snapping_with_a_notice():
    assert [as_curves({"version": 1, "chroma": name}).curves["chroma"].points[0][1] * 11 for name in NOTES] == list(
        range(12)
    )
    for written, k in [("Db", 1), ("B♭", 10), ("e", 4), ("Cb", 11), ("b", 11), ("bb", 10), ("B#", 0), ("F♯", 6)]:
        assert parse_value({"version": 1, "chroma": written}).curves["chroma"].points[0][1] == k / 11
    exact = parse_value({"version": 1, "chroma": [[0, 4 / 11], [1, 0.36363636]]})
    assert not exact.notices
    snapped = parse_value({"version": 1, "chroma": [[0, 0.4], [1, 0.95]]})
    assert [value for _, value in snapped.curves["chroma"].points] == [4 / 11, 10 / 11]
    assert snapped.notices == (
        "curves: chroma, point 1: chroma 0.4 taken as 4/11 (E)",
        "curves: chroma, point 2: chroma 0.95 taken as 10/11 (A#)",
    )


def test_a_line_between_notes_is_the_chromatic_scale():
    value = {"version": 1, "chroma": {"points": [[0, "C"], [8, "B"]], "interpolation": "linear"}}
    chroma = sampled(value)["chroma"]
    assert np.array_equal(np.unique(chroma), (np.arange(12) / 11).astype(np.float32))
    assert (np.diff(chroma) >= 0).all()


def test_csv_says_the_same_as_json():
    text = (
        "time, velocity ,chroma,instruments\n0,0.2,E,violin\n\n4,,G,\n6,null,null,trumpet\n7,0.5,rest,NULL\n8,0.9,,\n"
    )
    value = {
        "version": 1,
        "velocity": [[0, 0.2], [6, None], [7, 0.5], [8, 0.9]],
        "chroma": [[0, "E"], [4, "G"], [6, None], [7, "rest"]],
        "instruments": [[0, "violin"], [6, "trumpet"], [7, None]],
    }
    assert parse_csv(text) == parse_value(value)


def test_cropped_curves_are_the_beginning_of_the_whole():
    curves = parse_value(
        {"version": 1, "velocity": [[0, 0], [8, 1]], "chroma": [[0, "C"], [6, "D"]], "instruments": [[5, "piano"]]}
    )
    whole = curves.arrays(PVT, SAMPLES, 600, 320)
    half = curves.cropped(4 * 24_000).arrays(PVT, 4 * 24_000, 300, 320)
    for name, values in half.items():
        np.testing.assert_allclose(values, whole[name][..., :300], atol=1e-6)


BAD = [
    ("", "is not JSON"),
    ("[]", "must be an object"),
    ("null", "must be an object"),
    ('{"velocity": 0.5}', '"version" must be 1, got none'),
    ('{"version": 2}', "must be 1, got '2'"),
    ('{"version": true}', "must be 1, got 'True'"),
    ('{"version": 1, "timbre": 0.5}', "got 'timbre'"),
    ('{"version": 1, "velocity": {"points": [[0, 0]], "smooth": 1}}', "got 'smooth'"),
    (
        '{"version": 1, "velocity": {"points": [[0, 0]], "interpolation": "cubic"}}',
        "must be linear or step, got 'cubic'",
    ),
    ('{"version": 1, "instruments": {"points": [[0, "piano"]], "interpolation": "linear"}}', "must be step, got"),
    ('{"version": 1, "velocity": []}', "has no points"),
    ('{"version": 1, "velocity": {}}', "has no points"),
    ('{"version": 1, "velocity": [0, 0.5]}', "point 1 must be a pair"),
    ('{"version": 1, "velocity": [[0, 0.5, 1]]}', "point 1 must be a pair"),
    ('{"version": 1, "velocity": [[0, NaN]]}', "must be finite, got NaN"),
    ('{"version": 1, "velocity": [[Infinity, 0]]}', "must be finite, got Infinity"),
    ('{"version": 1, "velocity": [[0, 1.01]]}', "velocity must be in 0..1, got 1.01"),
    ('{"version": 1, "velocity": [[0, -1]]}', "or write null"),
    ('{"version": 1, "velocity": [[0, true]]}', "velocity must be a number, got True"),
    ('{"version": 1, "velocity": [[0, "loud"]]}', "velocity must be a number, got 'loud'"),
    ('{"version": 1, "velocity": [["0", 0]]}', "time must be a number, got '0'"),
    ('{"version": 1, "velocity": [[-0.1, 0]]}', "time must be in 0..600 s, got -0.1 s"),
    ('{"version": 1, "velocity": [[1e999999999, 0]]}', "must be in 0..600 s"),
    ('{"version": 1, "velocity": [[0, 1e999999999]]}', "must be in 0..1"),
    ('{"version": 1, "velocity": [[601, 0]]}', "got 601 s"),
    ('{"version": 1, "velocity": [[2, 0], [1, 0]]}', "point 2 at 1 s follows one at 2 s"),
    ('{"version": 1, "velocity": [[1, 0], [1, 1], [1, 0]]}', "is the third at 1 s"),
    ('{"version": 1, "chroma": "H"}', "must be a note name, got 'H'"),
    ('{"version": 1, "chroma": ""}', "must be a note name, got ''"),
    ('{"version": 1, "chroma": 7}', "chroma must be in 0..1, got 7"),
    ('{"version": 1, "instruments": 3}', "got 3"),
    ('{"version": 1, "instruments": " "}', "got ' '"),
    ('{"version": 1, "version": 1}', "occurs twice"),
    ('{"version": 1, "velocity": {"points": [[0, 0]], "points": []}}', "occurs twice"),
    ("[" * 100_000, "cannot be read as a curve file"),
    ('{"version": ' + "1" * 5000 + "}", "must be 1, got '111"),
    (json.dumps({"version": 1, "velocity": [[0, 0.5]] * 100_001}), "at most 100000 points"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=range(len(BAD)))
def test_bad_json_is_refused_in_one_sentence(text, message):
    with pytest.raises(UserError) as caught:
        parse_json(text, "drawn.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith("drawn.json")
    assert len(str(caught.value)) < 240
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the header must be time"),
        ("0,0.5\n", "the header must be time"),
        ("time\n0\n", "each once; got 'time'"),
        ("time,timbre\n0,1\n", "the header must be time"),
        ("time,velocity,velocity\n0,1,1\n", "the header must be time"),
        ("time,velocity\n", "has no points"),
        ("time,velocity\n0,\n", "has no points"),
        ("time,velocity\n0,0.5,C\n", "line 2 must have 2 cells"),
        ("time,velocity\nnow,0.5\n", "time must be a number, got 'now'"),
        ("time,velocity\n0,nan\n", "velocity must be a number, got NaN"),
        ("time,velocity\n1,0\n0,0\n", "follows one"),
        ('time,velocity\n0,"0.5\n', "is not CSV"),
    ],
)
def test_bad_csv_is_refused_in_one_sentence(text, message):
    with pytest.raises(UserError, match=r"drawn\.csv") as caught:
        parse_csv(text, "drawn.csv")
    assert message in str(caught.value)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
@settings(max_examples=300, deadline=None)
def test_no_text_raises_anything_but_a_sentence(text):
    for parse in (parse_json, parse_csv):
        with suppress(UserError):
            parse(text)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["points", "velocity", "x"]), inner),
    max_leaves=8,
)


@given(st.sampled_from(["velocity", "chroma", "instruments"]), JSON_VALUES)
@settings(max_examples=300, deadline=None)
def test_no_value_raises_anything_but_a_sentence(name, value):
    for parse in (parse_value, lambda v: parse_json(json.dumps(v))):
        with suppress(UserError):
            parse({"version": 1, name: value})


def test_points_beyond_the_clip_and_unknown_instruments_are_refused():
    late = parse_value({"version": 1, "velocity": [[0, 0.2], [8, 0.9]]})
    late.arrays(PVT, SAMPLES, 600, 320)  # a point at the very end is inside
    with pytest.raises(UserError, match="points must be within the clip of 4 s, got one at 8 s"):
        late.arrays(PVT, SAMPLES // 2, 300, 320)
    with pytest.raises(UserError, match="must be one of piano, violin, trumpet; got 'flute'"):
        sampled({"version": 1, "instruments": "flute"})


def test_arrays_that_no_curve_describes_are_refused():
    arrays = sampled({"version": 1, "velocity": 0.5, "chroma": "C", "instruments": "piano"})
    with pytest.raises(UserError, match="one-hot"):
        Curves.from_arrays({**arrays, "instruments": np.ones((3, 600), np.float32)}, PVT, 320)
    with pytest.raises(UserError, match=r"velocity must be in 0\.\.1, or -1"):
        Curves.from_arrays({**arrays, "velocity": np.full(600, math.nan, np.float32)}, PVT, 320)


def test_files_are_read_by_their_ending(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"version": 1, "velocity": 0.1}')
    assert read_curves(tmp_path / "a.json").curves["velocity"] == Curve(((0, 0.1),), "linear")
    (tmp_path / "a.csv").write_text("time,velocity\n0,0.1\n")
    assert read_curves(str(tmp_path / "a.csv")) == read_curves(tmp_path / "a.json")
    (tmp_path / "latin.json").write_bytes(b'{"version": 1, "instruments": "\xe9"}')
    (tmp_path / "a.mid").write_bytes(b"MThd")
    for name, message in [("latin.json", "UTF-8"), ("a.mid", "python -m pipeline controls"), ("no.json", "No such")]:
        with pytest.raises(UserError, match=message):
            read_curves(tmp_path / name)


def test_what_was_written_is_what_counts_not_its_binary_neighbour():
    curves = parse_json('{"version": 1, "velocity": [[0.1, 0.3]]}')
    assert curves.curves["velocity"].points == ((2400, 0.3),)
    assert parse_value({"version": 1, "velocity": [[Decimal("0.1"), 0.3]]}) == curves
