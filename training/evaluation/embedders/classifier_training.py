"""Training and test of the classifier of `classifier.py` on PVT-audio.

With one thread, the result is a function of clips, steps and seed. B clips, N audio samples, T control frames, I
instruments, P patches of a clip, L = 96 frames and M = 128 mel bands of a patch.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from data_specs.arrays import Int64
from data_specs.controls import CHROMA_STEPS
from data_specs.errors import UserError
from training.evaluation.degradations import degrade
from training.evaluation.embedders.classifier import DEGRADATION_DB, PATCHES, REST, VELOCITY_BANDS, PatchNetwork, PvtNet

CLIPS_PER_STEP = 8
PATCHES_PER_CLIP = 4
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
STEPS = 900
TEST_CLIPS = 64  # at a time, to bound memory


class ClipSource(Protocol):
    """Interface of a set of clips, which a `training.Dataset` of PVT-audio has."""

    def __len__(self) -> int: ...

    def gather(self, indices: Int64) -> dict[str, Tensor]:
        """Return audio and controls of the B clips with these indices, as stored.

        They are `data` [B, 1, N] at 24 kHz, `velocity` [B, T] (in 0..1, 0 in rests), `chroma` [B, T] (pitch class / 11)
        and `instruments` [B, I, T].
        """
        ...


@dataclass(frozen=True)
class Labels:
    """Labels at the centre of each patch, int64 [B, P] each."""

    instrument: Tensor
    pitch_class: Tensor  # 0 to 11, 12 in a rest
    velocity_band: Tensor  # 0 in a rest, else 1 to 4


def labels(clips: dict[str, Tensor], centres: Tensor) -> Labels:
    """Return the labels of patches: the values of the controls at their centres.

    Args:
        clips: clips as `ClipSource.gather` returns them.
        centres: centre of each patch in audio samples from the start of its clip, int64 [B, P].
    """
    frames, samples = clips["velocity"].shape[-1], clips["data"].shape[-1]
    at = (centres * frames // samples).clamp(max=frames - 1)
    velocity = clips["velocity"].gather(1, at)
    pitch_class = (clips["chroma"].gather(1, at) * CHROMA_STEPS).round().long()
    instrument = clips["instruments"].argmax(1).gather(1, at)
    band = (velocity * VELOCITY_BANDS).ceil().long().clamp(max=VELOCITY_BANDS)
    return Labels(instrument, torch.where(velocity > 0, pitch_class, REST), band)


def train(
    clips: ClipSource,
    instruments: tuple[str, ...],
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> PvtNet:
    """Train a classifier from random weights on the CPU; seeds the global random generator of torch.

    Args:
        clips: training clips.
        instruments: names of the rows of their control `instruments`.
        steps: number of optimization steps of 32 patches each, four of each of eight clips.
        seed: seed of initial weights, clips and degradations.
        progress: called after each step with its number (from 0) and its loss, the sum of the cross-entropies of the
            heads.

    Raises:
        UserError: no clips.
        ValueError: clips shorter than a patch (1.04 s).
    """
    if not len(clips):
        raise UserError("PVT-audio must have train clips, got none; build it with make dataset FORMAT=audio")
    torch.manual_seed(seed)
    network = PatchNetwork(len(instruments)).train()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    for step, (patches, target) in enumerate(_batches(clips, steps, seed)):
        heads = zip(network.heads(network(patches)), target, strict=True)
        loss = torch.stack([nn.functional.cross_entropy(logits, target) for logits, target in heads]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress(step, float(loss.detach()))
    return PvtNet(network, instruments)


def _rate(step: int, steps: int) -> float:
    """Return the factor of the learning rate at step number `step` (from 0) of `steps`.

    It is half a cosine from 1 to 0, times a linear warm-up over the first 5 % of the steps.
    """
    warm = min(1.0, (step + 1) / max(1, 0.05 * steps))
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def _batches(clips: ClipSource, steps: int, seed: int) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
    """Yield for each step 32 log-mel patches, float32 [32, L, M], and their labels for each head, int64 [32].

    The patches are at random positions of random clips, and each is degraded with probability 1/2. The order of the
    labels is that of `PatchNetwork.heads`.
    """
    spectrum = PATCHES.spectrum
    span = (PATCHES.length - 1) * spectrum.hop + spectrum.window
    for step in range(steps):
        rng = np.random.default_rng([seed, step])
        batch = clips.gather(rng.integers(len(clips), size=CLIPS_PER_STEP))
        audio = batch["data"].float()
        starts = torch.from_numpy(rng.integers(audio.shape[-1] - span + 1, size=(len(audio), PATCHES_PER_CLIP)))
        cuts = audio[:, 0].unfold(-1, span, 1)[torch.arange(len(audio))[:, None], starts]
        target = labels(batch, starts + span // 2)
        level = audio.square().mean((1, 2)).sqrt().repeat_interleave(PATCHES_PER_CLIP)
        degraded, ratio_db = degrade(cuts.flatten(0, 1), level, rng)
        degradation = (ratio_db[:, None] < torch.tensor(DEGRADATION_DB)).sum(-1)
        heads = (target.instrument.flatten(), target.pitch_class.flatten(), target.velocity_band.flatten(), degradation)
        yield spectrum(degraded[:, None]), heads


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of the heads of a classifier on audio without degradation, as shares in 0..1 of clips or of patches."""

    instrument: float  # of clips, by the mean probability of their patches
    instrument_patches: float
    pitch_class: float  # of patches, rests included
    velocity_band: float
    clean: float  # of patches classified as not degraded
    clips: int
    patches: int

    def __str__(self) -> str:
        return (
            f"on {self.clips} valid clips, instrument {self.instrument:.1%} of clips ({self.instrument_patches:.1%} of "
            f"patches), pitch class or rest {self.pitch_class:.1%}, velocity band {self.velocity_band:.1%}, "
            f"classified as clean {self.clean:.1%}"
        )


@torch.inference_mode()
def evaluate_classifier(net: PvtNet, clips: ClipSource) -> Accuracy:
    """Return the accuracy of `net` on all patches of all clips, one every 0.96 s; shares are 0 without clips."""
    right, count, patches = np.zeros(5), 0, 0
    for first in range(0, len(clips), TEST_CLIPS):
        batch = clips.gather(np.arange(first, min(first + TEST_CLIPS, len(clips))))
        audio = batch["data"].float()
        target = labels(batch, torch.from_numpy(PATCHES.centres(audio.shape[-1])).expand(len(audio), -1))
        heads = [x.cpu() for x in net.network.heads(net.embed(audio).to(net.device))]
        of_clip = heads[0].softmax(-1).mean(1).argmax(-1)
        pairs = zip(heads, (target.instrument, target.pitch_class, target.velocity_band, 0), strict=True)
        correct = [of_clip == batch["instruments"].mean(-1).argmax(-1), *(x.argmax(-1) == label for x, label in pairs)]
        right += [same.sum().item() for same in correct]
        count, patches = count + len(audio), patches + target.instrument.numel()
    of_clips, of_patches, pitches, bands, clean = (right / np.maximum(1, [count, *[patches] * 4])).tolist()
    return Accuracy(of_clips, of_patches, pitches, bands, clean, count, patches)


def train_file(data: Path, out: Path, steps: int, seed: int) -> Accuracy:
    """Train on the train split of PVT-audio, write the weights to `out`, and return the accuracy on the valid split.

    Sets torch to one thread, and shows a progress bar on a terminal.

    Args:
        data: PVT-audio or the folder above it.
        out: safetensors file to write; an existing one is replaced.
        steps: number of optimization steps.
        seed: seed of initial weights, clips and degradations.

    Raises:
        UserError: no PVT-audio, or no train clips.
    """
    from tqdm import trange

    from training.data.dataset import Dataset

    train_clips = Dataset(data, "train", format_name="audio")
    valid_clips = Dataset(data, "valid", format_name="audio")
    torch.set_num_threads(1)  # results of several threads differ in the last bits
    with trange(steps, unit="step", disable=None) as bar:

        def progress(step: int, loss: float) -> None:
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

        net = train(train_clips, train_clips.info.spec.instrument_names, steps, seed, progress)
    net.save(out)
    return evaluate_classifier(net, valid_clips)
