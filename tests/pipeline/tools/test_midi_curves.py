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
        ([str(song), "--start", "nan"], "must be >= 0 s"),
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
