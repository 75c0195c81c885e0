"""The candidate windows of a whole index, read a part and a few columns at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_specs.errors import UserError
from pipeline.plan.index import IndexedSong, read_part
from pipeline.rejects import Rejects


@dataclass(frozen=True)
class Block:
    """Windows of one part: `first` is the first one's number among all, `song` [n] rows of Candidates.songs."""

    part: int
    first: int
    rows: NDArray[np.int64]
    song: NDArray[np.int32]
    columns: dict[str, NDArray[Any]]

    @property
    def window(self) -> slice:
        """The windows' numbers."""
        return slice(self.first, self.first + len(self.rows))


class Source(NamedTuple):
    """A song with candidate windows."""

    digest: str
    name: str


class Candidates:
    """All candidate windows of several index parts; a song that lies in several parts is taken from one of them."""

    def __init__(self, parts: Iterable[Path]) -> None:
        self.paths = sorted(parts)
        self._lookup: list[NDArray[np.int32]] = []  # per part: row in its song table -> row in `songs`, or -1
        found: dict[str, tuple[IndexedSong, int, int]] = {}
        for number, path in enumerate(self.paths):
            part = read_part(path)
            if part is None:
                raise UserError(f"{path} is not a readable index part; delete it and repeat, it is made again")
            self._lookup.append(np.full(len(part.songs), -1, np.int32))
            for row, song in enumerate(part.songs):
                here = (song, number, row)
                found[song.digest] = _merged(found[song.digest], here) if song.digest in found else here
        self.rejects = Rejects()
        self.songs: list[Source] = []
        self.windows = 0
        for digest in sorted(found):
            song, number, row = found[digest]
            self._count_rejects(song)
            if song.windows:
                self._lookup[number][row] = len(self.songs)
                self.songs.append(Source(digest, song.name))
                self.windows += song.windows

    def _count_rejects(self, song: IndexedSong) -> None:
        for reason, (count, where) in song.rejects.items():
            self.rejects.add(reason, f"{song.name}: {where}" if where else song.name, count)
        if song.copies > 1:
            self.rejects.add("duplicate file", song.name, song.copies - 1)

    def song_rows(self, part: int, rows: NDArray[np.integer]) -> NDArray[np.int32]:
        """Rows in `songs` of rows in a part's song table, -1 for a song taken from another part or without windows."""
        return np.asarray(self._lookup[part][rows])

    def blocks(self, *columns: str) -> Iterator[Block]:
        """The windows part by part with the columns asked for, in an order that does not change."""
        first = 0
        for number, path in enumerate(self.paths):
            table = read_columns(path, ["song", *columns])
            song = self.song_rows(number, table["song"].to_numpy())
            rows = np.flatnonzero(song >= 0)
            block = Block(number, first, rows, song[rows], {name: table[name].to_numpy()[rows] for name in columns})
            first += len(rows)
            yield block


def _merged(one: tuple[IndexedSong, int, int], other: tuple[IndexedSong, int, int]) -> tuple[IndexedSong, int, int]:
    """One entry for two of the same content; if the reader's clock ran out for one of them, the other counts."""
    best = max(one, other, key=lambda entry: entry[0].windows)
    name, copies = min(one[0].name, other[0].name), one[0].copies + other[0].copies
    return replace(best[0], name=name, copies=copies), best[1], best[2]


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Columns of an index part, checksums compared.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return pq.read_table(path, columns=columns, use_threads=False, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is missing or damaged ({error}); delete it and repeat, it is made again") from error
