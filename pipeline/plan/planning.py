"""Drawing of the plan from the index, whose parts are read a few columns at a time in several passes.

In memory are 1 byte per window (why it is left out), 9 bytes per distinct fingerprint of valid, 18 bytes per planned
clip, and at a time one part, one share of the repeat keys and one chunk of finished rows.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_specs.arrays import AnyInt, Bool, Int32, Int64
from data_specs.hashing import UInt64
from data_specs.io.files import atomic_write, file_sha256, value_digest, write_json
from data_specs.spec import SPLITS, Spec
from pipeline.plan.index import Candidates, SourceSong, read_columns
from pipeline.plan.plan import PLAN_VERSION, Plan, schema_of
from pipeline.plan.selection import (
    KnownFingerprints,
    is_valid,
    plan_order,
    repeated,
    song_keys,
    variants,
    window_keys,
    within_cap,
)
from pipeline.recordings.catalog import read_catalog
from pipeline.recordings.similarity import near
from pipeline.rejects import EXAMPLES, Rejects

REPEAT_SHARE = 4_000_000  # windows whose repeat keys are compared at once
ROW_GROUP = 1000  # rows of a plan that are read together
CHUNK = 200_000  # plan rows with their notes that are gathered at once; a multiple of ROW_GROUP

# Reasons for rejecting a window or clip, by code.
REASONS = ("", "window out of range", "window known from train", "repeated window", "clip over the cap of its song")
EVENT_REASONS = ("", "", "event similar to one in train", "repeated event", "event over the cap of its file")
KEPT, MISFIT, KNOWN, REPEATED, CAPPED = range(len(REASONS))


def plan_digest(spec: Spec, songs: Sequence[SourceSong]) -> str:
    """Return the digest (SHA-256, hex) of everything that decides a plan: the spec's plan key and its songs.

    Of a song, its content digest and the version of its reading rules count; of a recording its content digest, label
    and group, which are read from the catalog of its folder. The order of `songs` does not matter.
    """
    sources = [song.digest if song.rules == 1 else f"{song.digest} rules {song.rules}" for song in songs]
    if spec.source.audio:
        catalog = read_catalog(spec.source.audio)
        sources = [f"{s.digest} {catalog.label(s.name)} {catalog.group(s.name, s.digest)}" for s in songs]
    return value_digest({"version": PLAN_VERSION, "spec": spec.plan_key(), "sources": sorted(sources)})


def make_plan(spec: Spec, parts: Iterable[Path], folder: Path) -> Plan:
    """Return the plan in `folder`/plan-<digest>; draw and write it unless it is there with valid checksums.

    The plan does not depend on the order of the parts, nor on how files were divided into parts.

    Args:
        parts: paths of the parts of the index.

    Raises:
        UserError: a part is missing or damaged, or the plan cannot be written.
    """
    index = Candidates(parts)
    digest = plan_digest(spec, index.songs)
    path = folder / f"plan-{digest[:16]}"
    if not _is_complete(path):
        chosen, rejects = _choose(spec, index)
        (path / "plan.json").unlink(missing_ok=True)  # an unfinished folder must not pass for a plan
        files = {}
        for split in SPLITS:
            _write_split(path / f"{split}.parquet", spec, index, chosen[split])
            files[split] = file_sha256(path / f"{split}.parquet")
        about = {
            "version": PLAN_VERSION,
            "digest": digest,
            "spec": spec.plan_key(),
            "clips": {split: len(chosen[split].row) for split in SPLITS},
            "sources": len(index.songs),
            "rejects": rejects.to_json(),
            "sha256": files,
        }
        write_json(path / "plan.json", about)
    return Plan.open(path)


def _is_complete(path: Path) -> bool:
    """Return whether `path` holds a plan of this version whose tables match their checksums."""
    try:
        about = json.loads((path / "plan.json").read_text(encoding="utf-8"))
        return bool(
            about["version"] == PLAN_VERSION
            and all(file_sha256(path / f"{split}.parquet") == about["sha256"][split] for split in SPLITS)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


class PlanRows(NamedTuple):
    """Clips in the order of the plan. All arrays are [n].

    Attributes:
        part: index of the part of the index.
        row: row of the window in that part.
        key_shift: semitones.
    """

    part: np.ndarray  # int32
    row: np.ndarray  # int32
    key_shift: np.ndarray  # int8


def _choose(spec: Spec, index: Candidates) -> tuple[dict[str, PlanRows], Rejects]:
    """Return the clips of each split in the order of the plan, and all rejects, those of the index included.

    Clips are the pairs of a window and a key shift that are not left out: all that the plan may have.
    """
    keys = song_keys([song.digest for song in index.songs])
    valid = _valid_songs(spec, index.songs, keys)
    reasons = EVENT_REASONS if spec.source.audio else REASONS
    shifts = np.array(sorted(set(spec.source.key_shifts)), np.int64)
    codes = np.full(index.windows, KEPT, np.uint8)
    if spec.source.audio:
        _mark_similar(codes, index, valid)
    else:
        _mark_known_and_misfits(codes, index, valid, shifts)
    _mark_repeats(codes, index, spec.seed, keys)
    rejects = Rejects()
    rejects.merge(index.rejects)
    kept: dict[str, list[tuple[NDArray[Any], ...]]] = {split: [] for split in SPLITS}
    for block in index.blocks("track", "start_tick", "fits"):
        left_out = codes[block.window]
        for code in (MISFIT, KNOWN, REPEATED):
            _count(rejects, reasons[code], index, block.song[left_out == code])
        of_window = np.flatnonzero(left_out == KEPT)
        track, tick, fits = (block.columns[name][of_window] for name in ("track", "start_tick", "fits"))
        song = block.song[of_window]
        sort_keys = window_keys(spec.seed, keys[song], track, tick)
        window, shift, rank, sort_key = variants(sort_keys, fits, shifts)
        in_cap = within_cap(song[window], rank, sort_key, spec.source.clips_per_song)
        _count(rejects, reasons[CAPPED], index, song[window[~in_cap]])
        for split, side in zip(SPLITS, (False, True), strict=True):
            chosen = in_cap & (valid[song[window]] == side)
            rows = block.rows[of_window[window[chosen]]].astype(np.int32)
            part = np.full(len(rows), block.part, np.int32)
            key_shift = shifts[shift[chosen]].astype(np.int8)
            kept[split].append((part, rows, key_shift, rank[chosen].astype(np.uint8), sort_key[chosen]))
    return {split: _ordered(kept[split]) for split in SPLITS}, rejects


def _valid_songs(spec: Spec, songs: Sequence[SourceSong], keys: UInt64) -> Bool:
    """Return whether each song belongs to the valid split, bool [n].

    A MIDI file is assigned by its key alone, so the number in valid is left to chance. Recordings of one group are in
    one split. There are few groups, so their number in valid is the spec's share, rounded; those with the smallest
    hashes are in valid. Each split has at least one of two or more groups unless the share is 0.

    Args:
        keys: keys of `song_keys`, used for MIDI files only.
    """
    if not spec.source.audio:
        return is_valid(keys, spec.source.valid_share)
    catalog = read_catalog(spec.source.audio)
    # promise: recording-group-one-side
    groups = [catalog.group(song.name, song.digest) for song in songs]
    order = sorted(set(groups), key=lambda group: value_digest([spec.seed, group]))
    count = round(spec.source.valid_share * len(order))
    if spec.source.valid_share > 0 and len(order) > 1:
        count = min(max(count, 1), len(order) - 1)
    chosen = set(order[:count])
    return np.array([group in chosen for group in groups], np.bool_)


def _mark_similar(codes: NDArray[np.uint8], index: Candidates, valid: Bool) -> None:
    """Set to KNOWN the codes of the valid events of recordings that have a near-duplicate in train.

    Args:
        codes: code of each window of the index, changed in place.
        valid: whether each song is in the valid split.
    """
    found: list[Int32] = []
    in_valid = np.zeros(len(codes), np.bool_)
    for block in index.blocks("notes"):
        found += [row[2:] for row in block.columns["notes"]]
        in_valid[block.window] = valid[block.song]
    if in_valid.any() and not in_valid.all():
        shapes = np.stack(found)
        # promise: recording-near-duplicate
        codes[np.flatnonzero(in_valid)[near(shapes[in_valid], shapes[~in_valid])]] = KNOWN


def _mark_known_and_misfits(codes: NDArray[np.uint8], index: Candidates, valid: Bool, shifts: Int64) -> None:
    """Set to KNOWN the codes of valid windows whose fingerprint occurs in train, then those of misfits to MISFIT.

    A misfit is a window, of either split, that fits under none of `shifts`; MISFIT replaces KNOWN. For KNOWN, train
    windows count whether they are kept or not.

    Args:
        codes: code of each window of the index, changed in place.
        valid: whether each song is in the valid split.
        shifts: key shifts of the spec in semitones.
    """
    of_valid = [np.unique(block.columns["fingerprint"][valid[block.song]]) for block in index.blocks("fingerprint")]
    known = KnownFingerprints(np.concatenate([np.zeros(0, np.uint64), *of_valid]))
    for block in index.blocks("fingerprint"):
        known.add_train(block.columns["fingerprint"][~valid[block.song]])
    wanted = np.bitwise_or.reduce(1 << (shifts % 12))
    for block in index.blocks("fingerprint", "fits"):
        here = codes[block.window]
        # promise: song-s-side-hash
        here[valid[block.song] & known.is_known(block.columns["fingerprint"])] = KNOWN
        here[block.columns["fits"] & wanted == 0] = MISFIT


def _mark_repeats(codes: NDArray[np.uint8], index: Candidates, seed: int, songs: UInt64) -> None:
    """Set to REPEATED the codes of all but one of the windows of equal repeat key, among those still KEPT.

    The one with the smallest window key is kept. Equal windows are never in both splits, since they have one
    fingerprint and those in valid are marked already.

    Args:
        codes: code of each window of the index, changed in place.
        songs: keys of `song_keys`.
    """
    shares = -(-index.windows // REPEAT_SHARE)
    for share in range(shares):
        numbers, keys, sort_keys = [], [], []
        for block in index.blocks("repeat", "track", "start_tick"):
            key = block.columns["repeat"]
            here = np.flatnonzero((codes[block.window] == KEPT) & (key % shares == share))
            track, tick = block.columns["track"][here], block.columns["start_tick"][here]
            numbers.append(block.first + here)
            keys.append(key[here])
            sort_keys.append(window_keys(seed, songs[block.song[here]], track, tick))
        codes[np.concatenate(numbers)[repeated(np.concatenate(keys), np.concatenate(sort_keys))]] = REPEATED


def _count(rejects: Rejects, reason: str, index: Candidates, songs: AnyInt) -> None:
    """Add a reject for each of `songs`, indices of `index.songs` that may repeat; song names are the examples."""
    if len(songs):
        rejects.add(reason, count=len(songs))
        for name in sorted(index.songs[song].name for song in np.unique(songs))[:EXAMPLES]:
            rejects.add(reason, name, 0)


def _ordered(kept: list[tuple[NDArray[Any], ...]]) -> PlanRows:
    if not kept:
        return PlanRows(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int8))
    part, row, shift, rank, sort_key = (np.concatenate(column) for column in zip(*kept, strict=True))
    order = plan_order(rank, sort_key)
    return PlanRows(part[order], row[order], shift[order])


def _write_split(path: Path, spec: Spec, index: Candidates, rows: PlanRows) -> None:
    """Write the table of a split to `path` in the order of `rows`, one chunk of them at a time."""
    with (
        atomic_write(path) as file,
        pq.ParquetWriter(file, schema_of(spec), compression="zstd", write_page_checksum=True) as writer,
    ):
        for start in range(0, len(rows.row), CHUNK):
            chunk = PlanRows(*(column[start : start + CHUNK] for column in rows))
            writer.write_table(_gather(spec, index, chunk), ROW_GROUP)


def _gather(spec: Spec, index: Candidates, rows: PlanRows) -> pa.Table:
    """Return the table of `rows`, in their order, with the columns of `schema_of`, read from the parts of the index."""
    catalog = read_catalog(spec.source.audio) if spec.source.audio else None
    positions = []
    tables = []
    for number in np.unique(rows.part):
        here = np.flatnonzero(rows.part == number)
        table = read_columns(index.paths[number], ["song", "track", "start_tick", "fingerprint", "notes"])
        table = table.take(rows.row[here])
        songs = [index.songs[song] for song in index.song_rows(number, table["song"].to_numpy())]
        columns: dict[str, Any] = {"digest": [song.digest for song in songs], "source": [song.name for song in songs]}
        if catalog is not None:
            columns["label"] = [catalog.label(song.name) for song in songs]
            columns["group"] = [catalog.group(song.name, song.digest) for song in songs]
        columns["key_shift"] = rows.key_shift[here].astype(np.int32)
        for name, values in columns.items():
            table = table.append_column(name, pa.array(values))
        positions.append(here)
        tables.append(table)
    back = np.argsort(np.concatenate(positions))
    return pa.concat_tables(tables).select(schema_of(spec).names).take(back)
