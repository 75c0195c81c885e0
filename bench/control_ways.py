"""Control branches of a U-Net at equal parameters and core-seconds: `python -m bench.control_ways`.

Stages: time of a pass of each way; training of an EDM on encodec for each way and seed, on one thread; control effects
on valid clips; adherence and FAD of generated clips. Results of finished stages are kept in the folder, so that the
same command resumes; a larger --seconds continues the training. B clips, R control rows, T frames.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench.denoiser import load_crops
from bench.paradigms import Comparison, Entry, Sizes
from bench.table import interleaved
from data_specs.io.files import Json, write_bytes
from data_specs.rates import SAMPLE_RATE
from training.conditioning import ControlLayout
from training.config import load_config
from training.data.dataset import Dataset
from training.diffusion.edm import EDM, loss_weight
from training.evaluation.tables import Column, markdown
from training.model import TrainedModel, load_model
from training.networks import build_network, parameter_count

if TYPE_CHECKING:
    from training.evaluation.evaluator import Evaluator

CONFIG = Path(__file__).with_suffix(".toml")
LOCAL = "{channels=48,resolution='control'}"
WAYS = {  # channels at full length, for equal parameters, and control branches
    "concat": (80, f"{{local={LOCAL}}}"),
    "film_local": (80, f"{{film_local={LOCAL}}}"),
    "concat + film_local": (71, f"{{local={LOCAL},film_local={LOCAL}}}"),
    "cross_attention": (78, "{cross_attention={channels=64,resolution='control'}}"),
    "condconv": (69, f"{{condconv={LOCAL}}}"),
}
SIGMAS = (0.2, 0.8, 3.2, 12.8)  # of the control effects
STEPS, GUIDANCE = 18, 1.5
CROPS, FRAMES = 64, 150  # of valid clips, for the control effects
LATENTS, BATCH, ROUNDS = 128, 8, 7  # of the timed passes, over FRAMES
LAYOUT = ControlLayout((("velocity", 1), ("chroma", 1), ("pitch", 1), ("brightness", 1), ("instruments", 3)))
EMBEDDER = "pvt-net"


def entry(way: str, seed: int) -> Entry:
    """Return the entry of the comparison for a way (a key of WAYS) and a seed of training."""
    width, branches = WAYS[way]
    overrides = f"network.channels={width} network.controls={branches} training.seed={seed}"
    return Entry(f"{way}, seed {seed}", "edm", "encodec", overrides=overrides, config=CONFIG)


class OneDataset(Comparison):
    """Comparison of entries on the datasets in `folder`; results are kept in `out`."""

    def __init__(self, out: Path, sizes: Sizes, folder: Path) -> None:
        super().__init__(out, sizes)
        self.folder = folder

    def data(self, entry: Entry) -> Path:
        return self.folder


class ControlWays(OneDataset):
    """Comparison of EDMs by the effects of their controls, and by adherence and FAD of generated clips."""

    def measure(self, one: Entry) -> None:
        """Measure and record the control effects of an entry, unless they are recorded at its present core-seconds."""
        key, used = f"{one.name}: effects", self.done[f"{one.name}: core-seconds"]
        if self.done.get(key, {}).get("core_seconds") != used:
            model = load_model(self.run(one))
            self.record(key, {"core_seconds": used, "steps": model.step, **control_effects(model, self.folder)})

    def prepare(self) -> "Evaluator":
        from training.evaluation.evaluator import Evaluator

        clips, samples = self.sizes.reported, round(self.sizes.length * SAMPLE_RATE)
        return Evaluator.prepare(self.folder, samples, reference=4 * clips, anchor_clips=clips)

    def choose(self, entry: Entry, evaluator: "Evaluator") -> Json:
        return {"steps": STEPS, "guidance": GUIDANCE}


def time_passes(ways: Sequence[str]) -> str:
    """Return a Markdown table of the processor seconds of a forward and a backward pass with each of `ways`.

    Ways are timed in turn; times are medians, and ratios are to the first way. Parameters are listed too.
    """
    x, c_noise = torch.randn(BATCH, LATENTS, FRAMES), torch.zeros(BATCH)
    controls = torch.rand(BATCH, LAYOUT.total, FRAMES)
    networks = {way: build_network(network_table(way), (LATENTS, FRAMES), LAYOUT) for way in ways}

    def work(network: torch.nn.Module) -> None:
        network(x, c_noise, controls).square().mean().backward()

    cpu = interleaved({way: lambda n=n: work(n) for way, n in networks.items()}, ROUNDS).cpu  # type: ignore[misc]
    rows = [
        {
            "way": way,
            "parameters": parameter_count(networks[way]),
            "seconds": statistics.median(cpu[way]),
            "ratio": statistics.median(a / b for a, b in zip(cpu[way], cpu[ways[0]], strict=True)),
        }
        for way in ways
    ]
    columns = [
        Column("way", "way"),
        Column("parameters", "parameters", lambda x: f"{x / 1e6:.2f} M"),
        Column("core-seconds a pass", "seconds", "{:.3f}"),
        Column(f"to {ways[0]}", "ratio", "{:.2f}"),
    ]
    return markdown(rows, columns)


def network_table(way: str) -> Json:
    """Return the table [network.encodec] of the config with the overrides of a way."""
    return load_config(str(CONFIG), "edm", "encodec", overrides=entry(way, 0).overrides).network


@torch.no_grad()
def control_effects(model: TrainedModel, folder: Path) -> Json:
    """Measure the error of an EDM on valid crops, and its rise if controls are those of another crop.

    Args:
        model: an EDM.
        folder: PVT-encodec, or the folder above it.

    Returns:
        `error`: EDM-weighted mean squared error, mean over SIGMAS; `effects`: relative rise of it (0.1 is 10 %), by
            control, where that control is of the crop before, and under `all` where all controls are.
    """
    clean, controls = load_crops(model, Dataset(folder, "valid", format_name="encodec"), CROPS, FRAMES)
    layout = model.data.layout
    swapped = {"": controls, "all": controls.roll(1, 0)}
    for name in layout.names:
        swapped[name] = controls.clone()
        swapped[name][:, layout.slice(name)] = controls[:, layout.slice(name)].roll(1, 0)
    assert isinstance(model.paradigm, EDM)
    generator = torch.Generator().manual_seed(0)
    errors = dict.fromkeys(swapped, 0.0)
    for value in SIGMAS:
        sigma = torch.full((len(clean),), value)
        noisy = clean + value * torch.randn(clean.shape, generator=generator)
        weight = float(loss_weight(torch.tensor(value), model.paradigm.sigma_data)) / len(SIGMAS)
        for name, given in swapped.items():
            denoised = model.paradigm.denoise(model.network, noisy, sigma, given)
            errors[name] += weight * float((denoised - clean).square().mean())
    right = errors.pop("")
    return {"error": right, "effects": {name: error / right - 1 for name, error in errors.items()}}


def tables(done: Json, entries: Sequence[Entry]) -> str:
    """Return Markdown tables of the control effects of `entries`, and of adherence and FAD of those that are scored.

    `done` has the results of finished stages, as recorded in progress.json.
    """
    effects = []
    for one in entries:
        row = done[f"{one.name}: effects"]
        effects.append({"run": one.name, **row, "per_step": row["core_seconds"] / max(1, row["steps"])})
    columns = [
        Column("way", "run"),
        Column("core-seconds", "core_seconds", "{:.0f}"),
        Column("steps", "steps"),
        Column("core-seconds a step", "per_step", "{:.3f}"),
        Column("error", "error", "{:.4f}"),
        *(Column(name, f"effects.{name}", lambda x: f"{100 * x:+.1f} %") for name in sorted(effects[0]["effects"])),
    ]
    text = markdown(effects, columns)
    rows = [done[f"{one.name}: row"] for one in entries if f"{one.name}: row" in done]
    if rows:
        measures = [name for name in rows[0]["adherence"] if any(row["adherence"][name] is not None for row in rows)]
        columns = [
            Column("way", "run"),
            Column("parameters", "parameters", lambda x: f"{x / 1e6:.2f} M"),
            Column("N", "reported"),
            Column(f"FAD {EMBEDDER}", f"fad.{EMBEDDER}.train.value", "{:.1f}"),
            *(Column(name, f"adherence.{name}", "{:.3f}") for name in measures),
        ]
        text += "\n" + markdown(rows, columns)
    return text


def add_sizes(parser: argparse.ArgumentParser, out: str, seconds: float, length: float) -> None:
    """Add the options of the data, the output folder and the sizes of a comparison, with these defaults."""
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FOLDER", help="dataset with PVT-encodec and PVT-audio")
    add("--out", type=Path, default=Path(out), metavar="FOLDER", help=f"output folder ({out})")
    text = f"core-seconds of training of each row ({seconds:g})"
    add("--seconds", type=float, default=seconds, metavar="S", help=text)
    add("--reported", type=int, default=64, metavar="N", help="generated clips of each row; 0 for none (64)")
    add("--length", type=float, default=length, metavar="S", help=f"length of a generated clip ({length:g})")


def compare(arguments: argparse.Namespace, entries: Sequence[Entry], file: str) -> None:
    """Run all stages for `entries`, print the tables, and write them to `file` in the output folder.

    `arguments` are those of `add_sizes`.
    """
    sizes = Sizes(arguments.seconds, "", arguments.reported, 0, arguments.length)
    comparison = ControlWays(arguments.out.absolute(), sizes, arguments.data.absolute())
    for one in entries:
        comparison.train(one)
        comparison.measure(one)
    if arguments.reported:
        comparison.score(entries)
    text = tables(comparison.done, entries)
    write_bytes(comparison.out / file, text.encode())
    print(text)


def main() -> int:
    """Run all stages, print the tables, write control-ways.md to --out, and return the exit status 0.

    With --seconds 0, only the times of passes are measured and printed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser, "control-ways", 900, 4)
    add = parser.add_argument
    add("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=f"({', '.join(WAYS)})")
    add("--seeds", type=int, default=1, metavar="N", help="seeds 0 .. N - 1 of each way (1)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(time_passes(arguments.ways))
    if arguments.seconds:
        entries = [entry(way, seed) for way in arguments.ways for seed in range(arguments.seeds)]
        compare(arguments, entries, "control-ways.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
