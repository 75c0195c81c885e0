"""A codec with a trained encoder and decoder: `python -m training codec train` writes its file.

The metadata of the file names the network. Neither `training` nor a codec package is needed to use it.
"""

from typing import Any, Self

import torch
from torch import Tensor

from data_specs.codecs.fitted import StoredCodec
from data_specs.codecs.networks import CodecNetwork, network_class
from data_specs.strict import parse_model

PREFIX = "network."  # of the network's tensors in the weights file


class LearnedCodec(StoredCodec):
    """Codec of a trained network, with latents [B, D, T] at 75 frames a second, and residual codebooks."""

    kind = "learned"

    def __init__(self, network: CodecNetwork, codebooks: Tensor, name: str = "", digest: str = "") -> None:
        """Keep `network`, set to inference in place, and `codebooks`, float32 [K, M, D].

        Raises:
            ValueError: the network has another number of channels than D.
        """
        super().__init__(codebooks, name, digest)
        if network.channels != self.channels:
            raise ValueError(f"codebooks of {self.channels} channels for a network of {network.channels}")
        self.one_scale = network.one_scale
        self._network = network.eval().requires_grad_(False)

    @classmethod
    def of(cls, tensors: dict[str, Tensor], metadata: dict[str, Any], digest: str = "") -> Self:
        chosen = network_class(metadata["network"])
        with torch.random.fork_rng(devices=[]):  # initial weights are replaced
            network = chosen.of(parse_model(chosen.Options, metadata["options"], "options of the network"))
        network.load_state_dict({n[len(PREFIX) :]: value for n, value in tensors.items() if n.startswith(PREFIX)})
        return cls(network, tensors["codebooks"], metadata["name"], digest)

    def encode(self, audio: Tensor) -> Tensor:
        self.frames(audio.shape[-1])
        network = self._network.to(audio.device)
        # Clip by clip: convolutions of another batch round differently, and codes must not depend on the batch.
        return torch.cat([network.encode(clip) for clip in audio.float().split(1)])

    def decode(self, latents: Tensor) -> Tensor:
        network = self._network.to(latents.device)
        return torch.cat([network.decode(clip) for clip in latents.float().split(1)])
