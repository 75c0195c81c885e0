"""Programs, drum channels and mode controllers; every file is read by both readers."""

import random

import pytest

from pipeline.midi.reader import read_song
from pipeline.midi.song import Song
from tests.pipeline.midi.made_midi import LIMITS, Message, Meta, assert_same, both_ways, file_bytes, intervals, off, on


def program_change(tick: int, program: int, channel: int) -> Message:
    return Message("program_change", program=program, channel=channel, time=tick)


def control(tick: int, number: int, value: int, channel: int) -> Message:
    return Message("control_change", control=number, value=value, channel=channel, time=tick)


def exclusive(tick: int, *data: int) -> Message:
    return Message("sysex", data=data, time=tick)


def gs(tick: int, *address_and_data: int) -> Message:
    return exclusive(tick, 0x41, 0x10, 0x42, 0x12, *address_and_data, -sum(address_and_data) % 128)


GS_RESET, XG_ON = gs(0, 0x40, 0, 0x7F, 0), exclusive(0, 0x43, 0x10, 0x4C, 0, 0, 0x7E, 0)
GM_ON, GM2_ON = exclusive(0, 0x7E, 0x7F, 9, 1), exclusive(0, 0x7E, 0x7F, 9, 3)


def one_track(*setup: Message, channel: int, program: int = 0, at: int = 0) -> tuple[int, bool]:
    """Program and drum flag of notes on `channel` behind `setup` and a program change."""
    events = [*setup, program_change(0, program, channel), on(at + 10, 60, channel=channel)]
    (track,) = both_songs(file_bytes([[*events, off(at + 500, 60, channel)]])).tracks
    return track.program, track.is_drum


def both_songs(content: bytes) -> Song:
    """The song, after checking that both readers agree where the fast one takes the file."""
    fast, tolerant = both_ways(content)
    assert isinstance(tolerant, Song)
    if fast is not None:
        assert isinstance(fast, Song)
        assert_same(fast, tolerant)
    return read_song(content, LIMITS)


@pytest.mark.parametrize(
    ("setup", "channel", "is_drum"),
    [
        pytest.param([], 9, True, id="channel 10"),
        pytest.param([], 10, False, id="channel 11"),
        pytest.param([GS_RESET, gs(0, 0x40, 0x1A, 0x15, 1)], 10, True, id="GS rhythm part"),
        pytest.param([GS_RESET, gs(0, 0x40, 0x1A, 0x15, 2)], 10, True, id="GS second rhythm map"),
        pytest.param([GS_RESET, gs(0, 0x40, 0x11, 0x15, 1)], 0, True, id="GS rhythm part on channel 1"),
        pytest.param([GS_RESET, gs(0, 0x40, 0x1A, 0x13, 0, 0, 1)], 10, True, id="GS rhythm part in a longer message"),
        pytest.param([GS_RESET, gs(0, 0x40, 0x10, 0x15, 0)], 9, False, id="GS melodic part on channel 10"),
        pytest.param([gs(0, 0x40, 0x1A, 0x15, 1), GS_RESET], 10, False, id="GS reset restores melodic"),
        pytest.param([gs(0, 0x40, 0x10, 0x15, 0), GM_ON], 9, True, id="GM on restores drums"),
        pytest.param([GS_RESET, gs(0, 0x40, 0x1A, 0x16, 1)], 10, False, id="another GS parameter"),
        pytest.param([GS_RESET, control(0, 0, 127, 3)], 3, False, id="GS variation 127 is melodic"),
        pytest.param([XG_ON, control(0, 0, 127, 10)], 10, True, id="XG bank 127"),
        pytest.param([XG_ON, control(0, 0, 126, 10)], 10, True, id="XG bank 126"),
        pytest.param([control(0, 0, 127, 10), control(0, 32, 0, 10)], 10, True, id="bank 127 without XG on"),
        pytest.param([XG_ON, control(0, 0, 0, 9)], 9, False, id="XG melodic bank on channel 10"),
        pytest.param([XG_ON], 9, True, id="XG channel 10"),
        pytest.param([control(0, 0, 0, 9)], 9, True, id="bank 0 on channel 10 without XG"),
        pytest.param([XG_ON, exclusive(0, 0x43, 0x10, 0x4C, 8, 10, 7, 2)], 10, True, id="XG part mode"),
        pytest.param([GM2_ON, control(0, 0, 120, 10)], 10, True, id="GM2 bank 120"),
        pytest.param([GM2_ON, control(0, 0, 121, 9)], 9, False, id="GM2 bank 121 on channel 10"),
    ],
)
def test_drum_channels_of_gs_xg_and_gm2(setup, channel, is_drum):
    assert one_track(*setup, channel=channel, program=5) == (5, is_drum)


def test_bank_select_applies_at_the_next_program_change():
    events = [program_change(0, 5, 2), control(10, 0, 127, 2), on(20, 60, channel=2), off(40, 60, 2)]
    events += [program_change(50, 5, 2), on(60, 60, channel=2), off(80, 60, 2)]
    tracks = both_songs(file_bytes([events])).tracks
    assert [(track.is_drum, track.start_tick.tolist()) for track in tracks] == [(False, [20]), (True, [60])]


NOTES = [on(480, 60, channel=2), off(960, 60, 2)]


@pytest.mark.parametrize("form", [0, 1])
def test_programs_of_another_track_apply_in_formats_0_and_1(form):
    content = file_bytes([[program_change(0, 40, 2)], NOTES], form=form)
    assert [track.program for track in both_songs(content).tracks] == [40]


def test_programs_of_another_track_do_not_apply_in_format_2():
    content = file_bytes([[program_change(0, 40, 2)], NOTES], form=2)
    assert [track.program for track in both_songs(content).tracks] == [0]


def test_the_latest_program_change_applies_whatever_its_track():
    content = file_bytes([[program_change(0, 40, 2), program_change(970, 41, 2)], [program_change(5, 56, 2), *NOTES]])
    assert [track.program for track in both_songs(content).tracks] == [56]
    content = file_bytes([[program_change(200, 40, 2)], [program_change(5, 56, 2), *NOTES]])
    assert [track.program for track in both_songs(content).tracks] == [40]


def test_ports_have_channels_of_their_own():
    port = Meta("midi_port", port=1, time=0)
    content = file_bytes([[program_change(0, 40, 2)], [port, *NOTES]])
    assert [track.program for track in both_songs(content).tracks] == [0]


# --- notes ended by mode controllers


@pytest.mark.parametrize("number", [120, 123, 124, 127])
def test_controllers_that_end_all_notes_of_their_channel(number):
    other = [on(0, 50, channel=3), off(900, 50, 3)]
    events = [on(0, 60), on(0, 64), control(480, number, 0, 0), on(600, 60), off(700, 60), off(800, 64)]
    song = both_songs(file_bytes([events, other]))
    assert sorted(intervals(song)) == [(0, 480, 60), (0, 480, 64), (0, 900, 50), (600, 700, 60)]


def test_a_mode_controller_at_the_tick_of_a_note_does_not_end_it():
    content = file_bytes([[control(0, 123, 0, 0), on(0, 60), off(480, 60)], [control(0, 123, 0, 0)]])
    assert intervals(both_songs(content)) == [(0, 480, 60)]


def random_state_song(seed: int) -> bytes:
    """Tracks that share channels, with program changes, bank selects, resets and mode controllers anywhere.

    Most of these are rare, so that the fast reader takes some of the files.
    """
    rng = random.Random(seed)
    rare = rng.random() < 0.5
    resets = [GS_RESET, XG_ON, GM_ON, GM2_ON, gs(0, 0x40, 0x1A, 0x15, 1), gs(0, 0x40, 0x10, 0x15, 0)]
    tracks = []
    for number in range(rng.randrange(1, 5)):
        channels = rng.sample([0, 1, 9, 10], 2) if rare else [number]
        events: list = []
        for _ in range(rng.randrange(30)):
            tick, channel = rng.randrange(0, 2000), rng.choice(channels)
            kind = rng.random()
            if kind < 0.7:
                pitch = rng.randrange(58, 62)
                events += [on(tick, pitch, rng.randrange(1, 128), channel)]
                events += [off(tick + rng.randrange(1, 300), pitch, channel)]
            elif kind < 0.8:
                events.append(program_change(tick, rng.choice([0, 5, 40]), channel))
            elif kind < 0.9:
                events.append(control(tick, rng.choice([0, 1, 7, 32]), rng.choice([0, 1, 120, 121, 126, 127]), channel))
            elif kind < 0.92 and rare:
                events.append(control(tick, rng.choice([120, 121, 123, 126]), 0, channel))
            elif rare:
                events.append(rng.choice(resets).copy(time=tick))
        tracks.append(sorted(events, key=lambda message: message.time))
    return file_bytes(tracks, form=rng.choice([0, 1, 1, 2]))


def test_channel_state_is_read_alike_by_both_readers():
    taken = 0
    for seed in range(400):
        fast, tolerant = both_ways(random_state_song(seed))
        if isinstance(fast, Song):
            assert isinstance(tolerant, Song)
            assert_same(fast, tolerant)
            taken += 1
        elif fast is not None:
            assert fast == tolerant
    assert taken > 60
