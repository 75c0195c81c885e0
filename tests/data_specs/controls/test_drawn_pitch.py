"""Drawn pitch, brightness and rests; curves for models with other controls; spreadsheets of other locales."""

import numpy as np
import pytest

from data_specs.controls import CONTROLS
from data_specs.controls.curve_files import curves_value, parse_csv, parse_json, parse_value
from data_specs.errors import UserError

PUBLISHED = ("velocity", "chroma", "instruments")
ALL = tuple(CONTROLS)
INSTRUMENTS = ("piano", "violin", "trumpet")


def arrays(value, names=ALL, seconds=8):
    curves = value if not isinstance(value, dict) else parse_value({"version": 1, **value})
    return curves.for_controls(names).arrays(INSTRUMENTS, seconds * 24_000, seconds * 75, 320, names)


def test_pitch_glides_between_points_and_jumps_at_two_points_of_one_time():
    drawn = arrays({"pitch": [[0, "C4"], [2, 62.5], [2, "E3"], [4, "E3"]]})["pitch"] * 85 + 23
    np.testing.assert_allclose(drawn[:150], 60 + 2.5 * np.arange(150) / 150, atol=1e-4)
    np.testing.assert_allclose(drawn[150:], 52, atol=1e-4)


def test_a_line_to_a_rest_holds_its_note():
    drawn = arrays({"pitch": [[0, "C4"], [2, "rest"], [4, "G4"]]})
    np.testing.assert_allclose(drawn["pitch"][:150] * 85 + 23, 60, atol=1e-4)
    assert (drawn["pitch"][150:300] == 0).all()
    np.testing.assert_allclose(drawn["pitch"][300:] * 85 + 23, 67, atol=1e-4)


@pytest.mark.parametrize("name", ["chroma", "pitch"])
def test_a_drawn_rest_is_velocity_0_where_velocity_is_not_drawn(name):
    note = {"chroma": "C", "pitch": "C4"}[name]
    points = {"points": [[0, note], [2, "rest"], [4, note]], "interpolation": "step"}
    alone = arrays({name: points})["velocity"]
    assert (alone[:150] == -1).all()
    assert (alone[150:300] == 0).all()
    assert (alone[300:] == -1).all()
    partly = arrays({name: points, "velocity": [[0, 0.5], [3, 0.5], [3, None]]})["velocity"]
    assert (partly[:225] == np.float32(0.5)).all()
    assert (partly[225:300] == 0).all()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"velocity": 0.5, "chroma": [[0, "E"], [2, "rest"]]}, "velocity is above 0 in a drawn rest at 2.00 s"),
        ({"velocity": [[0, 0.5], [3, 0.5], [3, 0]], "pitch": "E4"}, "velocity is 0 in a drawn note at 3.00 s"),
    ],
)
def test_contradictions_of_velocity_are_announced(value, sentence):
    (notice,) = parse_value({"version": 1, **value}).for_controls(ALL).notices
    assert notice.startswith(sentence)


def test_pitch_becomes_chroma_for_a_model_without_pitch():
    curves = parse_value({"version": 1, "pitch": [[0, "C3"], [2, "D4"], [2, "rest"], [3, "B2"]]})
    fitting = curves.for_controls(PUBLISHED)
    assert fitting.notices == ("pitch is converted to chroma, since the model has no octaves",)
    found = fitting.arrays(INSTRUMENTS, 96_000, 300, 320)
    expected = np.floor(48 + 14 * np.arange(150) / 150 + 0.5) % 12 / 11
    np.testing.assert_allclose(found["chroma"][:150], expected, atol=1e-6)
    assert (found["velocity"][150:225] == 0).all()
    np.testing.assert_allclose(found["chroma"][225:], 1)


def test_drawn_chroma_replaces_pitch_for_a_model_without_pitch():
    fitting = parse_value({"version": 1, "pitch": "C3", "chroma": "E"}).for_controls(PUBLISHED)
    assert fitting.notices == ("pitch is left out, since the model has no octaves; it follows chroma",)
    assert list(fitting.curves) == ["chroma"]


def test_chroma_leaves_pitch_unconditioned_and_other_controls_are_refused():
    assert (arrays({"chroma": "E"})["pitch"] == -1).all()
    with pytest.raises(UserError, match=r"model's controls velocity, chroma, instruments, got brightness"):
        arrays({"brightness": 0.5}, PUBLISHED)


def test_numbers_of_chroma_that_could_be_pitch_classes_are_announced():
    (notice,) = parse_value({"version": 1, "chroma": [[0, 0], [1, 1]]}).notices
    assert "0 is C, 1 is B" in notice
    assert not parse_value({"version": 1, "chroma": [[0, "C"], [1, "C#"]]}).notices


@pytest.mark.parametrize("name", ["C4", "F#3", "Bb-1"])
def test_chroma_has_no_octaves(name):
    with pytest.raises(UserError, match="chroma has no octaves, got"):
        parse_value({"version": 1, "chroma": name})


def test_a_version_written_as_text_is_read():
    assert parse_json('{"version": "1", "velocity": 0.5}') == parse_value({"version": 1, "velocity": 0.5})


@pytest.mark.parametrize(
    "text",
    [
        "time;velocity;chroma;instruments\n0;0,2;E;violin\n4;0,9;G;\n",
        "sep=;\ntime;velocity;chroma;instruments\n0;0,2;E;violin\n4;0,9;G;\n",
        "sep=,\ntime,velocity,chroma,instruments\n0,0.2,E,violin\n4,0.9,G,\n",
        "time\tvelocity\tchroma\tinstruments\n0\t0,2\tE\tviolin\n4\t0,9\tG\t\n",
        '\ufefftime,velocity,chroma,instruments\n0,"0,2",E,violin\n4,"0,9",G,\n',
        "time,velocity,chroma,instruments,,\n0,0.2,E,violin,,\n4,0.9,G,,,\n,,,,,\n",
    ],
)
def test_spreadsheets_of_other_locales_give_the_same_curves(text):
    expected = parse_csv("time,velocity,chroma,instruments\n0,0.2,E,violin\n4,0.9,G,\n")
    assert parse_csv(text) == expected


def test_cells_beyond_the_header_are_refused():
    with pytest.raises(UserError, match="line 2 must have 2 cells like the header, got 3"):
        parse_csv("time,velocity,\n0,0.2,0.3\n")


def test_csv_has_columns_of_pitch_and_brightness():
    curves = parse_csv("time,pitch,brightness\n0,E4,0.2\n4,60.5,0.9\n6,rest,\n")
    assert curves == parse_value(
        {"version": 1, "pitch": [[0, "E4"], [4, 60.5], [6, "rest"]], "brightness": [[0, 0.2], [4, 0.9]]}
    )
    assert parse_value(curves_value(curves)) == curves
