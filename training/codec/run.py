"""Modules of a codec in training, and their state after a step.

B clips, N samples, D latent channels, T frames.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from data_specs.codecs.learned import PREFIX, LearnedCodec
from data_specs.codecs.networks import CodecNetwork
from data_specs.codecs.networks.magnitudes import MagnitudeNetwork
from data_specs.codecs.weights import write_weights
from data_specs.errors import UserError
from data_specs.io.files import Json, file_sha256
from data_specs.strict import StrictModel
from training.codec.config import CodecConfig
from training.codec.discriminator import Discriminator
from training.codec.quantizer import Quantized, TrainedQuantizer


class AudioMetadata(StrictModel):
    """Dataset that a codec is trained on."""

    digest: str  # of the content of the train split
    label: str
    sample_rate: int
    clip_samples: int


class TrainedCodec(nn.Module):
    """Encoder, codebooks, decoder and, where the loss uses one, discriminator."""

    def __init__(self, codec: CodecNetwork, quantizer: TrainedQuantizer, discriminator: Discriminator | None) -> None:
        super().__init__()
        self.codec, self.quantizer, self.discriminator = codec, quantizer, discriminator

    def forward(self, audio: Tensor, codebooks: int) -> tuple[Tensor, Quantized]:
        """Return what is decoded from latents quantized by `codebooks` codebooks (0 for none), and the latents.

        Decoded are audio [B, 1, N], or companded magnitudes [B, F, T] by a `MagnitudeNetwork`.
        """
        quantized: Quantized = self.quantizer(self.codec.encode(audio), codebooks)
        if isinstance(self.codec, MagnitudeNetwork):
            return self.codec.restore(quantized.latents), quantized
        return self.codec.decode(quantized.latents), quantized


@dataclass(frozen=True, kw_only=True)
class CodecRun:
    """A codec after a step of training.

    Attributes:
        network: with averaged weights.
        options: of the codec's network, resolved.
        config: of its training.
        data: that it was trained on.
        step: number of steps.
        train_seconds: wall-clock time of the steps.
    """

    network: TrainedCodec
    options: StrictModel
    config: CodecConfig
    data: AudioMetadata
    step: int
    train_seconds: float

    def metadata(self) -> Json:
        """Return everything except the weights as a JSON value, for the metadata of a snapshot."""
        return {
            "config": self.config.model_dump(mode="json"),
            "options": self.options.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json"),
            "step": self.step,
            "train_seconds": self.train_seconds,
        }

    def codec(self) -> LearnedCodec:
        """Return the codec on the CPU, with a copy of the weights."""
        codebooks = self.network.quantizer.codebooks.detach().cpu().clone()
        return LearnedCodec(copy.deepcopy(self.network.codec).cpu(), codebooks, self.config.name)

    def write(self, path: Path, name: str, codebooks: Tensor | None = None) -> str:
        """Write the codec as a weights file, with `codebooks` [K, M, D] if given; return the file's SHA-256.

        Raises:
            UserError: the codebooks are not fitted yet.
        """
        if codebooks is None and not self.network.quantizer.initialized:
            start = self.config.quantizer.start_step
            raise UserError(f"the codebooks are fitted before step {start}, got {self.step} steps; raise STEPS")
        own = self.network.quantizer.codebooks if codebooks is None else codebooks
        tensors = {f"{PREFIX}{key}": value.detach().cpu() for key, value in self.network.codec.state_dict().items()}
        described = {
            "name": name,
            "network": self.network.codec.kind,
            "options": self.options.model_dump(mode="json"),
            "trained": {"config": self.config.name, "data": self.data.digest, "steps": self.step},
        }
        write_weights(path, LearnedCodec.kind, {**tensors, "codebooks": own.detach().cpu()}, described)
        return file_sha256(path)
