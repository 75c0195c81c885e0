import hashlib
import json
import pickle
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline.plan.planning as planning
from data_specs.errors import UserError
from data_specs.spec import SPLITS, Spec, load_spec
from pipeline.melody.modulation import modulation, with_modulation
from pipeline.melody.transposition import transpose
from pipeline.melody.windows import Window, fingerprint, repeat_key, song_windows
from pipeline.midi.reader import read_song
from pipeline.midi.song import Song
from pipeline.midi.sources import expand_archives, list_files
from pipeline.plan.plan import Plan, PlannedClip, clip_id
from pipeline.plan.planning import make_plan
from pipeline.plan.selection import combine, is_valid, song_keys, window_keys
from pipeline.rejects import Rejected, Rejects
from pipeline.tunes import midi_files
from tests.pipeline.made_songs import part_of, random_song, song, track, tune


def spec_with(**source: Any) -> Spec:
    spec = load_spec("sample")
    return spec.model_copy(update={"source": spec.source.model_copy(update=source)})


SPEC = spec_with(clips_per_song=9, key_shifts=(-3, 0, 4), valid_share=0.4)


def transposed(original: Song, semitones: int) -> Song:
    rows = []
    for voice in original.tracks:
        columns = (voice.start_s, voice.end_s, voice.pitch + semitones, voice.velocity)
        rows.append(
            track([(float(a), float(b), int(p), int(v)) for a, b, p, v in zip(*columns, strict=True)], voice.index)
        )
    return song(*rows)


def collection() -> list[tuple[str, bytes]]:
    """Songs of one to three tracks; some are another one in another key, one comes twice, one is out of every range."""
    songs = [random_song(i, notes=40 + 20 * (i % 4), tracks=1 + i % 3) for i in range(24)]
    songs += [transposed(songs[i], 5) for i in range(0, 24, 3)]
    wide = track(tune([30 + 40 * (i % 2) + i % 5 for i in range(64)]))
    songs += [songs[1], song(wide), song(track(tune(range(60, 76))), track(tune(range(60, 76)), 1, is_drum=True))]
    return [(f"song {i:02}.mid", made.pack()) for i, made in enumerate(songs)]


FILES = collection()


def read(content: bytes) -> Song:
    if content == b"bad":
        raise Rejected("not MIDI", "bad")
    return Song.unpack(content)


def plan_of(folder: Path, spec: Spec = SPEC, files: list[tuple[str, bytes]] = FILES, batch: int = 100) -> Plan:
    parts = [part_of(files[i : i + batch], spec, folder, read).path for i in range(0, len(files), batch)]
    return make_plan(spec, parts, folder)


def all_clips(plan: Plan) -> dict[str, list[PlannedClip]]:
    return {split: plan.clips(split, 0, plan.counts[split]) for split in SPLITS}


def described(plan: Plan) -> dict[str, Any]:
    return {s: [(c.record(), c.instrument, c.notes.tolist()) for c in clips] for s, clips in all_clips(plan).items()}


def naive_plan(spec: Spec, files: list[tuple[str, bytes]]) -> tuple[dict[str, list[tuple[str, Any]]], Counter[str]]:
    """The plan by its rules, one window at a time, with sets and sorted lists: (id, notes) of each split in order."""
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    contents: dict[str, bytes] = {}
    for name, content in files:
        digest = hashlib.sha256(content).hexdigest()
        counts["duplicate file"] += digest in contents
        contents[digest] = content
        names[digest] = min(name, names.get(digest, name))
    sides = {d: bool(is_valid(song_keys([d]), spec.source.valid_share)[0]) for d in contents}

    def word(digest: str, window: Window) -> np.ndarray:
        place = (np.array([window.track]), np.array([window.start_tick]))
        return window_keys(spec.seed, song_keys([digest]), *place)

    def folded(window: Window, shift: int) -> int:
        return transpose(window.notes, shift, spec.clip)[2]

    candidates = [(d, w) for d, content in contents.items() for w in song_windows(Song.unpack(content), spec.clip)[0]]
    in_train = {fingerprint(w.notes, spec.clip.min_notes) for d, w in candidates if not sides[d]}
    left, best = [], {}
    for digest, window in candidates:
        allowed = [s for s in spec.source.key_shifts if folded(window, s) <= spec.clip.max_folded * len(window.notes)]
        if not allowed:
            counts["window out of range"] += 1
        elif sides[digest] and fingerprint(window.notes, spec.clip.min_notes) in in_train:
            counts["window known from train"] += 1
        else:
            left.append((digest, window, allowed))
            key, mine = repeat_key(window.notes), int(word(digest, window)[0])
            best[key] = min(best.get(key, mine), mine)
    pairs: dict[str, list[tuple[int, int, str, Window, int]]] = {}
    for digest, window, allowed in left:
        mine = word(digest, window)
        if best[repeat_key(window.notes)] != int(mine[0]):
            counts["repeated window"] += 1
            continue
        ordered = sorted((int(combine(mine, shift)[0]), shift) for shift in allowed)
        for turn, (pair_word, shift) in enumerate(ordered):
            pairs.setdefault(digest, []).append((turn, pair_word, digest, window, shift))
    chosen: dict[str, list[tuple[int, int, str, Window, int]]] = {split: [] for split in SPLITS}
    for digest, of_song in pairs.items():
        cap = spec.source.clips_per_song
        counts["clip over the cap of its song"] += max(0, len(of_song) - cap)
        chosen[SPLITS[sides[digest]]] += sorted(of_song, key=lambda pair: pair[:2])[:cap]
    result: dict[str, list[tuple[str, Any]]] = {}
    for split in SPLITS:
        result[split] = []
        ordered_pairs = sorted(chosen[split], key=lambda pair: pair[:2])
        for position, (_, _, digest, window, shift) in enumerate(ordered_pairs):
            instrument = spec.instruments[position % len(spec.instruments)].name
            identity = clip_id(digest, window.track, window.start_tick, shift, instrument)
            notes = transpose(window.notes, shift, spec.clip)[0]
            notes = with_modulation(notes, modulation(spec.modulation, spec.seed, identity), 24_000)
            result[split].append((identity, notes.tolist()))
    return result, counts


def test_plan_follows_its_rules(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    expected, counts = naive_plan(SPEC, FILES)
    found = {split: [(clip.id, clip.notes.tolist()) for clip in clips] for split, clips in all_clips(plan).items()}
    assert found == expected
    assert min(plan.counts[split] for split in SPLITS) > 20
    assert {reason: plan.rejects[reason]["count"] for reason in counts if counts[reason]} == +counts
    assert min(counts.values()) > 0, "the collection must touch every rule"


def test_the_same_for_any_division_and_order_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path / "one")
    monkeypatch.setattr(planning, "REPEAT_SHARE", 30)
    monkeypatch.setattr(planning, "CHUNK", 10)
    monkeypatch.setattr(planning, "ROW_GROUP", 5)
    shuffled = [FILES[i] for i in np.random.default_rng(0).permutation(len(FILES))]
    for name, files, batch in (("many", FILES, 3), ("shuffled", shuffled, 7), ("each", shuffled, 1)):
        other = plan_of(tmp_path / name, files=files, batch=batch)
        assert other.digest == plan.digest
        assert other.rejects == plan.rejects
        assert described(other) == described(plan)


@pytest.mark.parametrize("names", [("a.mid", "b.mid"), ("b.mid", "a.mid")])
def test_of_equal_files_the_first_name_counts(tmp_path: Path, names: tuple[str, str]) -> None:
    content = random_song(0, tracks=2).pack()
    drums = song(*Song.unpack(content).tracks, track(tune(range(60, 76)), 2, is_drum=True)).pack()
    files = [(names[0], drums), ("c.mid", random_song(9).pack()), (names[1], drums)]
    plan = plan_of(tmp_path, files=files, batch=2)
    assert {clip.origin["source"] for clips in all_clips(plan).values() for clip in clips} <= {"a.mid", "c.mid"}
    assert plan.rejects["duplicate file"] == {"count": 1, "examples": ["a.mid"]}
    assert plan.rejects["drum track"] == {"count": 1, "examples": ["a.mid: track 2"]}
    assert plan.sources == 2


def test_slices_are_parts_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "ROW_GROUP", 7)
    plan = plan_of(tmp_path)
    whole = [clip.id for clip in plan.clips("train", 0, plan.counts["train"])]
    for start, stop in ((0, 0), (0, 1), (6, 8), (7, 14), (13, 30), (plan.counts["train"] - 1, plan.counts["train"])):
        assert [clip.id for clip in plan.clips("train", start, stop)] == whole[start:stop]
    for start, stop in ((-1, 2), (0, plan.counts["train"] + 1), (3, 2)):
        with pytest.raises(IndexError):
            plan.clips("train", start, stop)


def test_clips_are_what_the_contract_says(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    clips = [clip for of_split in all_clips(plan).values() for clip in of_split]
    assert len({clip.id for clip in clips}) == len(clips)
    for clip in clips:
        onset, offset, pitch, velocity = clip.notes.T
        assert clip.notes.dtype == np.int32
        assert onset[0] == 0
        assert (onset < offset).all()
        assert (offset[:-1] <= onset[1:]).all()
        assert offset[-1] <= 192_000
        assert not (clip.notes[:, :2] % 64).any()
        assert ((pitch >= 48) & (pitch <= 72)).all()
        assert ((velocity >= 1) & (velocity <= 127)).all()
        record = clip.record()
        assert record["notes"] == len(clip.notes) >= SPEC.clip.min_notes
        assert record["folded"] <= SPEC.clip.max_folded * len(clip.notes)
        assert record["instrument"] == SPEC.instruments[clip.instrument].name
        assert record["key_shift"] in SPEC.source.key_shifts
        assert set(record) >= {"id", "source", "source_digest", "track", "start_tick", "octave_shift", "modulation_hz"}


def test_instruments_are_equal_in_every_prefix(tmp_path: Path) -> None:
    for clips in all_clips(plan_of(tmp_path)).values():
        counts: Counter[int] = Counter()
        for clip in clips:
            counts[clip.instrument] += 1
            assert max(counts.values()) - min(counts[i] for i in range(3)) <= 1


def test_nothing_of_valid_is_known_from_train(tmp_path: Path) -> None:
    """Songs in another key lie on the other side; not one of their windows may be in valid."""
    plan = plan_of(tmp_path)
    clips = all_clips(plan)
    sides = {split: {clip.origin["fingerprint"] for clip in clips[split]} for split in SPLITS}
    assert not sides["train"] & sides["valid"]
    songs = {split: {clip.origin["source_digest"] for clip in clips[split]} for split in SPLITS}
    assert not songs["train"] & songs["valid"]
    assert plan.rejects["window known from train"]["count"] > 0


def test_every_window_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    spec = spec_with(clips_per_song=1000, key_shifts=tuple(range(-5, 7)), valid_share=0.0)
    clips = all_clips(plan_of(tmp_path, spec))["train"]
    places = [(c.origin["source_digest"], c.origin["track"], c.origin["start_tick"]) for c in clips]
    windows = len(set(places))
    # The few windows that do not fit in every key have fewer turns; the first turn holds all.
    assert len(set(places[:windows])) == windows
    assert len({c.origin["key_shift"] for c in clips[:windows]}) == 12


def test_order_does_not_hang_on_how_many_are_asked_for(tmp_path: Path) -> None:
    few = SPEC.model_copy(update={"clips": SPEC.clips.model_copy(update={"train": 3, "valid": 1})})
    assert plan_of(tmp_path / "few", few).digest == plan_of(tmp_path / "many").digest
    assert described(plan_of(tmp_path / "few", few)) == described(plan_of(tmp_path / "many"))


@pytest.mark.parametrize("change", ["seed", "cap", "song"])
def test_digest_follows_what_decides(tmp_path: Path, change: str) -> None:
    plan = plan_of(tmp_path)
    spec, files = SPEC, FILES
    if change == "seed":
        spec = SPEC.model_copy(update={"seed": 1})
    elif change == "cap":
        spec = spec_with(**{**SPEC.source.model_dump(), "clips_per_song": 8})
    else:
        files = FILES[1:]
    other = plan_of(tmp_path, spec, files)
    assert other.digest != plan.digest
    assert other.path != plan.path


def test_a_file_that_gives_nothing_changes_counts_alone(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "without")
    other = plan_of(tmp_path / "with", files=[*FILES, ("bad.mid", b"bad")])
    assert other.digest == plan.digest
    assert described(other) == described(plan)
    assert other.rejects["not MIDI"] == {"count": 1, "examples": ["bad.mid: bad"]}


def test_a_plan_that_stands_is_taken_and_a_damaged_one_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path)
    before = described(plan)
    with monkeypatch.context() as patch:
        patch.setattr(planning, "_choose", lambda *_: pytest.fail("made again"))
        assert plan_of(tmp_path) == plan
    rows = plan.path / "train.parquet"
    good = rows.read_bytes()
    for place in range(40, len(good), len(good) // 12):
        rows.write_bytes(good[:place])
        with pytest.raises(UserError, match="damaged"):
            plan.clips("train", 0, plan.counts["train"])
        rows.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert described(plan_of(tmp_path)) == before


def test_a_plan_travels_by_pickling(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert len(pickle.dumps(plan)) < 20_000
    assert pickle.loads(pickle.dumps(plan)).clips("valid", 0, 3)[2].id == plan.clips("valid", 2, 3)[0].id


def test_opening_what_is_no_plan_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished plan"):
        Plan.open(tmp_path)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        Plan.open(tmp_path)
    (tmp_path / "plan.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(UserError, match="version 1, got 99"):
        Plan.open(tmp_path)


def test_a_plan_of_nothing_says_so(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, files=[("bad.mid", b"bad")])
    assert plan.counts == {"train": 0, "valid": 0}
    assert plan.sources == 0
    assert make_plan(SPEC, [], tmp_path).counts == {"train": 0, "valid": 0}


def test_folder_and_archive_give_the_same_plan(tmp_path: Path) -> None:
    """Real MIDI files through the real readers, listed by name in the folder and the other way round in the archive."""
    folder = tmp_path / "songs"
    for name, content in list(midi_files())[:16]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "folk" / "twin.mid").write_bytes(path.read_bytes())
    with tarfile.open(tmp_path / "songs.tar.gz", "w:gz") as archive:
        for path in sorted(folder.rglob("*.mid"), reverse=True):
            archive.add(path, arcname=str(path.relative_to(folder)))
    plans = []
    for source, count in ((folder, 5), (tmp_path / "songs.tar.gz", 4)):
        files = expand_archives(list_files(str(source), Rejects()), str(source), SPEC.limits, Rejects())
        pairs = [(file.name, file.read(SPEC.limits.file_bytes)) for file in files]
        out = tmp_path / source.name.removesuffix(".tar.gz") / "index"
        parts = [
            part_of(pairs[i : i + count], SPEC, out, lambda content: read_song(content, SPEC.limits)).path
            for i in range(0, len(pairs), count)
        ]
        plans.append(make_plan(SPEC, parts, tmp_path / f"plan {count}"))
    assert plans[0].digest == plans[1].digest
    assert plans[0].rejects == plans[1].rejects
    assert plans[0].rejects["duplicate file"]["count"] == 1
    assert described(plans[0]) == described(plans[1])
    assert plans[0].counts["train"] > 50


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"part-none\.parquet"):
        make_plan(SPEC, [tmp_path / "part-none.parquet"], tmp_path)
