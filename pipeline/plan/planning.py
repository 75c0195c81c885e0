"""Drawing the plan from the index, streaming: parts are read a few columns at a time, in several passes.

Memory per window is 1 byte (its outcome), per distinct fingerprint of valid 9 bytes, per planned clip 18 bytes, plus
one part, one share of the repeat keys and one chunk of finished rows.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

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
from pipeline.rejects import Rejects

REPEAT_SHARE = 4_000_000  # windows whose repeat keys are compared at once
ROW_GROUP = 1000  # rows of a plan that are read together
CHUNK = 200_000  # plan rows with their notes that are gathered at once; a multiple of ROW_GROUP

# Reasons for rejecting a window or clip, by code.
REASONS = ("", "window out of range", "window known from train", "repeated window", "clip over the cap of its song")
EVENT_REASONS = ("", "", "event similar to one in train", "repeated event", "event over the cap of its file")
KEPT, MISFIT, KNOWN, REPEATED, CAPPED = range(len(REASONS))


def plan_digest(spec: Spec, songs: Sequence[SourceSong]) -> str:
    """Hash everything that decides a plan: the spec's plan key, and content and reading rules of the songs."""
    sources = [song.digest if song.rules == 1 else f"{song.digest} rules {song.rules}" for song in songs]
    if spec.source.audio:
        catalog = read_catalog(spec.source.audio)
        sources = [f"{s.digest} {catalog.label(s.name)} {catalog.group(s.name, s.digest)}" for s in songs]
    return value_digest({"version": PLAN_VERSION, "spec": spec.plan_key(), "sources": sorted(sources)})


def make_plan(spec: Spec, parts: Iterable[Path], folder: Path) -> Plan:
    """Draw the plan from the index parts into `folder`/plan-<digest>, or reuse the one there if its checksums match.

    The result does not depend on the order of the parts or on how files were divided into parts.
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
    """Whether `path` holds a complete plan of this version with matching checksums."""
    try:
        about = json.loads((path / "plan.json").read_text(encoding="utf-8"))
        return bool(
            about["version"] == PLAN_VERSION
            and all(file_sha256(path / f"{split}.parquet") == about["sha256"][split] for split in SPLITS)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True)
class PlanRows:
    """Windows in the order of the plan: index part, row within it and key shift in semitones, arrays [n]."""

    part: NDArray[np.int32]
    row: NDArray[np.int32]
    key_shift: NDArray[np.int8]


def _choose(spec: Spec, index: Candidates) -> tuple[dict[str, PlanRows], Rejects]:
    """Return the rows of each split's plan and all rejects, those of the index included."""
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


def _valid_songs(spec: Spec, songs: Sequence[SourceSong], keys: UInt64) -> NDArray[np.bool_]:
    """Return which songs belong to the valid split, bool [n]; files of one group are on one side.

    There are far fewer groups than songs, so the share of groups is exact: those of the smallest hashes, at least one
    of two groups.
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


def _mark_similar(codes: NDArray[np.uint8], index: Candidates, valid: NDArray[np.bool_]) -> None:
    """Mark valid events of recordings that have a near-duplicate in train."""
    found: dict[bool, list[NDArray[np.int32]]] = {False: [], True: []}
    numbers = []
    for block in index.blocks("notes"):
        side = valid[block.song]
        for is_valid_side in (False, True):
            found[is_valid_side] += [row[2:] for row in block.columns["notes"][side == is_valid_side]]
        numbers.append(block.first + np.flatnonzero(side))
    if found[True] and found[False]:
        similar = near(np.stack(found[True]), np.stack(found[False]))
        # promise: recording-near-duplicate
        codes[np.concatenate(numbers)[similar]] = KNOWN


def _mark_known_and_misfits(
    codes: NDArray[np.uint8], index: Candidates, valid: NDArray[np.bool_], shifts: NDArray[np.int64]
) -> None:
    """Mark valid windows whose fingerprint occurs in train, kept or not, and windows that fit in no key."""
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
    """Mark all but one of equal windows; the kept one is drawn by hash. Repeats never occur in both splits, since they
    share a fingerprint and the one in valid is marked already."""
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


def _count(rejects: Rejects, reason: str, index: Candidates, songs: NDArray[np.integer]) -> None:
    """Count every element of `songs`, rows of the songs concerned; their names are the examples."""
    if len(songs):
        rejects.add(reason, count=len(songs))
        for name in sorted(index.songs[song].name for song in np.unique(songs))[: rejects.examples_kept]:
            rejects.add(reason, name, 0)


def _ordered(kept: list[tuple[NDArray[Any], ...]]) -> PlanRows:
    if not kept:
        return PlanRows(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int8))
    part, row, shift, rank, sort_key = (np.concatenate(column) for column in zip(*kept, strict=True))
    order = plan_order(rank, sort_key)
    return PlanRows(part[order], row[order], shift[order])


def _write_split(path: Path, spec: Spec, index: Candidates, rows: PlanRows) -> None:
    """Write a split's rows in the order of the plan, gathered one chunk of positions at a time."""
    with (
        atomic_write(path) as file,
        pq.ParquetWriter(file, schema_of(spec), compression="zstd", write_page_checksum=True) as writer,
    ):
        for start in range(0, len(rows.row), CHUNK):
            chunk = slice(start, start + CHUNK)
            table = _gather(spec, index, rows.part[chunk], rows.row[chunk], rows.key_shift[chunk])
            writer.write_table(table, ROW_GROUP)


def _gather(
    spec: Spec, index: Candidates, part: NDArray[np.int32], row: NDArray[np.int32], key_shift: NDArray[np.int8]
) -> pa.Table:
    catalog = read_catalog(spec.source.audio) if spec.source.audio else None
    positions = np.argsort(part, kind="stable")
    tables = []
    for number in np.unique(part):
        here = positions[np.searchsorted(part[positions], number) : np.searchsorted(part[positions], number, "right")]
        table = read_columns(index.paths[number], ["song", "track", "start_tick", "fingerprint", "notes"])
        table = table.take(row[here])
        songs = [index.songs[song] for song in index.song_rows(number, table["song"].to_numpy())]
        table = table.append_column("digest", pa.array([song.digest for song in songs]))
        table = table.append_column("source", pa.array([song.name for song in songs]))
        if catalog is not None:
            table = table.append_column("label", pa.array([catalog.label(song.name) for song in songs]))
            groups = [catalog.group(song.name, song.digest) for song in songs]
            table = table.append_column("group", pa.array(groups))
        tables.append(table.append_column("key_shift", pa.array(key_shift[here].astype(np.int32))))
    back = np.empty(len(positions), np.int64)
    back[positions] = np.arange(len(positions))
    return pa.concat_tables(tables).select(schema_of(spec).names).take(back)
