"""Train a small model on a dataset and sample from it: `python train_and_sample.py data/ run/ out/`."""

import argparse
import subprocess
import sys
from pathlib import Path

import soundfile

import pvt


def main():
    """Run `pvt train`, then sample the curves `swell` in Python."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a folder with PVT-encodec")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", default="600")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "pvt", "train", "--paradigm", "edm", "--data", str(arguments.data)]
    subprocess.run([*command, "--run", str(arguments.run), "--steps", arguments.steps, "--threads", "1"], check=True)
    model = pvt.load_model(arguments.run)
    audio = model.sample("swell", seconds=8, n=1, steps=10)
    arguments.out.mkdir(parents=True, exist_ok=True)
    soundfile.write(arguments.out / "swell.wav", audio[0, 0].numpy(), model.data.sample_rate)
    print(f"wrote {arguments.out / 'swell.wav'}")


if __name__ == "__main__":
    main()
