"""Curves of a MIDI file's melody against the notes that were written into it."""

import io

import mido
import numpy as np
import pytest

from data_specs.controls.curve_files import read_curves
from data_specs.errors import UserError
from pipeline.cli import main
from pipeline.tools.midi_curves import midi_curves

PVT = ("piano", "violin", "trumpet")


def write_midi(path, tracks):
    """tracks: (program, [(start quarter, length in quarters, pitch, velocity)]), at 120 quarters a minute."""
    file = mido.MidiFile(ticks_per_beat=480)
    for channel, (program, notes) in enumerate(tracks):
        events = [(start, 1, pitch, velocity) for start, _, pitch, velocity in notes]
        events += [(start + length, 0, pitch, 0) for start, length, pitch, _ in notes]
        track = mido.MidiTrack([mido.Message("program_change", program=program, channel=channel)])
        now = 0
        for time, _, pitch, velocity in sorted(events):
            tick = round(time * 480)
            track.append(mido.Message("note_on", note=pitch, velocity=velocity, time=tick - now, channel=channel))
            now = tick
        file.tracks.append(track)
    content = io.BytesIO()
    file.save(file=content)
    path.write_bytes(content.getvalue())
    return path


@pytest.fixture
def song(tmp_path):
    flute = [(0, 1, 60, 80)]
    violin = [(2, 1, 64, 127), (4, 2, 67, 64), (8, 2, 71, 100)]
    return write_midi(tmp_path / "song.mid", [(73, flute), (40, violin)])


def test_curves_are_the_melody_from_its_first_note(song):
    arrays = midi_curves(song).curves.arrays(PVT, 192_000, 600, 320)
    # 2 quarters a second, 75 frames a second: 37.5 frames a quarter, counted from the violin's first note
    velocity = np.zeros(600, np.float32)
    for (start, stop), level in {(0, 37.5): 127, (75, 150): 64, (225, 300): 100}.items():
        velocity[int(np.ceil(start)) : int(np.ceil(stop))] = level / 127
    assert np.array_equal(arrays["velocity"], velocity)
    assert arrays["chroma"][[0, 100, 250]] == pytest.approx([4 / 11, 7 / 11, 1.0])
    assert (arrays["instruments"] == np.array([[0], [1], [0]])).all()


def test_a_stretch_begins_where_asked_and_cuts_what_reaches_over_its_ends(song):
    curves = midi_curves(song, seconds=1, start_s=1.5).curves
    arrays = curves.arrays(PVT, 24_000, 75, 320)
    assert (arrays["velocity"][:38] == np.float32(64 / 127)).all()  # sounds from 1 s to 2 s
    assert (arrays["velocity"][38:] == 0).all()


def test_track_and_instrument_can_be_chosen(song):
    flute = midi_curves(song, track=0).curves
    assert "instruments" not in flute.curves  # a flute is in no dataset: left free
    assert midi_curves(song, track=0, instrument="piano").curves.instruments == ("piano",)


def test_command_writes_a_curve_file(song, capsys):
    assert main(["controls", str(song)]) == 0
    written = song.with_suffix(".json")
    assert capsys.readouterr().out.splitlines()[-1] == str(written)
    found = read_curves(written).arrays(PVT, 192_000, 600, 320)
    expected = midi_curves(song).curves.arrays(PVT, 192_000, 600, 320)
    for name, values in expected.items():
        assert np.array_equal(found[name], values)


def test_what_cannot_be_read_is_one_sentence(song, tmp_path, capsys):
    (tmp_path / "page.mid").write_text("<html>")
    cases = [
        ([str(tmp_path / "no.mid")], "cannot be read"),
        ([str(tmp_path / "page.mid")], "not a MIDI file"),
        ([str(song), "--track", "7"], "there is one in 0, 1"),
        ([str(song), "--start", "99"], "has no notes there"),
        ([str(song), "--start", "nan"], "--start must be a number"),
        ([str(song), "--seconds", "0"], "must be above 0"),
    ]
    for arguments, message in cases:
        assert main(["controls", *arguments]) == 2
        assert message in capsys.readouterr().err
    drums = write_midi(tmp_path / "drums.mid", [(115, [(0, 1, 60, 90)])])
    with pytest.raises(UserError, match="no melody"):
        midi_curves(drums)


def named(path, *tracks):
    """Rewrite a file with the given names of its tracks."""
    file = mido.MidiFile(path)
    for track, name in zip(file.tracks, tracks, strict=True):
        track.insert(0, mido.MetaMessage("track_name", name=name))
    file.save(path)
    return path


def test_the_track_named_melody_is_preferred_to_the_one_with_most_notes(song, capsys):
    assert midi_curves(named(song, "MELODY", "strings")).source.startswith("song.mid: track 0 (MELODY)")
    assert main(["controls", str(song), "--track", "1"]) == 0
    assert "track 1 (strings)" in capsys.readouterr().out


def test_a_lead_or_voice_is_preferred_too(song):
    assert "track 0 (Lead vocals)" in midi_curves(named(song, "Lead vocals", "strings")).source


def test_an_unrelated_file_is_not_overwritten(song, capsys):
    unrelated = song.with_suffix(".json")
    unrelated.write_text('{"bpm": 120}')
    assert main(["controls", str(song)]) == 2
    assert "exists and has other content" in capsys.readouterr().err
    assert main(["controls", str(song), "--out", str(unrelated)]) == 2
    assert unrelated.read_text() == '{"bpm": 120}'
    other = song.with_name("other.json")
    for start in ("0", "1"):  # a curve file named by --out is replaced
        assert main(["controls", str(song), "--out", str(other), "--start", start]) == 0
    assert str(other) not in capsys.readouterr().out


def test_seconds_may_be_a_fraction(song):
    curves = midi_curves(song, seconds=1.5, start_s=1.5).curves
    assert curves.samples <= 36_000


def performed(path, messages, note=(0, 4800), pitch=60, velocity=100):
    """A file of one note, by default 5 s long, with other messages of channel 0: (tick, type, fields)."""
    track = mido.MidiTrack([mido.Message("program_change", program=40)])
    events = [(note[0], 1, mido.Message("note_on", note=pitch, velocity=velocity))]
    events += [(note[1], 2, mido.Message("note_on", note=pitch, velocity=0))]
    events += [(tick, 0, mido.Message(kind, **fields)) for tick, kind, fields in messages]
    now = 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    file = mido.MidiFile(ticks_per_beat=480)
    file.tracks.append(track)
    file.save(path)
    return path


def control(tick, number, value):
    return (tick, "control_change", {"control": number, "value": value})


def test_bends_move_pitch_by_the_registered_sensitivity_and_leave_chroma(tmp_path):
    path = performed(
        tmp_path / "bend.mid",
        [
            *(control(0, number, value) for number, value in ((101, 0), (100, 0), (6, 12))),
            (960, "pitchwheel", {"pitch": 4096}),  # 1 s: half of 12 semitones up
            (1920, "pitchwheel", {"pitch": -8192}),  # 2 s: 12 down
            control(2880, 121, 0),  # 3 s: reset
        ],
    )
    arrays = midi_curves(path, seconds=5).curves.arrays(PVT, 120_000, 375, 320, ("velocity", "chroma", "pitch"))
    midi = arrays["pitch"] * 85 + 23
    assert midi[[10, 74, 80, 140, 160, 220, 230, 370]] == pytest.approx([60, 60, 66, 66, 48, 48, 60, 60], abs=1e-3)
    assert (arrays["chroma"] == 0).all()
    assert (arrays["velocity"] == np.float32(100 / 127)).all()


def test_expression_and_volume_move_velocity_relative_to_their_loudest(tmp_path):
    quiet = [control(0, 7, 64), control(0, 11, 50), control(960, 11, 100), control(1920, 7, 32)]
    arrays = midi_curves(performed(tmp_path / "swell.mid", quiet), seconds=5).curves.arrays(PVT, 120_000, 375, 320)
    level = arrays["velocity"] * 127
    assert level[[10, 80, 160, 374]] == pytest.approx([50, 100, 50, 50], abs=1e-3)
    still = midi_curves(performed(tmp_path / "still.mid", [control(0, 7, 30)]), seconds=5).curves
    assert (still.arrays(PVT, 120_000, 375, 320)["velocity"] == np.float32(100 / 127)).all()


def test_bends_of_another_channel_do_not_matter(tmp_path):
    path = performed(tmp_path / "other.mid", [(960, "pitchwheel", {"pitch": 8191, "channel": 1})])
    assert len(midi_curves(path, seconds=5).curves.curves["pitch"].points) == 2  # the note and its end


def test_equal_notes_in_a_row_are_separated_by_a_rest_of_two_frames(tmp_path):
    path = write_midi(tmp_path / "twice.mid", [(40, [(0, 2, 60, 90), (2, 2, 60, 90), (4, 2, 62, 90)])])
    arrays = midi_curves(path, seconds=3).curves.arrays(PVT, 72_000, 225, 320, ("velocity", "pitch"))
    silent = np.flatnonzero(arrays["velocity"] == 0)
    assert silent.tolist() == [73, 74]  # before 1 s
    assert (arrays["pitch"][silent] == 0).all()


def test_dense_bends_stay_within_the_points_of_a_curve_file(tmp_path):
    wheel = [(tick, "pitchwheel", {"pitch": 40 * (tick % 200) - 4000}) for tick in range(4800)]
    path = performed(tmp_path / "dense.mid", wheel)
    points = midi_curves(path, seconds=5).curves.curves["pitch"].points
    assert 400 < len(points) <= 502  # 5 s at 10 ms
    times = [time for time, _ in points]
    assert times == sorted(times)
