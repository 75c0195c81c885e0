"""PVT-encodec and PVT-disc: latents of a codec before and after quantization."""

from typing import Self

import torch
from torch import Tensor

from data_specs.codecs import Codec, load_codec
from data_specs.errors import UserError
from data_specs.representations.base import Representation


class _Coded(Representation):
    """Base of both formats."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.hop = codec.hop
        self.one_scale = codec.one_scale
        self.label = f"{self.name} ({codec.name})"

    @classmethod
    def build(cls, codec: str, codebooks: int) -> Self:
        return cls(load_codec(codec))

    @property
    def seconds_per_clip(self) -> float:
        return self.codec.seconds_per_clip or super().seconds_per_clip

    @property
    def prefers_gpu(self) -> bool:
        return self.codec.prefers_gpu

    @property
    def digest(self) -> str:
        return self.codec.digest

    @property
    def licence(self) -> str:
        return self.codec.licence

    def frames(self, samples: int) -> int:
        return self.codec.frames(samples)


class Latents(_Coded):
    """float32 [D, T]: the codec's latents before quantization."""

    name = "encodec"

    def shape(self, samples: int) -> tuple[int, ...]:
        return (self.codec.channels, self.frames(samples))

    def encode(self, audio: Tensor) -> Tensor:
        with torch.no_grad():
            return self.codec.encode(audio)

    def decode(self, stored: Tensor, gradient: bool = False) -> Tensor:
        with torch.set_grad_enabled(gradient):
            return self.codec.decode(stored.float())


class Codes(_Coded):
    """int16 [K, T] in 0..bins-1: the first K codebooks of the codec's residual quantizer."""

    name = "disc"
    source = Latents.name
    discrete = True

    def __init__(self, codec: Codec, codebooks: int = 16) -> None:
        """`codebooks` K.

        Raises:
            UserError: the codec has fewer.
        """
        super().__init__(codec)
        if not 1 <= codebooks <= codec.max_codebooks:
            raise UserError(
                f"the number of codebooks must be 1 to {codec.max_codebooks} with {codec.name}, got {codebooks}"
            )
        self.codebooks = codebooks
        self.bins = codec.bins

    @classmethod
    def build(cls, codec: str, codebooks: int) -> Self:
        return cls(load_codec(codec), codebooks)

    def shape(self, samples: int) -> tuple[int, ...]:
        return (self.codebooks, self.frames(samples))

    def encode(self, audio: Tensor) -> Tensor:
        with torch.no_grad():
            return self.derive(self.codec.encode(audio))

    def derive(self, encoded: Tensor) -> Tensor:
        with torch.no_grad():
            return self.codec.quantize(encoded, self.codebooks).to(torch.int16)

    def decode(self, stored: Tensor, gradient: bool = False) -> Tensor:
        """Decode codes [B, K', T] with any K' up to K, of any integer dtype; codes have no gradient."""
        with torch.no_grad():
            return self.codec.decode(self.codec.dequantize(stored.long()))
