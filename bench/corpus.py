"""A corpus of any size that behaves like the one it is made of: `python -m bench.corpus SOURCE COUNT --out NEW`.

File i is a copy of song i mod n in which every track's melodic intervals, distances between onsets and durations are
permuted with (seed, i). Sizes, densities, programs, tempos and controllers stay; contents, digests and fingerprints
differ.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_specs.spec import SourceSpec
from pipeline.midi.sources import TUNES, content_digest, list_folder
from pipeline.plan.selection import is_valid, song_keys
from pipeline.rejects import Rejects
from pipeline.tunes import midi_files

FILES_PER_FOLDER = 1000
VALID_SHARE = SourceSpec.model_fields["valid_share"].default
LOWEST, HIGHEST = 24, 103  # intervals in another order may leave MIDI's range: pitches fold back by octaves


def songs(source: str, count: int, seed: int, train_only: bool = False) -> Iterator[bytes]:
    """Iterate over `count` MIDI files made of those of a source that the compiled reader takes.

    Args:
        source: folder of MIDI files, or "tunes" for the melodies of the sample dataset.
        count: number of files.
        seed: of the permutations.
        train_only: use songs of the train split only, and skip copies whose own digest belongs to the valid split.

    Raises:
        ValueError: the source holds no such file.
    """
    import symusic

    scores = []
    for content in _contents(source):
        try:
            score = symusic.Score.from_midi(content)
        except RuntimeError:  # how symusic refuses a file
            continue
        if not (train_only and _in_valid(content)):
            scores.append(score)
    if not scores:
        raise ValueError(f"{source} holds no MIDI file that can be read")
    made = 0
    for number in itertools.count():
        if made == count:
            return
        score = scores[number % len(scores)].copy()
        rng = np.random.default_rng([seed, number])
        for track in score.tracks:
            notes = track.notes.numpy()
            if len(notes["time"]):
                track.notes = symusic.Note.from_numpy(**permuted(notes, rng))
        content = score.dumps_midi()
        if not (train_only and _in_valid(content)):
            made += 1
            yield content


def _contents(source: str) -> Iterator[bytes]:
    if source == TUNES:
        yield from (content for _, content in midi_files())
    else:
        yield from ((Path(source) / name).read_bytes() for name in list_folder(source, Rejects()))


def _in_valid(content: bytes) -> bool:
    return bool(is_valid(song_keys([content_digest(content)]), VALID_SHARE)[0])


def permuted(notes: dict[str, NDArray[np.integer]], rng: np.random.Generator) -> dict[str, NDArray[np.integer]]:
    """Notes as columns [n] (time, duration in ticks, pitch, velocity), with the same steps in another order."""
    order = np.lexsort((notes["pitch"], notes["time"]))
    time, duration, pitch, velocity = (notes[name][order] for name in ("time", "duration", "pitch", "velocity"))
    steps = rng.permutation(np.diff(pitch.astype(np.int64)))
    walk = pitch[0] + np.concatenate([[0], np.cumsum(steps)])
    span = (HIGHEST - LOWEST + 1) // 12 * 12
    folded = np.where((walk < LOWEST) | (walk > HIGHEST), LOWEST + (walk - LOWEST) % span, walk)
    gaps = rng.permutation(np.diff(time))
    return {
        "time": (time[0] + np.concatenate([[0], np.cumsum(gaps)])).astype(time.dtype),
        "duration": rng.permutation(duration),
        "pitch": folded.astype(pitch.dtype),
        "velocity": velocity,
    }


def write(
    source: str, count: int, out: Path, seed: int = 0, train_only: bool = False, with_source: bool = False
) -> None:
    """Write `count` files below `out`, a thousand to a folder; after them those of the source where asked for."""
    made = songs(source, count, seed, train_only)
    for number, content in enumerate(itertools.chain(made, _contents(source) if with_source else ())):
        path = out / f"{number // FILES_PER_FOLDER:04d}" / f"{number:07d}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.corpus", description=__doc__)
    parser.add_argument("source", help=f"folder of MIDI files to start from, or `{TUNES}` for those of the project")
    parser.add_argument("count", type=int, help="files to make")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-only", action="store_true", help="from and for the train split only")
    parser.add_argument("--with-source", action="store_true", help="also the files of the source, of both splits")
    arguments = parser.parse_args()
    write(arguments.source, arguments.count, arguments.out, arguments.seed, arguments.train_only, arguments.with_source)


if __name__ == "__main__":
    main()
