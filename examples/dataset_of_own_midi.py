"""Build a small dataset from a folder of MIDI files and read a clip: `python dataset_of_own_midi.py songs/ out/`."""

import argparse
import subprocess
import sys
from pathlib import Path

import pvt


def main():
    """Run `pvt dataset` and print the controls of the first clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("midi", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", default="6:2", help="train:valid")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "pvt", "dataset", "--midi", str(arguments.midi), "--out", str(arguments.out)]
    subprocess.run([*command, "--clips", arguments.clips, "--accept-fewer", "--workers", "1"], check=True)
    clip = pvt.Dataset(arguments.out / "PVT-encodec", split="train")[0]
    print(f"{clip['id']}: velocity {float(clip['velocity'].max()):.2f} at most, data {tuple(clip['data'].shape)}")


if __name__ == "__main__":
    main()
