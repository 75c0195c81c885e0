"""Effect of curve augmentation on coarse curves: `python -m bench.curve_augmentation`.

Two EDMs are tuned from the shipped EDM for equal core-seconds, one on curves as they are and one with augmentation.
Both then follow valid curves that are filtered as in the augmentation, at several strengths. Adherence is to the
filtered curves. Results of finished stages are kept in the folder, so that the same command resumes.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.control_ways import OneDataset, add_sizes
from bench.fixtures import ROOT
from bench.paradigms import Entry, Sizes
from data_specs.arrays import Int64
from data_specs.io.files import Json, write_bytes
from data_specs.rates import SAMPLE_RATE
from training.conditioning import ControlLayout
from training.data.augmentation import AUGMENTED, WIDEST_S, augment_curves
from training.evaluation.evaluate import generate, scores
from training.evaluation.evaluator import Evaluator, ReferenceSet
from training.evaluation.tables import Column, markdown
from training.model import TrainedModel, load_model
from training.sampling.sampling import SamplingConfig

SHARE = 0.3  # of the clips that are augmented
STRENGTHS = (0.0, 0.5, 1.0)  # of the filter, of the curves to follow
TUNING = (
    "training.steps=1000000 training.batch=8 training.learning_rate=1e-4 training.warmup_steps=50 "
    "training.decay_start=0 training.ema_decay=0.99 training.ema_stds=[] "
    "logging.valid_every=0 logging.listen_every=0 logging.checkpoint_every=0 logging.checkpoint_seconds=60 "
    "logging.ema_every=0 logging.keep_checkpoints=1"
)
AUGMENTATION = f"training.curve_augmentation={SHARE} network.augmented=true"
SMALL = ROOT / "training" / "configs" / "small.toml"
ENTRIES = (
    Entry("plain", "edm", "encodec", overrides=TUNING, config=SMALL, init="edm"),
    Entry("augmented", "edm", "encodec", overrides=f"{TUNING} {AUGMENTATION}", config=SMALL, init="edm"),
)
EMBEDDER = "pvt-net"
REFERENCE = 300  # train clips


@dataclass(frozen=True)
class CoarseSet(ReferenceSet):
    """Real clips whose curves are filtered as in curve augmentation.

    Attributes:
        strength: strength of the filter, in 0..1; 0 changes nothing.
    """

    strength: float = 0.0

    def batches(self, count: int | None = None, start: int = 0, task: str = "") -> Iterator[dict[str, Tensor]]:
        done = start
        for batch in super().batches(count, start, task):
            positions = np.arange(done, done + len(batch["data"]))
            yield {**batch, **coarser(batch, self.strength, positions, SAMPLE_RATE / self.clips.info.hop)}
            done += len(positions)


def coarser(batch: dict[str, Tensor], strength: float, positions: Int64, rate: float) -> dict[str, Tensor]:
    """Return the filtered curves of a batch by control, [B, T] each, without the controls that are not augmented.

    Args:
        batch: controls by name, [B, T] or [B, n, T].
        strength: strength of the filter of all clips.
        positions: number of each clip [B], which determines its filters.
        rate: frames per second.
    """
    curves = {name: batch[name] for name in AUGMENTED if name in batch}
    layout = ControlLayout(tuple((name, 1) for name in curves))
    stacked = layout.stack(curves)
    augment_curves(stacked, layout, np.full(len(positions), strength), positions, 0, rate)
    return {name: rows[:, 0] for name, rows in layout.split(stacked).items()}


@dataclass(frozen=True, kw_only=True, repr=False)
class ToldModel(TrainedModel):
    """A model of an augmented network that is told the strength `told` of the filter when it samples."""

    told: float

    @classmethod
    def of(cls, model: TrainedModel, told: float) -> "ToldModel":
        """Return `model` with the strength `told`."""
        return cls(**{field.name: getattr(model, field.name) for field in fields(model)}, told=told)

    def sample_controls(self, controls: Tensor, *arguments: Any, **options: Any) -> Tensor:
        row = torch.full_like(controls[:, :1], self.told)
        return super().sample_controls(torch.cat([controls, row], 1), *arguments, **options)


class CurveAugmentation(OneDataset):
    """Comparison of models by how closely they follow filtered curves."""

    def follow(self, entry: Entry, evaluator: Evaluator, strength: float, told: float) -> None:
        """Record the scores of clips generated from curves filtered with `strength`, unless they are recorded.

        The network is told the strength `told`. Scores are recorded at the present core-seconds and number of clips.
        """
        key, used = row_key(entry, strength, told), self.done[f"{entry.name}: core-seconds"]
        sizes = {"core_seconds": used, "reported": self.sizes.reported}
        if self.done.get(key, {}).items() >= sizes.items():
            return
        model, held = load_model(self.run(entry)), evaluator.valid
        chosen = ToldModel.of(model, told) if told else model
        evaluator = replace(evaluator, valid=CoarseSet(held.clips, held.count, held.samples, strength))
        clips = generate(chosen, evaluator, SamplingConfig(), self.sizes.reported)
        row = {"run": entry.name, "strength": strength, "told": told, "steps": model.step, **sizes}
        self.record(key, {**row, **scores(evaluator.measure(clips), evaluator)})
        print(f"{key}: scored", flush=True)


def cases() -> list[tuple[Entry, float, float]]:
    """Return entry, strength and strength that is told, of all rows; only an augmented network can be told one."""
    found = []
    for entry, strength in product(ENTRIES, STRENGTHS):
        found.append((entry, strength, 0.0))
        if strength and entry.name == "augmented":
            found.append((entry, strength, strength))
    return found


def row_key(entry: Entry, strength: float, told: float) -> str:
    """Return the key of a row in progress.json."""
    return f"{entry.name}: strength {strength:g}, told {told:g}"


def table(rows: Sequence[Json]) -> str:
    """Return a Markdown table of recorded rows."""
    measures = [name for name in rows[0]["adherence"] if any(row["adherence"][name] is not None for row in rows)]
    columns = [
        Column("tuned", "run"),
        Column("steps", "steps"),
        Column("filter, s", "strength", lambda x: f"{x * WIDEST_S:g}"),
        Column("told", "told", "{:g}"),
        Column("N", "reported"),
        Column(f"FAD {EMBEDDER}", f"fad.{EMBEDDER}.train.value", "{:.1f}"),
        *(Column(name, f"adherence.{name}", "{:.3f}") for name in measures),
    ]
    return markdown(rows, columns)


def main() -> int:
    """Run all stages, print the table, write curve-augmentation.md to --out, and return the exit status 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser, "curve-augmentation", 300, 4)
    arguments = parser.parse_args()
    if arguments.reported < 2:
        parser.error(f"--reported must be an integer >= 2, got {arguments.reported}")
    torch.set_num_threads(1)
    sizes = Sizes(arguments.seconds, "", arguments.reported, 0, arguments.length)
    comparison = CurveAugmentation(arguments.out.absolute(), sizes, arguments.data.absolute())
    for entry in ENTRIES:
        comparison.train(entry)
    samples = round(sizes.length * SAMPLE_RATE)
    evaluator = Evaluator.prepare(comparison.folder, samples, reference=REFERENCE, anchor_clips=sizes.reported)
    for case in cases():
        comparison.follow(case[0], evaluator, *case[1:])
    text = table([comparison.done[row_key(*case)] for case in cases()])
    write_bytes(comparison.out / "curve-augmentation.md", text.encode())
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
