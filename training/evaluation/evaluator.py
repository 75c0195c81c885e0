"""Scores of audio against the real clips of a PVT-audio dataset: FAD, adherence, memorization.

B clips, N audio samples, F frames of an embedding, D dimensions, I instruments.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data_specs.analysis.pitch import HOP
from data_specs.arrays import Float32, Float64
from data_specs.controls import CONTROLS
from data_specs.errors import UserError
from data_specs.io.files import Json
from data_specs.rates import SAMPLE_RATE
from training.data.dataset import Dataset
from training.evaluation.adherence import Calibration, ClipAnalysis, Ratios, analyze, anchors, average, measure
from training.evaluation.embedders.classifier import WEIGHTS, MatchedClassifier, PvtNet
from training.evaluation.embedders.vggish import Vggish
from training.evaluation.fad import Embedder, Gaussian, frechet_distance, score, split_half
from training.evaluation.judges.measures import JUDGE_MEASURES, Judges
from training.evaluation.judges.measures import embedders as judge_embedders
from training.evaluation.memorization import find_copies
from training.evaluation.targets import ControlTargets, control_targets
from training.evaluation.texture import harmonic_to_between

BATCH = 16  # clips read and measured at a time
SCALE_CLIPS = 96  # training clips used for the calibration
Embeddings = dict[str, Float32]  # by embedder, [B, F, D]


@dataclass(frozen=True)
class ClipMetrics:
    """Embeddings of a set of clips, and the measures of each clip in order."""

    embeddings: Embeddings
    ratios: list[Ratios]
    judged: list[Ratios]  # by external judges; empty without them
    harmonic_to_between: Float64  # [I, 2]: sum in dB and frames, by instrument


@dataclass(frozen=True)
class ReferenceSet:
    """The first `count` real clips of one split; audio and controls are cropped to N = `samples` audio samples."""

    clips: Dataset
    count: int
    samples: int

    @classmethod
    def open(cls, data: Path, split: Literal["train", "valid"], samples: int, most: int | None) -> "ReferenceSet":
        """Open the first clips of a split of PVT-audio.

        Args:
            data: PVT-audio or the folder above it.
            split: train or valid.
            samples: length N to which clips are cropped, in audio samples.
            most: largest number of clips to use; None or 0 for all.

        Raises:
            UserError: no PVT-audio, clips shorter than `samples`, or fewer than two clips in the split.
        """
        clips = Dataset(data, split, format_name="audio")
        held = clips.info.clip_samples
        if samples > held:
            raise UserError(
                f"SECONDS={samples / SAMPLE_RATE:g} must be at most {held / SAMPLE_RATE:g}, the length of the clips "
                f"of {clips.folder}"
            )
        if len(clips) < 2:
            raise UserError(
                f"{clips.folder} must have 2 or more {split} clips, got {len(clips)}; build more, for example "
                "CLIPS=400:80"
            )
        return cls(clips, min(len(clips), most or len(clips)), samples)

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the controls that the dataset has, in its order."""
        return tuple(feature.name for feature in self.clips.features if feature.name in CONTROLS)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the dataset's instruments, in the order of the rows of its control `instruments`."""
        return self.clips.info.spec.instrument_names

    def batches(self, count: int | None = None, start: int = 0, task: str = "") -> Iterator[dict[str, Tensor]]:
        """Yield clips in order from number `start` on, in batches of up to 16 clips.

        A batch has `data`, float32 [B, 1, N], and the controls by name, which have N // hop frames, with the hop of the
        dataset.

        Args:
            count: largest number of clips; None for all. There are fewer if the set ends before.
            start: number of the first clip, from 0.
            task: name of a progress bar on a terminal; empty for none.
        """
        stop = self.count if count is None else min(start + count, self.count)
        frames = self.samples // self.clips.info.hop
        with tqdm(desc=task, total=stop - start, unit="clip", leave=False, disable=None if task else True) as bar:
            for first in range(start, stop, BATCH):
                batch = self.clips.gather(np.arange(first, min(first + BATCH, stop)))
                cut = {name: batch[name][..., :frames] for name in self.controls}
                yield {"data": batch["data"][..., : self.samples].float(), **cut}
                bar.update(len(batch["data"]))

    def targets(self, batch: Mapping[str, Tensor]) -> list[ControlTargets]:
        """Return the targets of each clip of a batch that `batches` yields."""
        rate = Fraction(SAMPLE_RATE, self.clips.info.hop)
        rows = zip(*(batch[name].numpy() for name in self.controls), strict=True)
        frames = self.samples // HOP
        return [control_targets(dict(zip(self.controls, row, strict=True)), rate, frames) for row in rows]

    def analyze(self, classifier: MatchedClassifier, count: int | None) -> tuple[ClipAnalysis, list[ControlTargets]]:
        """Return analysis and targets of the first `count` clips (None: all); shows a progress bar on a terminal.

        Raises:
            UserError: audio that is not finite, or shorter than a patch of the classifier.
        """
        parts: list[ClipAnalysis] = []
        targets: list[ControlTargets] = []
        for batch in self.batches(count, task=f"real {self.clips.split} clips"):
            parts.append(analyze(batch["data"], classifier, self.controls))
            targets += self.targets(batch)
        return ClipAnalysis.concatenate(parts), targets


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Networks, reference statistics and calibration from one PVT-audio dataset, to score clips of one length.

    Attributes:
        train: real clips, the reference of FAD and of the search for copies.
        valid: real clips, whose controls generated clips follow; the second reference of FAD.
        classifier: classifier of the instruments of the dataset.
        embedders: embedders for FAD.
        missing: reason why an embedder cannot be used, by its name.
        embeddings: embeddings of the real clips by split and embedder, each [B, F, D].
        references: statistics of `embeddings`, by split and embedder.
        calibration: models of velocity, level and centroid, fitted on train clips.
        anchors: averaged measures of valid clips against their own controls (`ceiling`) and those of others (`floor`).
        judges: external judges of adherence, and librosa for measured controls; None without any.
        judged: averaged measures of the judges on valid clips against their own controls; None where undefined.
        seed: seed of subsets and pairings.
    """

    train: ReferenceSet
    valid: ReferenceSet
    classifier: MatchedClassifier
    embedders: tuple[Embedder, ...]
    missing: dict[str, str]
    embeddings: dict[str, Embeddings]
    references: dict[str, dict[str, Gaussian]]
    calibration: Calibration
    anchors: dict[str, dict[str, float | None]]
    judges: Judges | None
    judged: dict[str, float | None]
    seed: int

    @classmethod
    def prepare(
        cls,
        data: Path,
        samples: int,
        *,
        classifier: Path = WEIGHTS,
        vggish: str | None = None,
        reference: int | None = None,
        anchor_clips: int | None = None,
        judges: Sequence[str] = (),
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> "Evaluator":
        """Load the networks, embed and analyze the real clips, and fit the calibration; returns the evaluator.

        VGGish is left out, with the reason in `missing`, if its weights cannot be read. They are downloaded to the
        cache folder if `vggish` or `$PVT_VGGISH` is an address.

        Args:
            data: PVT-audio or the folder above it.
            samples: length N of the clips to be scored, to which real clips are cropped, in audio samples.
            classifier: weights file of the classifier.
            vggish: file or http(s) address of the weights of VGGish; None for `$PVT_VGGISH`, else the cache folder.
            reference: largest number of training clips to use; None for all.
            anchor_clips: largest number of valid clips for ceiling, floor and `judged`; None for all.
            judges: names of external judges.
            seed: seed of subsets and of the pairing of the floor.
            device: device of the networks.

        Raises:
            UserError: no PVT-audio, fewer than two clips in a split, clips shorter than `samples` or than a patch of an
                embedder, or missing or unreadable weights of the classifier or a judge.
        """
        train = ReferenceSet.open(data, "train", samples, reference)
        valid = ReferenceSet.open(data, "valid", samples, None)
        net = PvtNet.load(classifier, device)
        matched = MatchedClassifier(net, train.labels)
        embedders: tuple[Embedder, ...] = (net,)
        missing = {}
        try:
            embedders += (Vggish.load(vggish, device),)
        except UserError as error:
            missing[Vggish.name] = str(error)
        embedders += judge_embedders(judges, device)
        heard = Judges.load(judges, device, valid.controls)
        embeddings = {
            split: _join([_embed(embedders, batch["data"]) for batch in clips.batches(task=f"embed {split}")])
            for split, clips in (("train", train), ("valid", valid))
        }
        scale_clips, scale_targets = train.analyze(matched, SCALE_CLIPS)
        calibration = Calibration.fit(scale_clips, scale_targets, len(train.labels))
        return cls(
            train=train,
            valid=valid,
            classifier=matched,
            embedders=embedders,
            missing=missing,
            embeddings=embeddings,
            references={
                split: {name: Gaussian.of(frames) for name, frames in held.items()}
                for split, held in embeddings.items()
            },
            calibration=calibration,
            anchors=anchors(*valid.analyze(matched, anchor_clips), calibration, seed),
            judges=heard,
            judged=_judged(valid, matched, heard, anchor_clips),
            seed=seed,
        )

    @property
    def samples(self) -> int:
        """Length N of the clips to be scored, in audio samples."""
        return self.train.samples

    def measure(self, batches: Iterable[tuple[Tensor, list[ControlTargets]]]) -> ClipMetrics:
        """Return embeddings and measures of the clips of one or more batches, in order; the audio is not kept.

        Args:
            batches: pairs of audio, float32 [B, 1, N] on the CPU, and the targets of each clip.

        Raises:
            UserError: audio that is not finite.
        """
        parts: list[Embeddings] = []
        ratios: list[Ratios] = []
        judged: list[Ratios] = []
        harmonics = np.zeros((len(self.classifier.instruments), 2))
        for audio, targets in batches:
            analysis = analyze(audio, self.classifier, self.valid.controls)
            ratios += measure(analysis, targets, self.calibration)
            judged += self.judges.measure(audio, analysis, targets) if self.judges else []
            harmonics += harmonic_to_between(audio, analysis.features, targets, len(harmonics))
            parts.append(_embed(self.embedders, audio))
        return ClipMetrics(_join(parts), ratios, judged, harmonics)

    def real_fad(self, name: str, clips: int) -> float | None:
        """Return the FAD by embedder `name` of `clips` random training clips against all other training clips.

        It is the score of a perfect model with that number of clips; None if fewer than two others are left.
        """
        frames = self.embeddings["train"][name]
        if len(frames) - clips < 2:
            return None
        order = np.random.default_rng(self.seed).permutation(len(frames))
        return frechet_distance(Gaussian.of(frames[order[:clips]]), Gaussian.of(frames[order[clips:]]))

    def fad(self, embeddings: Embeddings) -> dict[str, Json]:
        """Return the FAD scores of clips by embedder, as a JSON object.

        An embedder has a `FadScore` under `train` and `valid`, and under `real` the `value` of `real_fad` (or None)
        with the number of `clips`. An embedder that cannot be used has the reason under `missing` and `train.missing`.

        Args:
            embeddings: embeddings of the clips by embedder, each [B, F, D].

        Raises:
            UserError: an embedding is not finite.
        """
        counts = {"train": self.train.count, "valid": self.valid.count}
        scores: dict[str, Json] = {
            name: {
                split: asdict(score(name, frames, held[name], f"PVT-audio {split}", counts[split], self.seed))
                for split, held in self.references.items()
            }
            for name, frames in embeddings.items()
        }
        for name, frames in embeddings.items():
            scores[name]["real"] = {"value": self.real_fad(name, len(frames)), "clips": len(frames)}
        return {**scores, **{name: {"train": {"missing": why}, "missing": why} for name, why in self.missing.items()}}

    def copies(self, embeddings: Embeddings) -> Json | None:
        """Return the `Copies` among clips as a JSON object, by their embeddings with pvt-net; None for too few clips.

        `embeddings` are those of the clips by embedder; the real clips are those of the evaluator.
        """
        name = PvtNet.name
        found = find_copies(embeddings[name], self.embeddings["train"][name], self.embeddings["valid"][name], self.seed)
        return None if found is None else asdict(found)

    def reference_facts(self) -> Json:
        """Return properties of the real clips as a JSON object.

        They are the plan digest, the length in s, the numbers of clips, and by embedder the FAD of two halves of the
        train clips (`split_half`) and the `FadScore` of valid against train clips, or why there is none
        (`valid_against_train`).
        """
        halves = {name: split_half(frames, self.seed) for name, frames in self.embeddings["train"].items()}
        return {
            "plan_digest": self.train.clips.info.plan_digest,
            "seconds": self.samples / SAMPLE_RATE,
            "train_clips": self.train.count,
            "valid_clips": self.valid.count,
            "split_half": halves,
            "valid_against_train": {name: held["train"] for name, held in self.fad(self.embeddings["valid"]).items()},
        }


def _judged(
    valid: ReferenceSet, classifier: MatchedClassifier, judges: Judges | None, count: int | None
) -> dict[str, float | None]:
    """Return the averaged measures of the judges on the first `count` clips (None: all) against their own controls.

    A measure is None where it is undefined, and all are without judges.
    """
    ratios: list[Ratios] = []
    if judges is not None:
        for batch in valid.batches(count, task="judges on real clips"):
            analysis = analyze(batch["data"], classifier, valid.controls)
            ratios += judges.measure(batch["data"], analysis, valid.targets(batch))
    return average(ratios, JUDGE_MEASURES)


def _embed(embedders: Iterable[Embedder], audio: Tensor) -> Embeddings:
    return {embedder.name: embedder.embed(audio).numpy() for embedder in embedders}


def _join(parts: list[Embeddings]) -> Embeddings:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
