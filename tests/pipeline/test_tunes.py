"""The tunes are the tunes: openings typed apart from the ABC files, as scale degrees, must give the same intervals."""

import io
import itertools
import math
from fractions import Fraction

import mido
import pytest

from data_specs.errors import UserError
from data_specs.spec import load_spec
from pipeline.midi.reader import read_song
from pipeline.plan.planning import make_plan
from pipeline.tunes import midi_files, tunes
from pipeline.tunes.abc import read_tunes
from pipeline.tunes.playing import accent
from tests.pipeline.made_songs import part_of

# Degrees of the major scale on the tonic, b and # a semitone off, ' and , an octave up and down.
OPENINGS = {
    "folk/twinkle_twinkle_little_star": "1 1 5 5 6 6 5 4 4 3 3 2 2 1 5 5 4 4 3 3 2",
    "folk/frere_jacques": "1 2 3 1 1 2 3 1 3 4 5 3 4 5 5 6 5 4 3 1",
    "folk/au_clair_de_la_lune": "1 1 1 2 3 2 1 3 2 2 1",
    "folk/sur_le_pont_d_avignon": "1 1 1 2 2 2 3 4 5 1 7, 1 2 5,",
    "folk/london_bridge": "5 6 5 4 3 4 5 2 3 4 3 4 5 5 6 5 4 3 4 5 2 5 3 1",
    "folk/mary_had_a_little_lamb": "3 2 1 2 3 3 3 2 2 2 3 5 5",
    "folk/row_row_row_your_boat": "1 1 1 2 3 3 2 3 4 5 1' 1' 1' 5 5 5 3 3 3 1 1 1 5 4 3 2 1",
    "folk/three_blind_mice": "3 2 1 3 2 1 5 4 4 3 5 4 4 3",
    "folk/yankee_doodle": "1 1 2 3 1 3 2 5, 1 1 2 3 1 7, 1 1 2 3 4 3 2 1 7, 5, 6, 7, 1 1",
    "folk/oh_susanna": "1 2 3 5 5 6 5 3 1 2 3 3 2 1 2",
    "folk/auld_lang_syne": "5, 1 1 1 3 2 1 2 3 1 1 3 5 6",
    "folk/greensleeves": "1 b3 4 5 6 5 4 2 b7, 1 2 b3 1 1 7, 1 2 7, 5,",
    "folk/my_bonnie_lies_over_the_ocean": "5, 3 2 1 2 1 6, 5, 3, 5, 3 2 1 1 7, 1 2",
    "folk/oh_my_darling_clementine": "1 1 1 5, 3 3 3 1 1 3 5 5 4 3 2",
    "folk/old_macdonald_had_a_farm": "1 1 1 5, 6, 6, 5, 3 3 2 2 1",
    "folk/this_old_man": "5 3 5 5 3 5 6 5 4 3 2 3 4",
    "folk/pop_goes_the_weasel": "5, 1 1 2 2 3 5 3 1",
    "folk/o_du_lieber_augustin": "5 6 5 4 3 1 1 2 5, 5, 3 1 1",
    "folk/alle_vogel_sind_schon_da": "1 3 5 1' 6 1' 6 5 4 5 3 1 2 1",
    "folk/hanschen_klein": "5 3 3 4 2 2 1 2 3 4 5 5 5",
    "folk/alle_meine_entchen": "1 2 3 4 5 5 6 6 6 6 5",
    "folk/korobeiniki": "5 2 b3 4 b3 2 1 1 b3 5 4 b3 2",
    "folk/sakura": "1 1 2 1 1 2 1 2 b3 2 1 2 1 b6, 5, b3, 5, b6, 5, 5, b3, 2,",
    "folk/drunken_sailor": "5 5 5 5 5 5 5 1 b3 5 4 4 4 4 4 4 4 b7, 2 4",
    "folk/go_tell_aunt_rhody": "3 3 2 1 1 2 2 4 3 2 1 5 5 4 3 3 2 1 2 3 1",
    "folk/michael_row_the_boat_ashore": "1 3 5 3 5 6 5 3 5 6 5 3 5 5 3 4 3 2 1 2 3 2 1",
    "folk/skip_to_my_lou": "3 1 3 3 3 5 2 7, 2 2 2 4 3 1 3 3 3 5 2 3 4 3 2 1 1",
    "folk/j_ai_du_bon_tabac": "1 2 3 1 2 2 3 4 4 3 3",
    "folk/alouette": "1 2 3 3 2 1 2 3 1 5, 1 2 3 3 2 1 2 3 1",
    "folk/for_he_s_a_jolly_good_fellow": "1 3 3 3 2 3 4 3 3 2 2 2 1 2 3 1 1 3 3 3 2 3 4 6 6 5 5 5 4 2 1",
    "folk/kuckuck_kuckuck_ruft_s_aus_dem_wald": "5 3 5 3 2 1 2 1",
    "folk/summ_summ_summ": "5 4 3 2 3 4 2 1",
    "folk/john_brown_s_body": "5 5 5 5 5 4 3 5 1' 2' 3' 3' 3' 2' 1' 1' 7 6",
    "dances/the_kesh": "1 2 1 1 2 3 2 3 2 2 3 5 6 5 5 1' 5 5 6 5 3 5 3 2",
    "dances/the_swallowtail": "b3 1 1 5 1 1 b3 1 1 5 4 b3 2 b7, b7, 4 b7, b7, b7 6 b7 4 b3 2",
    "dances/the_irish_washerwoman": "5 4 3 1 1 5, 1 1 3 1 3 5 4 3",
    "dances/cooley_s": "1 5 5 4 5 1 5 5 4 5 b7 5 4 b3",
    "folk/mo_li_hua": "3 3 5 6 1' 1' 6 5 5 6 5",
    "folk/aura_lee": "5, 1 7, 1 2 6, 2 1 7, 6, 7, 1",
    "hymns/amazing_grace": "5, 1 3 1 3 2 1 6, 5, 5, 1 3 1 3 2 5",
    "hymns/old_hundredth": "1 1 7, 6, 5, 1 2 3 3 3 3 2 1 4 3 2",
    "hymns/abide_with_me": "3 3 2 1 5 6 5 5 4 3 3 4 5 6 5 4 2 3 #4 5",
    "hymns/god_save_the_king": "1 1 2 7, 1 2 3 3 4 3 2 1 2 1 7, 1",
    "carols/jingle_bells": "5, 3 2 1 5, 5, 5, 5, 3 2 1 6, 6, 6, 4 3 2 7, 5 5 4 2 3",
    "carols/deck_the_halls": "5 4 3 2 1 2 3 1 2 3 4 2 3 2 1 7, 1",
    "carols/god_rest_ye_merry_gentlemen": "1 1 5 5 4 b3 2 1 b7, 1 2 b3 4 5",
    "carols/silent_night": "5 6 5 3 5 6 5 3 2' 2' 7 1' 1' 5",
    "carols/joy_to_the_world": "1' 7 6 5 4 3 2 1 5 6 6 7 7 1'",
    "carols/adeste_fideles": "1 1 5, 1 2 5, 3 2 3 4 3 2 1 1 7, 6, 7, 1 2 3 7, 6, 5,",
    "carols/the_first_noel": "3 2 1 2 3 4 5 6 7 1' 7 6 5 6 7 1' 7 6 5 6 7 1' 5 4 3",
    "carols/good_king_wenceslas": "1 1 1 2 1 1 5, 6, 5, 6, 7, 1 1",
    "carols/hark_the_herald_angels_sing": "5, 1 1 7, 1 3 3 2 5 5 5 4 3 2 3",
    "carols/we_wish_you_a_merry_christmas": "5, 1 1 2 1 7, 6, 6, 6, 2 2 3 2 1 7, 5, 5, 3 3 4 3 2 1 6, 5, 5, 6, 2 7, 1",
    "carols/o_tannenbaum": "5, 1 1 1 2 3 3 3 3 2 3 4 7, 2 1 5 5 3 6 5 5 4 4",
    "carols/away_in_a_manger": "5 5 4 3 3 2 1 1 7, 6, 5, 5, 5, 6, 5, 5, 2 7, 6, 5, 1 3",
    "carols/angels_we_have_heard_on_high": "3 3 3 5 5 4 3 3 2 3 5 3 2 1",
    "carols/jolly_old_saint_nicholas": "3 3 3 3 2 2 2 1 1 1 1 3 6, 6, 6, 6, 5, 5, 1 2 1 2 3 2",
    "carols/ihr_kinderlein_kommet": "5 5 3 5 5 3 5 4 2 4 3 5 5 3 5 5 3 5 4 2 4 3 3 2 2 2 4 4 4 3 3 3 6",
    "classical/ode_to_joy": "3 3 4 5 5 4 3 2 1 1 2 3 3 2 2 3 3 4 5 5 4 3 2 1 1 2 3 2 1 1",
    "classical/largo_from_the_new_world": "3 5 5 3 2 1 2 3 5 3 2",
    "classical/fur_elise": "5 #4 5 #4 5 2 4 b3 1 b3, 5, 1 2 5, 7, 2 b3",
    "classical/surprise": "1 1 3 3 5 5 3 4 4 2 2 7, 7, 5,",
    "classical/minuet_in_g": "5 1 2 3 4 5 1 1 6 4 5 6 7 1' 1 1",
    "classical/jesu_joy_of_man_s_desiring": "1 2 3 5 4 4 6 5 5 1' 7 1' 5 3 1 2 3",
    "classical/galop_infernal": "1 2 4 3 2 5 5 5 6 3 4 2 2",
    "classical/galop_from_william_tell": "5, 5, 5, 5, 5, 5, 5, 5, 1 2 3 5, 5, 5, 5, 5, 5, 1 3 2 7, 5,",
    "classical/the_entertainer": "2 #2 3 1' 3 1' 3 1' 1' 2' #2' 3' 1' 2' 3' 7 2' 1'",
    "classical/rondo_alla_turca": "2 1 7, 1 b3 4 b3 2 b3 5 b6 5 #4 5 2' 1' 7 1' 2' 1' 7 1' b3'",
    "classical/symphony_in_g_minor": "b6 5 5 b6 5 5 b6 5 5 b3' b3' 2' 1' 1' b7 b6 b6 5 4 4",
    "classical/in_the_hall_of_the_mountain_king": "1 2 b3 4 5 b3 5 #4 2 #4 4 b2 4",
    "classical/the_swan_theme": "5 1 2 b3 4 5 b3 5 b3 5 1 b3 1 b6, b3 1",
    "classical/bridal_chorus": "5, 1 1 1 5, 2 7, 1 5, 1 4 4 3 2 1 7, 1 2",
}
MAJOR = (0, 2, 4, 5, 7, 9, 11)
TUNES = dict(tunes())


def semitones(degree: str) -> int:
    digit = degree.strip("b#',")
    octaves = degree.count("'") - degree.count(",")
    return MAJOR[int(digit) - 1] + degree.count("#") - degree.count("b") + 12 * octaves


def intervals(pitches: list[int]) -> str:
    return " ".join(f"{b - a:+d}" for a, b in itertools.pairwise(pitches))


def test_every_tune_is_checked() -> None:
    assert set(OPENINGS) == set(TUNES)
    assert len(TUNES) >= 45


@pytest.mark.parametrize("name", OPENINGS)
def test_a_tune_goes_as_everyone_knows_it(name: str) -> None:
    expected = [semitones(degree) for degree in OPENINGS[name].split()]
    found = [note.pitch for note in TUNES[name].verses[0]][: len(expected)]
    print(f"{TUNES[name].title}: {intervals(found)}")
    assert intervals(found) == intervals(expected)


@pytest.mark.parametrize("name", TUNES)
def test_midi_file_says_what_the_tune_says(name: str) -> None:
    """mido reads the file back: pitches in order, one note at a time, the tempo of the tune, lively velocities."""
    tune = TUNES[name]
    file = mido.MidiFile(file=io.BytesIO(FILES[f"{name}.mid"]))
    struck, sounding, velocities = [], 0, set()
    for message in file:
        if message.type == "note_on":
            struck.append(message.note)
            velocities.add(message.velocity)
            sounding += 1
        elif message.type == "note_off":
            sounding -= 1
        assert sounding in (0, 1)
    assert struck == [note.pitch for verse in tune.verses for note in verse]
    assert len(velocities) >= 5
    assert min(velocities) >= 40
    last = tune.verses[-1][-1]
    seconds = float((last.start + last.length) / tune.beat * 60 / tune.beats_per_minute)
    assert math.isclose(file.length, seconds, rel_tol=1e-5)


FILES = dict(midi_files())


def test_files_are_the_same_each_time() -> None:
    assert dict(midi_files()) == FILES


def test_sample_has_clips_to_spare(tmp_path) -> None:
    """1000 and 200 clips are asked for; at least 1400 distinct ones must be there, with room in both splits."""
    spec = load_spec("sample")
    part = part_of(midi_files(), spec, tmp_path, lambda content: read_song(content, spec.limits))
    plan = make_plan(spec, [part.path], tmp_path)
    assert plan.counts["train"] >= 1.5 * spec.clips.train
    assert plan.counts["valid"] >= 1.5 * spec.clips.valid
    clips = [clip for split in ("train", "valid") for clip in plan.clips(split, 0, plan.counts[split])]
    performances = {(clip.instrument, clip.notes[:, :3].tobytes()) for clip in clips}
    assert len(performances) >= 1400
    assert len(performances) >= 0.99 * len(clips)
    chosen = plan.clips("valid", 0, spec.clips.valid)
    assert len({clip.origin["source"] for clip in chosen}) >= 8


HEAD = "X:1\nT:Test\nC:trad.\nO:here\nM:4/4\nL:1/4\nQ:1/4=120\nK:{key}\n"


def pitches(body: str, key: str = "C") -> list[int]:
    (tune,) = read_tunes(HEAD.format(key=key) + body)
    return [note.pitch for note in tune.verses[0]]


def lengths(body: str) -> list[float]:
    (tune,) = read_tunes(HEAD.format(key="C") + body)
    return [float(note.length * 4) for note in tune.verses[0]]


def test_accidentals_hold_to_the_bar_and_in_their_octave() -> None:
    assert pitches("^CCc=C|CDEF|]") == [61, 61, 72, 60, 60, 62, 64, 65]
    assert pitches("_EEEE|EEEE|]", "D")[3:5] == [63, 64]


@pytest.mark.parametrize(
    ("key", "scale"),
    [
        ("C", [0, 2, 4, 5, 7, 9, 11]),
        ("Eb", [0, 2, 3, 5, 7, 8, 10]),
        ("F#m", [1, 2, 4, 6, 8, 9, 11]),
        ("Edor", [1, 2, 4, 6, 7, 9, 11]),
        ("Cm", [0, 2, 3, 5, 7, 8, 10]),
    ],
)
def test_keys(key: str, scale: list[int]) -> None:
    assert sorted({pitch % 12 for pitch in pitches("CDEF|GABc|]", key)}) == scale


def test_repeats_and_endings() -> None:
    assert pitches("|:C4|1D4:|2E4|F4|]") == [60, 62, 60, 64, 65]
    assert pitches("C4|D4:|E4|]") == [60, 62, 60, 62, 64]
    assert pitches("C4|:D4:||:E4:|F4|]") == [60, 62, 62, 64, 64, 65]


def test_lengths() -> None:
    assert lengths("C>DE<F|(3CDEF2|C/D3/2E/4F3/4G|]")[:9] == pytest.approx(
        [1.5, 0.5, 0.5, 1.5, 2 / 3, 2 / 3, 2 / 3, 2, 0.5]
    )
    assert lengths("C3D-|D2EF|]") == [3, 3, 1, 1]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("CDE|CDEF|]", "do not add up|wrong length"),
        ("CDEF|CDEFG|]", "wrong length"),
        ("CDEF|CDE|CDEF|]", "wrong length"),
        ("C|CDEF|CDEF|]", "add up"),
        ("CDEH|]", "not supported"),
    ],
)
def test_mistakes_are_named(body: str, complaint: str) -> None:
    with pytest.raises(UserError, match=f"Test.*({complaint})"):
        pitches(body)


def test_downbeats_are_accented_most() -> None:
    for meter in ((4, 4), (3, 4), (2, 4), (6, 8), (9, 8)):
        steps = [Fraction(i, 16) for i in range(16 * meter[0] // meter[1])]
        accents = [accent(meter, place) for place in steps]
        assert accents[0] == max(accents)
        assert accents.count(max(accents)) == 1
