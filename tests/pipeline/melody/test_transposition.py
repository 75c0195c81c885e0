import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_specs.hashing import splitmix64
from data_specs.spec import ClipSpec, ModulationSpec
from pipeline.melody.modulation import modulation, with_modulation
from pipeline.melody.transposition import (
    fitting_keys,
    fold_into_preset,
    folded_into_range,
    octave_move,
    transpose,
)
from pipeline.melody.windows import fingerprint, repeat_key
from pipeline.plan.plan import clip_id
from pipeline.plan.selection import combine, is_valid, song_keys

PITCHES = st.lists(st.integers(0, 127), min_size=1, max_size=30)


def window(pitches: list[int], step: int = 6400, velocity: int = 80) -> np.ndarray:
    onset = np.arange(len(pitches)) * step
    return np.stack([onset, onset + step, pitches, np.full(len(pitches), velocity)], axis=1).astype(np.int32)


def fewest_outside(pitches: list[int], clip: ClipSpec) -> dict[int, int]:
    """Number of notes outside for every octave move."""
    return {
        move: sum(not clip.lowest_pitch <= p + move <= clip.highest_pitch for p in pitches)
        for move in range(-120, 132, 12)
    }


@given(PITCHES)
@settings(deadline=None)
def test_octave_move_leaves_the_fewest_outside_and_is_the_smallest_such(pitches: list[int]) -> None:
    outside = fewest_outside(pitches, ClipSpec())
    move = octave_move(np.array(pitches, np.int32), ClipSpec())
    assert outside[move] == min(outside.values())
    assert all(abs(other) >= abs(move) for other, count in outside.items() if count == outside[move])


@given(PITCHES, st.integers(0, 60), st.integers(12, 60))
@settings(deadline=None)
def test_folding_moves_notes_outside_by_the_fewest_octaves(pitches: list[int], lowest: int, width: int) -> None:
    clip = ClipSpec(lowest_pitch=lowest, highest_pitch=lowest + width)
    folded = folded_into_range(np.array(pitches, np.int32), clip).tolist()
    for before, after in zip(pitches, folded, strict=True):
        assert clip.lowest_pitch <= after <= clip.highest_pitch
        assert (after - before) % 12 == 0
        reachable = [
            before + 12 * k for k in range(-11, 12) if clip.lowest_pitch <= before + 12 * k <= clip.highest_pitch
        ]
        assert abs(after - before) == min(abs(pitch - before) for pitch in reachable)


@given(PITCHES, st.sampled_from([0.0, 0.1, 0.34]), st.integers(-24, 24))
@settings(deadline=None)
def test_fitting_keys_agree_with_what_is_performed(pitches: list[int], share: float, shift: int) -> None:
    clip = ClipSpec(max_folded=share)
    notes = window(pitches)
    played, octave, folded = transpose(notes, shift, clip)
    assert bool(fitting_keys(notes, clip) >> shift % 12 & 1) == (folded <= share * len(pitches))
    assert folded == min(fewest_outside([pitch + shift for pitch in pitches], clip).values())
    assert octave % 12 == 0
    assert (played[:, 2] % 12 == (notes[:, 2] + shift) % 12).all()
    assert (played[:, [0, 1, 3]] == notes[:, [0, 1, 3]]).all()


@given(PITCHES, st.sets(st.integers(48, 72)))
@settings(deadline=None)
def test_notes_move_to_the_nearest_octaves_that_a_preset_plays(pitches: list[int], plays: set[int]) -> None:
    playable = np.isin(np.arange(128), list(plays))
    moved, octave, folded = fold_into_preset(window(pitches), playable)
    moves = range(-120, 132, 12)
    outside = {move: sum(pitch + move not in plays for pitch in pitches) for move in moves}
    assert outside[octave] == min(outside.values())
    for before, after in zip(pitches, moved[:, 2].tolist(), strict=True):
        reachable = [move for move in moves if before + octave + move in plays]
        if reachable:
            assert after in plays
            assert abs(after - before - octave) == min(map(abs, reachable))
        else:
            assert after == before
    if not outside[0]:
        assert moved[:, 2].tolist() == pitches
        assert octave == folded == 0


def test_one_note_of_ten_may_be_folded_two_may_not() -> None:
    inside = [48, 72, 60, 50, 52, 53, 55, 57]
    assert fitting_keys(window([*inside, 60, 73]), ClipSpec()) & 1
    assert not fitting_keys(window([*inside, 47, 73]), ClipSpec()) & 1


def test_velocity_follows_the_formula() -> None:
    notes = window([60] * 30, step=6400, velocity=100)
    shape = modulation(ModulationSpec(), 3, "00ff00ff00ff00ff")
    played = with_modulation(notes, shape, 24_000)
    for onset, velocity in played[:, [0, 3]].tolist():
        m = 1 - 0.8 * (1 + math.sin(2 * math.pi * shape.hz * onset / 24_000 + shape.phase)) / 2
        assert velocity == max(1, min(127, math.floor(100 * m + 0.5)))
    assert (played[:, :3] == notes[:, :3]).all()


def test_velocity_is_never_zero() -> None:
    notes = window([60] * 30, velocity=1)
    assert with_modulation(notes, modulation(ModulationSpec(depth=1.0), 0, "0"), 24_000)[:, 3].min() == 1


def test_modulation_is_uniform_in_log_frequency_and_phase_and_hangs_on_seed_and_id() -> None:
    shapes = [modulation(ModulationSpec(), 0, f"{i:016x}") for i in range(4000)]
    places = np.array([math.log(s.hz * 64) / math.log(64) for s in shapes])
    phases = np.array([s.phase / (2 * math.pi) for s in shapes])
    for values in (places, phases):
        counts, _ = np.histogram(values, bins=8, range=(0, 1))
        assert counts.sum() == 4000
        assert ((counts - 500) ** 2 / 500).sum() < 30  # chi-squared, 7 degrees of freedom: p = 1e-4
    assert abs(np.corrcoef(places, phases)[0, 1]) < 0.06
    assert modulation(ModulationSpec(), 0, "a") == modulation(ModulationSpec(), 0, "a")
    assert modulation(ModulationSpec(), 0, "a") != modulation(ModulationSpec(), 1, "a")


@given(st.lists(st.tuples(st.integers(40, 80), st.sampled_from([1, 2, 3, 4, 6])), min_size=10, max_size=20), st.data())
@settings(deadline=None)
def test_fingerprint_is_free_of_key_tempo_articulation_and_what_comes_after(rows: list, data: st.DataObject) -> None:
    beats = np.array([length for _, length in rows])
    onset = (np.cumsum(beats) - beats) * 64 * 40
    notes = np.stack([onset, onset + beats * 64 * 40, [p for p, _ in rows], np.full(len(rows), 80)], axis=1)
    other = notes.copy()
    other[:, :2] *= data.draw(st.sampled_from([2, 3, 5]))
    other[:, 2] += data.draw(st.integers(-12, 12))
    other[:, 1] -= 640
    other[:, 3] = 40
    assert fingerprint(notes.astype(np.int32), 8) == fingerprint(other[:9].astype(np.int32), 8)


def test_fingerprint_tells_interval_and_rhythm_apart() -> None:
    plain = window([60, 62, 64, 65, 67, 69, 71, 72])
    other = plain.copy()
    other[3, 2] += 1
    assert fingerprint(plain, 8) != fingerprint(other, 8)
    dotted = plain.copy()
    dotted[1::2, 0] += 3200
    assert fingerprint(plain, 8) != fingerprint(dotted, 8)


def test_fingerprint_does_not_see_a_performers_unevenness() -> None:
    """Note lengths 1, 2, 3 and 1/2, each up to 7 % off, have ratios of the same half octaves."""
    generator = np.random.default_rng(0)
    beats = np.array([1, 1, 2, 2, 1, 0.5, 0.5, 1, 3])
    prints = set()
    for uneven in (0, *[0.07] * 20):
        onset = np.cumsum(beats * 12_000 * (1 + generator.uniform(-uneven, uneven, 9)))
        notes = np.stack([onset, onset + 600, 60 + np.arange(9), np.full(9, 80)], axis=1).astype(np.int32)
        prints.add(fingerprint(notes, 8))
    assert len(prints) == 1


def test_repeats_are_equal_but_for_key_and_loudness() -> None:
    plain = window([60, 62, 64, 65, 67, 69, 71, 72])
    louder, shorter = plain.copy(), plain.copy()
    louder[:, 2] += 5
    louder[:, 3] = 120
    shorter[4, 1] -= 640
    assert repeat_key(plain) == repeat_key(louder)
    assert repeat_key(plain) != repeat_key(shorter)


def test_mix_is_splitmix64() -> None:
    """First outputs of the published generator seeded with 1234567 (Vigna's reference)."""
    step, state, outputs = 0x9E3779B97F4A7C15, 1234567, []
    for _ in range(3):
        state = (state + step) % 2**64
        outputs.append(int(splitmix64(np.array([state], np.uint64))[0]))
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_combine_is_elementwise_and_depends_on_order() -> None:
    start = np.zeros(3, np.uint64)
    values = np.array([1, -2, 3])
    together = combine(start, values)
    assert [int(combine(start[:1], value)[0]) for value in values.tolist()] == together.tolist()
    assert combine(combine(start, 1), 2).tolist() != combine(combine(start, 2), 1).tolist()


def test_share_of_songs_in_valid() -> None:
    words = song_keys([f"{i * 7919:064x}"[::-1] for i in range(1, 20_001)])
    for share in (0.0, 1 / 6, 0.5, 1.0):
        assert is_valid(words, share).mean() == pytest.approx(share, abs=0.012)
    assert (is_valid(words, 0.1) <= is_valid(words, 0.2)).all()


def test_clip_id_hangs_on_every_part() -> None:
    base = ("ab" * 32, 1, 480, 0, "piano")
    others = [("cd" * 32, *base[1:]), (base[0], 2, *base[2:]), (*base[:2], 481, *base[3:]), (*base[:3], 1, base[4])]
    ids = {clip_id(*parts) for parts in (base, *others, (*base[:4], "violin"))}
    assert len(ids) == 6
    assert all(len(identity) == 16 and int(identity, 16) >= 0 for identity in ids)
