"""Specs: what ships, what is refused and how, and what decides the two digests."""

import pytest

from data_specs.errors import UserError
from data_specs.formats import FORMATS, check_format
from data_specs.io.files import value_digest
from data_specs.spec import ClipCounts, load_spec

MINIMAL = """
name = "mine"
clips = { train = 6, valid = 2 }
source = { midi = "songs", clips_per_song = 2 }
instruments = [{ name = "flute", program = 73 }]
rendering = { soundfont = "timgm6mb" }
codec = { name = "pvt" }
[formats]
audio = { dtype = "float32", shard_clips = 4, chunk_clips = 2 }
cqt = { dtype = "float16", shard_clips = 4, chunk_clips = 2 }
encodec = { dtype = "float32", shard_clips = 4, chunk_clips = 2 }
disc = { dtype = "int16", shard_clips = 4, chunk_clips = 2 }
"""
EXPRESSION = """
[expression]
velocity = { families = ["ramp"], depth = 0.8 }
glide = { share = 0.2, seconds = [0.03, 0.2] }
vibrato = { share = 0.3, hz = [4.0, 7.0], cents = [10.0, 60.0], delay = 0.2 }
relay = { share = 0.15 }
brightness = { share = 0.6, families = ["sine"], depth_cents = { flute = 2400.0 } }
"""


def test_the_published_dataset_is_pvt():
    spec = load_spec("pvt")
    assert [(i.name, i.program) for i in spec.instruments] == [("piano", 0), ("violin", 40), ("trumpet", 56)]
    assert (spec.clip.samples, spec.clip.lowest_pitch, spec.clip.highest_pitch) == (192_000, 48, 72)
    assert (spec.codec.name, spec.codec.codebooks) == ("encodec_24khz", 16)
    for name in ("cqt", "encodec", "disc"):
        assert (spec.clips_of(name, "train"), spec.clips_of(name, "valid")) == (100_000, 20_000)
    assert (spec.clips_of("audio", "train"), spec.clips_of("audio", "valid")) == (50_000, 20_000)


def test_the_sample_is_one_plan_with_caps_that_asked_clips_replace():
    spec = load_spec()
    sizes = {name: (spec.clips_of(name, "train"), spec.clips_of(name, "valid")) for name in FORMATS}
    assert sizes == {"audio": (400, 80), "cqt": (160, 32), "encodec": (1000, 200), "disc": (1000, 200)}
    asked = spec.with_clips(ClipCounts.parse("700:90"))
    assert {(asked.clips_of(name, "train"), asked.clips_of(name, "valid")) for name in FORMATS} == {(700, 90)}


def test_the_plan_does_not_depend_on_clips_path_sound_or_storage_but_on_all_else():
    spec = load_spec()

    def digest(**changes):
        return value_digest(spec.model_copy(update=changes).plan_key())

    same = digest()
    assert digest(clips=ClipCounts(train=3, valid=1)) == same
    assert digest(source=spec.source.model_copy(update={"midi": "elsewhere"})) == same
    assert digest(rendering=spec.rendering.model_copy(update={"gain": 0.1})) == same
    assert digest(formats=load_spec("pvt").formats) == same
    for changes in (
        {"seed": 1},
        {"source": spec.source.model_copy(update={"clips_per_song": 3})},
        {"clip": spec.clip.model_copy(update={"min_notes": 9})},
        {"instruments": spec.instruments[:2]},
        {"modulation": spec.modulation.model_copy(update={"depth": 0.5})},
        {"limits": spec.limits.model_copy(update={"notes": 9})},
    ):
        assert digest(**changes) != same, changes


def test_a_format_depends_on_its_own_storage_and_sound_only():
    spec = load_spec()
    other = spec.formats | {"cqt": spec.format("cqt").model_copy(update={"dtype": "float16"})}
    changed = spec.model_copy(update={"formats": other})
    assert changed.format_key("cqt") != spec.format_key("cqt")
    assert changed.format_key("audio") == spec.format_key("audio")
    fewer = spec.model_copy(update={"codec": spec.codec.model_copy(update={"codebooks": 8})})
    assert fewer.format_key("disc") != spec.format_key("disc")
    assert fewer.format_key("encodec") == spec.format_key("encodec")


def test_keys_at_their_defaults_leave_the_digests_of_existing_datasets():
    """Digests as of the version before controls and expression became keys."""
    expected = {
        "sample": ("21107bd0eb07849c", "5f6a643efb786753", "7957fef7a7449e98", "768b6087f4f661fc", "6849fb77115eb188"),
        "pvt": ("f29725cc2dc98527", "0e5402e5308e3407", "d0a38cb77bd4ab51", "b385869dabc4fec4", "8ac0966c8d3e1998"),
    }
    for name, digests in expected.items():
        spec = load_spec(name)
        keys = (spec.plan_key(), *(spec.format_key(stored) for stored in ("audio", "cqt", "encodec", "disc")))
        assert tuple(value_digest(key)[:16] for key in keys) == digests
        assert not {"controls", "expression"} & spec.model_dump().keys()


def test_expression_and_controls_are_part_of_the_digests():
    spec = load_spec("expressive")
    assert "modulation" not in spec.plan_key()
    assert spec.expression is not None
    less = spec.expression.model_copy(update={"relay": spec.expression.relay.model_copy(update={"share": 0.1})})
    assert spec.model_copy(update={"expression": less}).plan_key() != spec.plan_key()
    fewer = spec.model_copy(update={"controls": spec.controls[:-1]})
    assert fewer.plan_key() == spec.plan_key()
    assert fewer.format_key("disc") != spec.format_key("disc")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("seconds", "secnds"), "clip"),
        (('dtype = "int16"', 'dtype = "float32"'), "formats.disc.dtype cannot be float32"),
        (('dtype = "float16"', 'dtype = "int16"'), "formats.cqt.dtype cannot be int16"),
        (("train = 6", 'train = "six"'), r"clips\.train"),
        (("train = 6", "train = -6"), r"clips\.train"),
        (("program = 73", "program = 128"), r"instruments\.0\.program"),
        (('name = "mine"', 'nmae = "mine"'), "nmae|name"),
        (("[formats]", "colour = 3\n[formats]"), "colour"),
        (("clips_per_song = 2", "clips_per_song = 2, key_shifts = [1.5]"), r"source\.key_shifts\.0"),
        (("train = 6", "train = true"), r"clips\.train: must be .*integer, got True"),
        (
            ("clips_per_song = 2", "clips_per_song = 2, key_shifts = [true]"),
            r"source\.key_shifts\.0: .*got True",
        ),
        (("[formats]", "modulation = { highest_hz = inf }\n[formats]"), r"modulation\.highest_hz: .*finite"),
        (("[formats]", "modulation = { lowest_hz = 2.0 }\n[formats]"), "lowest_hz must not be above highest_hz"),
        (("[formats]", "[formats"), "not valid TOML"),
        (
            ("[formats]", f"modulation = {{ depth = 0.5 }}\n{EXPRESSION}\n[formats]"),
            "modulation and expression exclude",
        ),
        (("[formats]", f"{EXPRESSION.replace('flute', 'oboe')}\n[formats]"), "depth_cents must name flute"),
        (("[formats]", 'controls = ["velocity", "loud"]\n[formats]'), "controls must be distinct names among velocity"),
        (("[formats]", "clip = { min_note_samples = 100 }\n[formats]"), "multiples of 64"),
        (("[formats]", "clip = { lowest_pitch = 60, highest_pitch = 66 }\n[formats]"), "octave apart"),
    ],
)
def test_faults_are_named_with_file_and_key(tmp_path, change, named):
    path = tmp_path / "mine.toml"
    text = MINIMAL.replace("[formats]", "clip = { seconds = 4 }\n[formats]") if change[0] == "seconds" else MINIMAL
    path.write_text(text.replace(*change))
    with pytest.raises(UserError, match=named) as error:
        load_spec(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    path.write_text(MINIMAL)
    assert load_spec(str(path)).instrument_names == ("flute",)


@pytest.mark.parametrize("name", ["smaple", "no/such/spec.toml", ""])
def test_an_unknown_spec_names_those_that_ship(name):
    with pytest.raises(UserError, match="pvt, recordings, sample"):
        load_spec(name)


@pytest.mark.parametrize("text", ["", "400", "400:", ":80", "a:b", "-1:5", "1:2:3", "1.5:2", "400 80"])
def test_clips_must_be_train_and_valid(text):
    with pytest.raises(UserError, match="CLIPS=400:80"):
        ClipCounts.parse(text)


def test_an_unknown_format_lists_the_known_ones():
    with pytest.raises(UserError, match="audio, cqt, encodec, disc"):
        check_format("enocdec")
