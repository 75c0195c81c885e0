"""Making the plan from the index, streaming: the parts are read a few columns at a time, several times over.

What stays in memory for a window is 1 byte (whether it is still in), for a different fingerprint of valid 9 bytes, for
a clip that the plan keeps 18 bytes; besides that one part, one share of the repeat keys and one chunk of finished rows.
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

from data_specs.io.files import atomic_write, file_sha256, value_digest, write_json
from data_specs.spec import SPLITS, Spec
from pipeline.melody.hashing import is_valid, song_words, window_words
from pipeline.plan.candidates import Candidates, read_columns
from pipeline.plan.plan import PLAN_VERSION, SCHEMA, Plan
from pipeline.plan.selection import KnownFingerprints, plan_order, repeated, variants, within_cap
from pipeline.rejects import Rejects

REPEAT_SHARE = 4_000_000  # windows whose repeat keys are compared at once
ROW_GROUP = 1000  # rows of a plan that are read at once to get one
CHUNK = 200_000  # plan rows with their notes that are gathered at once; a multiple of ROW_GROUP

# What a window or clip was left out for, by its code.
REASONS = ("", "window out of range", "window known from train", "repeated window", "clip over the cap of its song")
IN, MISFIT, KNOWN, REPEATED, CAPPED = range(len(REASONS))


def plan_digest(spec: Spec, sources: Sequence[str]) -> str:
    """Digest of all that decides a plan: the spec's part in it and the digests of the songs with candidate windows."""
    return value_digest({"version": PLAN_VERSION, "spec": spec.plan_key(), "sources": sorted(sources)})


def make_plan(spec: Spec, parts: Iterable[Path], folder: Path) -> Plan:
    """The plan drawn from the index parts, in `folder`/plan-<digest>; one that stands there is checked and taken.

    The same for any order of the parts and any division of the files into parts.
    """
    index = Candidates(parts)
    digest = plan_digest(spec, [song.digest for song in index.songs])
    path = folder / f"plan-{digest[:16]}"
    if not _stands(path):
        chosen, rejects = _choose(spec, index)
        (path / "plan.json").unlink(missing_ok=True)  # while rows are written, no reader takes the folder for a plan
        files = {}
        for split in SPLITS:
            _write_split(path / f"{split}.parquet", index, chosen[split])
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


def _stands(path: Path) -> bool:
    """Whether `path` holds a whole plan of this version, checksums compared."""
    try:
        about = json.loads((path / "plan.json").read_text(encoding="utf-8"))
        return bool(
            about["version"] == PLAN_VERSION
            and all(file_sha256(path / f"{split}.parquet") == about["sha256"][split] for split in SPLITS)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True)
class Pairs:
    """(window, key shift) pairs in the order of the plan: part and row of the window, semitones; arrays [n]."""

    part: NDArray[np.int32]
    row: NDArray[np.int32]
    key_shift: NDArray[np.int8]


def _choose(spec: Spec, index: Candidates) -> tuple[dict[str, Pairs], Rejects]:
    """What the plan of each split consists of, and everything left out on the way, the index's rejects included."""
    words = song_words([song.digest for song in index.songs])
    valid = is_valid(words, spec.source.valid_share)
    shifts = np.array(sorted(set(spec.source.key_shifts)), np.int64)
    codes = np.full(index.windows, IN, np.uint8)
    _mark_known_and_misfits(codes, index, valid, shifts)
    _mark_repeats(codes, index, spec.seed, words)
    rejects = Rejects()
    rejects.merge(index.rejects)
    kept: dict[str, list[tuple[NDArray[Any], ...]]] = {split: [] for split in SPLITS}
    for block in index.blocks("track", "start_tick", "fits"):
        left_out = codes[block.window]
        for code in (MISFIT, KNOWN, REPEATED):
            _count(rejects, code, index, block.song[left_out == code])
        of_window = np.flatnonzero(left_out == IN)
        track, tick, fits = (block.columns[name][of_window] for name in ("track", "start_tick", "fits"))
        song = block.song[of_window]
        window, shift, turn, word = variants(window_words(spec.seed, words[song], track, tick), fits, shifts)
        stays = within_cap(song[window], turn, word, spec.source.clips_per_song)
        _count(rejects, CAPPED, index, song[window[~stays]])
        for split, side in zip(SPLITS, (False, True), strict=True):
            chosen = stays & (valid[song[window]] == side)
            rows = block.rows[of_window[window[chosen]]].astype(np.int32)
            part = np.full(len(rows), block.part, np.int32)
            keys = shifts[shift[chosen]].astype(np.int8)
            kept[split].append((part, rows, keys, turn[chosen].astype(np.uint8), word[chosen]))
    return {split: _ordered(kept[split]) for split in SPLITS}, rejects


def _mark_known_and_misfits(
    codes: NDArray[np.uint8], index: Candidates, valid: NDArray[np.bool_], shifts: NDArray[np.int64]
) -> None:
    """Valid windows that go like one of train (whether or not that one stays), and windows that fit in no key."""
    of_valid = [np.unique(block.columns["fingerprint"][valid[block.song]]) for block in index.blocks("fingerprint")]
    known = KnownFingerprints(np.concatenate([np.zeros(0, np.uint64), *of_valid]))
    for block in index.blocks("fingerprint"):
        known.note_train(block.columns["fingerprint"][~valid[block.song]])
    wanted = np.bitwise_or.reduce(1 << (shifts % 12))
    for block in index.blocks("fingerprint", "fits"):
        here = codes[block.window]
        # promise: song-s-side-hash
        here[valid[block.song] & known.is_known(block.columns["fingerprint"])] = KNOWN
        here[block.columns["fits"] & wanted == 0] = MISFIT


def _mark_repeats(codes: NDArray[np.uint8], index: Candidates, seed: int, words: NDArray[np.uint64]) -> None:
    """Windows that repeat another one; which of them stays is drawn by hash. Repeats never lie on both sides, since
    they share a fingerprint and the one in valid is out already."""
    shares = -(-index.windows // REPEAT_SHARE)
    for share in range(shares):
        numbers, keys, places = [], [], []
        for block in index.blocks("repeat", "track", "start_tick"):
            key = block.columns["repeat"]
            here = np.flatnonzero((codes[block.window] == IN) & (key % shares == share))
            track, tick = block.columns["track"][here], block.columns["start_tick"][here]
            numbers.append(block.first + here)
            keys.append(key[here])
            places.append(window_words(seed, words[block.song[here]], track, tick))
        codes[np.concatenate(numbers)[repeated(np.concatenate(keys), np.concatenate(places))]] = REPEATED


def _count(rejects: Rejects, code: int, index: Candidates, songs: NDArray[np.integer]) -> None:
    """Count one for every element of `songs`, the rows of the songs concerned, which serve as examples too."""
    if len(songs):
        rejects.add(REASONS[code], count=len(songs))
        for name in sorted(index.songs[song].name for song in np.unique(songs))[: rejects.examples_kept]:
            rejects.add(REASONS[code], name, 0)


def _ordered(kept: list[tuple[NDArray[Any], ...]]) -> Pairs:
    if not kept:
        return Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int8))
    part, row, shift, turn, word = (np.concatenate(column) for column in zip(*kept, strict=True))
    order = plan_order(turn, word)
    return Pairs(part[order], row[order], shift[order])


def _write_split(path: Path, index: Candidates, pairs: Pairs) -> None:
    """Gather the rows of the pairs, a chunk of positions at a time, and write them in the order of the plan."""
    with (
        atomic_write(path) as file,
        pq.ParquetWriter(file, SCHEMA, compression="zstd", write_page_checksum=True) as writer,
    ):
        for start in range(0, len(pairs.row), CHUNK):
            chunk = slice(start, start + CHUNK)
            writer.write_table(_gather(index, pairs.part[chunk], pairs.row[chunk], pairs.key_shift[chunk]), ROW_GROUP)


def _gather(
    index: Candidates, part: NDArray[np.int32], row: NDArray[np.int32], key_shift: NDArray[np.int8]
) -> pa.Table:
    positions = np.argsort(part, kind="stable")
    tables = []
    for number in np.unique(part):
        here = positions[np.searchsorted(part[positions], number) : np.searchsorted(part[positions], number, "right")]
        table = read_columns(index.paths[number], ["song", "track", "start_tick", "fingerprint", "notes"])
        table = table.take(row[here])
        songs = [index.songs[song] for song in index.song_rows(number, table["song"].to_numpy())]
        table = table.append_column("digest", pa.array([song.digest for song in songs]))
        table = table.append_column("source", pa.array([song.name for song in songs]))
        tables.append(table.append_column("key_shift", pa.array(key_shift[here].astype(np.int32))))
    back = np.empty(len(positions), np.int64)
    back[positions] = np.arange(len(positions))
    return pa.concat_tables(tables).select(SCHEMA.names).take(back)
