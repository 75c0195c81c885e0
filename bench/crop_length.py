"""Length of training crops at equal core-seconds and equal audio a step: `python -m bench.crop_length`.

An EDM on encodec is trained for each length with the config of `bench.control_ways`, and measured as there. Results of
finished stages are kept in the folder, so that the same command resumes.
"""

import argparse

import torch

from bench.control_ways import CONFIG, add_sizes, compare
from bench.paradigms import Entry

LENGTHS = (2, 4, 8)  # seconds
AUDIO = 16  # seconds of audio in a step
ENTRIES = tuple(
    Entry(
        f"crops of {length} s",
        "edm",
        "encodec",
        overrides=f"training.seconds={length} training.batch={AUDIO // length}",
        config=CONFIG,
    )
    for length in LENGTHS
)


def main() -> int:
    """Run all stages, print the tables, write crop-length.md to --out, and return the exit status 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser, "crop-length", 300, 8)
    torch.set_num_threads(1)
    compare(parser.parse_args(), ENTRIES, "crop-length.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
