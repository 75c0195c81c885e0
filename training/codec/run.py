"""Modules of a codec in training, and the codec after a number of steps.

B clips, N samples, D latent channels, T frames, K codebooks of M entries.
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
    """Metadata of the PVT-audio dataset that a codec is trained on; `label` is the name of its spec."""

    digest: str  # of the shards of the train split
    label: str
    sample_rate: int
    clip_samples: int


class TrainedCodec(nn.Module):
    """Encoder and decoder (`codec`), codebooks (`quantizer`), and a discriminator if the loss needs one, else None."""

    def __init__(self, codec: CodecNetwork, quantizer: TrainedQuantizer, discriminator: Discriminator | None) -> None:
        super().__init__()
        self.codec, self.quantizer, self.discriminator = codec, quantizer, discriminator

    def forward(self, audio: Tensor, codebooks: int) -> tuple[Tensor, Quantized]:
        """Encode audio [B, 1, N], quantize by the first `codebooks` codebooks (0: not at all) and decode.

        Returns:
            Audio [B, 1, N], or companded magnitudes [B, bins, T] of a `MagnitudeNetwork`; and the quantized latents.
        """
        quantized: Quantized = self.quantizer(self.codec.encode(audio), codebooks)
        if isinstance(self.codec, MagnitudeNetwork):
            return self.codec.restore(quantized.latents), quantized
        return self.codec.decode(quantized.latents), quantized


@dataclass(frozen=True, kw_only=True)
class CodecRun:
    """A codec after `step` steps of training.

    Attributes:
        network: modules with averaged weights.
        options: resolved options of the network of the codec.
        config: config of the training.
        data: metadata of the training data.
        step: number of steps done.
        train_seconds: wall-clock seconds of these steps.
    """

    network: TrainedCodec
    options: StrictModel
    config: CodecConfig
    data: AudioMetadata
    step: int
    train_seconds: float

    def metadata(self) -> Json:
        """Return everything but the weights as a JSON object, the metadata of a snapshot."""
        return {
            "config": self.config.model_dump(mode="json"),
            "options": self.options.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json"),
            "step": self.step,
            "train_seconds": self.train_seconds,
        }

    def codec(self) -> LearnedCodec:
        """Return the codec on the CPU, with a copy of the weights and the name of the config.

        Its codebooks are zero if those of the run are not fitted yet.
        """
        codebooks = self.network.quantizer.codebooks.detach().cpu().clone()
        return LearnedCodec(copy.deepcopy(self.network.codec).cpu(), codebooks, self.config.name)

    def write(self, path: Path, name: str, codebooks: Tensor | None = None) -> str:
        """Write the codec as a weights file and return the SHA-256 of the file, hex.

        Args:
            path: file to write.
            name: name of the codec in tables.
            codebooks: codebooks [K, M, D] to write; None for those of the run.

        Raises:
            UserError: `codebooks` is None and those of the run are not fitted yet.
        """
        if codebooks is None and not self.network.quantizer.initialized:
            start = self.config.quantizer.start_step
            raise UserError(
                f"the run must reach step {start} for fitted codebooks, got {self.step} steps; raise STEPS="
            )
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
