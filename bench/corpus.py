"""A corpus of any size that behaves like the one it is made of: `python -m bench.corpus FOLDER COUNT --out NEW`.

File i is a copy of song i mod n in which every track's melodic intervals, distances between onsets and durations come
in another order, drawn from (seed, i). Sizes, densities, programs, tempos and controllers stay; contents, digests and
fingerprints differ, so that nothing in the pipeline can take one file for another.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.midi.sources import list_folder
from pipeline.rejects import Rejects

FILES_PER_FOLDER = 1000
LOWEST, HIGHEST = 24, 103  # intervals in another order may leave MIDI's range: pitches fold back by octaves


def songs(folder: Path, count: int, seed: int) -> Iterator[bytes]:
    """`count` MIDI files made of those below `folder` that the compiled reader takes.

    Raises:
        ValueError: there are none.
    """
    import symusic

    scores = []
    for name in list_folder(str(folder), Rejects()):
        try:
            scores.append(symusic.Score.from_midi((folder / name).read_bytes()))
        except RuntimeError:  # how symusic refuses a file
            continue
    if not scores:
        raise ValueError(f"{folder} holds no MIDI file that can be read")
    for number in range(count):
        score = scores[number % len(scores)].copy()
        rng = np.random.default_rng([seed, number])
        for track in score.tracks:
            notes = track.notes.numpy()
            if len(notes["time"]):
                track.notes = symusic.Note.from_numpy(**permuted(notes, rng))
        yield score.dumps_midi()


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


def write(folder: Path, count: int, out: Path, seed: int = 0) -> None:
    """Write `count` files below `out`, a thousand to a folder."""
    for number, content in enumerate(songs(folder, count, seed)):
        path = out / f"{number // FILES_PER_FOLDER:04d}" / f"{number:07d}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.corpus", description=__doc__)
    parser.add_argument("folder", type=Path, help="MIDI files to start from")
    parser.add_argument("count", type=int, help="files to make")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.count, arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
