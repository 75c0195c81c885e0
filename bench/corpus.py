"""MIDI corpus of any size with the properties of another one: `python -m bench.corpus SOURCE COUNT --out NEW`.

File i is a copy of song i mod n in which the melodic intervals, the distances between onsets and the durations of every
track are permuted, by (seed, i). Sizes, densities, programs, tempos and controllers are unchanged; digests and
fingerprints differ.
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
LOWEST, HIGHEST = 24, 103  # range of the pitches; others are moved into it by octaves


def songs(source: str, count: int, seed: int, train_only: bool = False) -> Iterator[bytes]:
    """Yield `count` MIDI files made of the files of a source that symusic can read.

    Args:
        source: folder of MIDI files, or "tunes" for the melodies of the sample dataset.
        count: number of files.
        seed: seed of the permutations.
        train_only: whether to use songs of the train split only, and to leave out made files that belong to the valid
            split; made file i is then not always number i.

    Raises:
        ValueError: the source has no file that can be used.
    """
    import symusic

    scores = []
    for content in _contents(source):
        try:
            score = symusic.Score.from_midi(content)
        except RuntimeError:  # raised by symusic for a file that it cannot read
            continue
        if not (train_only and _in_valid(content)):
            scores.append(score)
    if not scores:
        raise ValueError(f"SOURCE must have MIDI files that symusic can read, got {source}")
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
    """Return the notes of a track with permuted intervals, distances between onsets, and durations.

    Notes are sorted by time. Each of the three is permuted on its own; velocities keep their order. A pitch outside
    LOWEST to HIGHEST is moved into that range by octaves.

    Args:
        notes: columns time and duration in ticks, pitch, and velocity, [n] each with n >= 1.
        rng: source of random numbers.
    """
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
    """Write `count` files to subfolders of `out`, a thousand in each; if `with_source`, those of the source follow.

    `source`, `seed` and `train_only` are those of `songs`.
    """
    made = songs(source, count, seed, train_only)
    for number, content in enumerate(itertools.chain(made, _contents(source) if with_source else ())):
        path = out / f"{number // FILES_PER_FOLDER:04d}" / f"{number:07d}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def main() -> None:
    """Write the MIDI files that the command line asks for to --out."""
    parser = argparse.ArgumentParser(prog="python -m bench.corpus", description=__doc__)
    parser.add_argument("source", help=f"folder of MIDI files to permute, or `{TUNES}` for those of the project")
    parser.add_argument("count", type=int, help="number of files to make")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-only", action="store_true", help="use and make files of the train split only")
    parser.add_argument("--with-source", action="store_true", help="also write the files of the source, of both splits")
    arguments = parser.parse_args()
    write(arguments.source, arguments.count, arguments.out, arguments.seed, arguments.train_only, arguments.with_source)


if __name__ == "__main__":
    main()
