"""Stress test of dataset builds whose workers are killed: `python -m bench.at_scale MIDI --clips 4200:800 --out NEW`.

The same dataset is built three times: by a Dask scheduler and workers, one of which is killed every 20 s; by local
workers; and in three shares with a final run, on the index of the first build. All bytes are compared; time, rates and
memory are printed as JSON. `python -m bench.corpus` makes the MIDI files.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.dask_site import ROOT, DaskSite
from bench.processes import Memory
from data_specs.io.files import Json

KILL_EVERY_SECONDS = 20.0


def command(midi: Path, formats: str, clips: str, out: Path, *options: str) -> list[str]:
    """Return the command line of `python -m pipeline dataset` for a folder of MIDI files.

    Args:
        midi: folder of MIDI files.
        formats: names of formats, comma-separated.
        clips: numbers of clips as TRAIN:VALID.
        out: folder of the datasets.
        options: further options.
    """
    start = [sys.executable, "-m", "pipeline", "dataset", "--midi", str(midi), "--format", formats, "--clips", clips]
    return [*start, "--out", str(out), *options]


def build(arguments: list[str], roles: Any = dict, site: DaskSite | None = None, seed: int = 0) -> Json:
    """Run a build and return its `seconds`, the number of killed workers `kills`, and `memory_mb` (`Memory.summary`).

    Args:
        arguments: command line.
        roles: function that returns process ids by role, whose memory is measured beside that of the client.
        site: workers of which a random one is killed and replaced every 20 s; None to kill none.
        seed: seed of the choice of workers.

    Raises:
        RuntimeError: the build failed.
    """
    started = time.monotonic()
    client = subprocess.Popen(arguments, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    dice = random.Random(seed)
    kills, due = 0, started + KILL_EVERY_SECONDS
    with Memory(lambda: {"client": [client.pid], **roles()}) as memory:
        while client.poll() is None:
            time.sleep(0.2)
            if site is not None and time.monotonic() > due:
                site.kill_worker(dice.randrange(len(site.workers)))
                site.start_worker()
                kills, due = kills + 1, due + KILL_EVERY_SECONDS
    if client.returncode:
        raise RuntimeError(f"the build failed with exit status {client.returncode}")
    return {"seconds": round(time.monotonic() - started, 1), "kills": kills, "memory_mb": memory.summary()}


def digests(out: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of the datasets in `out` by path relative to it, except in .build folders."""
    files = [path for path in sorted(out.glob("PVT-*/**/*")) if path.is_file() and ".build" not in path.parts]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    """Run the three builds and print the results as JSON; `--out` must not have results of an earlier call."""
    parser = argparse.ArgumentParser(prog="python -m bench.at_scale", description=__doc__)
    parser.add_argument("midi", type=Path)
    parser.add_argument("--clips", default="4200:800")
    parser.add_argument("--format", default="disc")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    midi, formats, clips = arguments.midi, arguments.format, arguments.clips
    disturbed, undisturbed, shared = (arguments.out / name for name in ("disturbed", "undisturbed", "shared"))
    disturbed.mkdir(parents=True)
    rows: Json = {"files": sum(1 for _ in midi.rglob("*.mid")), "clips": clips, "format": formats}
    with DaskSite(disturbed, arguments.workers) as site:

        def roles() -> dict[str, list[int]]:
            return {"scheduler": [site.scheduler.pid], "worker": [worker.pid for worker in site.workers]}

        far = ["--scheduler", site.address]
        rows["index"] = build(command(midi, formats, clips, disturbed, *far, "--dry-run"), roles, site)
        rows["build"] = build(command(midi, formats, clips, disturbed, *far), roles, site, seed=1)
    rows["undisturbed"] = build(command(midi, formats, clips, undisturbed))
    rows["same_as_undisturbed"] = digests(disturbed) == digests(undisturbed)
    index = ["--index", str(disturbed)]
    for share in ("2/3", "0/3", "1/3"):
        rows[f"share {share}"] = build(command(midi, formats, clips, shared, *index, "--shards", share))
    rows["last call"] = build(command(midi, formats, clips, shared, *index))
    rows["shares_same"] = digests(shared) == digests(undisturbed)
    rows["files_per_s"] = round(rows["files"] / rows["index"]["seconds"], 1)
    total = sum(map(int, clips.split(":")))
    rows["clips_per_s"] = round(total / rows["build"]["seconds"], 1)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
