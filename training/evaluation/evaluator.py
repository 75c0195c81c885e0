"""A judge holds all that real clips teach the measures; what it is given to hear, it scores against them.

B clips, N samples, F frames of an embedding, D dimensions.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_specs.controls import CONTROLS, FEATURES, Controls
from data_specs.errors import UserError
from training.data.dataset import Dataset
from training.evaluation.adherence import ClipAnalysis, Ratios, anchors, averages, listen, measure, read_controls
from training.evaluation.embedders.classifier import WEIGHTS, PvtNet
from training.evaluation.embedders.vggish import Vggish
from training.evaluation.fad import Embedder, Gaussian, score, split_half
from training.evaluation.memorization import find_copies
from training.evaluation.pitch import SAMPLE_RATE
from training.evaluation.targets import ControlTargets
from training.evaluation.velocity import VelocityScale

BATCH = 16  # clips read and judged at once
SCALE_CLIPS = 96  # real training clips that the velocity scale is fitted on
Embeddings = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ClipMetrics:
    """What one pass over a set of clips gives: embeddings [B, F, D] of each embedder, and measures of each clip."""

    embeddings: Embeddings
    ratios: list[Ratios]


@dataclass(frozen=True)
class Real:
    """Real clips of one split, cut to the length that is judged."""

    clips: Dataset
    count: int
    samples: int

    @property
    def frames(self) -> int:
        """Control frames of a cut clip."""
        return self.samples // self.clips.info.hop

    def batches(self, count: int | None = None) -> Iterator[dict[str, Tensor]]:
        """Audio [B, 1, N] as `data` and the control features, the first `count` clips in order."""
        count = self.count if count is None else min(count, self.count)
        for first in range(0, count, BATCH):
            batch = self.clips.gather(np.arange(first, min(first + BATCH, count)))
            cut = {name: batch[name][..., : self.frames] for name in CONTROLS}
            yield {"data": batch["data"][..., : self.samples].float(), **cut}

    def asked(self, batch: Mapping[str, Tensor]) -> list[ControlTargets]:
        """What a batch's controls ask for."""
        rate = Fraction(SAMPLE_RATE, self.clips.info.hop)
        rows = zip(*(batch[name].numpy() for name in FEATURES), strict=True)
        return read_controls([Controls(*row) for row in rows], rate, self.samples)


class Evaluator:
    """References, classifier and velocity scale of one PVT-audio, for clips of one length.

    Args:
        data: PVT-audio or the folder above it.
        samples: length N of the clips to be judged; real ones are cut to it.
        classifier: weights file of the classifier.
        vggish: file or address of VGGish's weights; None for `$PVT_VGGISH` or its release.
        reference: at most so many training clips are the reference.
        anchor_clips: at most so many valid clips are listened to for ceiling and floor.
        seed: of subsets and of the floor's pairing.

    Raises:
        UserError: no PVT-audio, clips shorter than asked, or a classifier that knows other instruments.
    """

    def __init__(
        self,
        data: Path,
        samples: int,
        *,
        classifier: Path = WEIGHTS,
        vggish: str | None = None,
        reference: int | None = None,
        anchor_clips: int | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.samples, self.seed = samples, seed
        self.train = self._real(data, "train", reference)
        self.valid = self._real(data, "valid", None)
        net = PvtNet.load(classifier, device)
        names = self.train.clips.info.spec.instrument_names
        if net.instruments != names:
            raise UserError(
                f"the classifier {classifier} knows {', '.join(net.instruments)}, the dataset has {', '.join(names)}; "
                "train one with python -m training classifier train, and name it with --classifier"
            )
        self.classifier = net
        self.embedders: list[Embedder] = [net]
        self.missing: dict[str, str] = {}  # embedder -> why it is not there
        try:
            self.embedders.append(Vggish.load(vggish, device))
        except UserError as error:
            self.missing[Vggish.name] = str(error)
        self.embeddings = {
            split: self._embed_all(real) for split, real in (("train", self.train), ("valid", self.valid))
        }
        self.references = {
            split: {name: Gaussian.of(frames) for name, frames in held.items()}
            for split, held in self.embeddings.items()
        }
        self.scale = self._fit_scale()
        self.anchors = self._anchors(anchor_clips)

    def hear(self, batches: Iterable[tuple[Tensor, list[ControlTargets]]]) -> ClipMetrics:
        """Embed and measure clips [B, 1, N] batch by batch; nothing is kept but embeddings and measures."""
        parts: list[Embeddings] = []
        ratios: list[Ratios] = []
        for audio, wanted in batches:
            listened = listen(audio, self.classifier)
            parts.append(self._embed(audio))
            ratios += measure(listened, wanted, self.scale)
        return ClipMetrics(_joined(parts), ratios)

    def fad(self, embeddings: Embeddings) -> dict[str, dict[str, Any]]:
        """FAD of clips against train and valid by every embedder, as plain values; reasons for those not there."""
        scores: dict[str, dict[str, Any]] = {}
        for name, frames in embeddings.items():
            scores[name] = {
                split: score(name, frames, held[name], f"PVT-audio {split}", self._count(split), self.seed).to_json()
                for split, held in self.references.items()
            }
        return {**scores, **{name: {"train": {"missing": why}, "missing": why} for name, why in self.missing.items()}}

    def copies(self, embeddings: Embeddings) -> dict[str, Any] | None:
        """The nearest-neighbour check, by the embedder that knows no codec."""
        name = self.classifier.name
        found = find_copies(embeddings[name], self.embeddings["train"][name], self.embeddings["valid"][name], self.seed)
        return None if found is None else asdict(found)

    def adherence(self, ratios: list[Ratios]) -> dict[str, float | None]:
        """Averages of the measures."""
        return averages(ratios)

    def reference_facts(self) -> dict[str, Any]:
        """What the scores are measured against, and what real clips score: halves of train, and valid against train."""
        info = self.train.clips.info
        halves = {name: split_half(frames, self.seed) for name, frames in self.embeddings["train"].items()}
        return {
            "plan_digest": info.plan_digest,
            "seconds": self.samples / SAMPLE_RATE,
            "train_clips": self.train.count,
            "valid_clips": self.valid.count,
            "split_half": halves,
            "valid_against_train": {name: held["train"] for name, held in self.fad(self.embeddings["valid"]).items()},
        }

    def _count(self, split: str) -> int:
        return (self.train if split == "train" else self.valid).count

    def _real(self, data: Path, split: Literal["train", "valid"], most: int | None) -> Real:
        clips = Dataset(data, split, format_name="audio")
        held = clips.info.clip_samples
        if self.samples > held:
            raise UserError(
                f"SECONDS={self.samples / SAMPLE_RATE:g} is longer than the {held / SAMPLE_RATE:g} s of {clips.folder}"
            )
        if len(clips) < 2:
            raise UserError(
                f"{clips.folder} has too few {split} clips to judge by; build more, for example CLIPS=400:80"
            )
        return Real(clips, min(len(clips), most or len(clips)), self.samples)

    def _embed(self, audio: Tensor) -> Embeddings:
        return {embedder.name: embedder.embed(audio).numpy() for embedder in self.embedders}

    def _embed_all(self, real: Real) -> Embeddings:
        return _joined([self._embed(batch["data"]) for batch in real.batches()])

    def _fit_scale(self) -> VelocityScale:
        parts: list[ClipAnalysis] = []
        wanted: list[ControlTargets] = []
        for batch in self.train.batches(SCALE_CLIPS):
            parts.append(listen(batch["data"], self.classifier))
            wanted += self.train.asked(batch)
        instruments = len(self.train.clips.info.spec.instruments)
        return VelocityScale.fit(ClipAnalysis.joined(parts).heard, wanted, instruments)

    def _anchors(self, most: int | None) -> dict[str, dict[str, float | None]]:
        parts: list[ClipAnalysis] = []
        wanted: list[ControlTargets] = []
        for batch in self.valid.batches(most):
            parts.append(listen(batch["data"], self.classifier))
            wanted += self.valid.asked(batch)
        return anchors(ClipAnalysis.joined(parts), wanted, self.scale, self.seed)


def _joined(parts: list[Embeddings]) -> Embeddings:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
