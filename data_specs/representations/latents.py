"""PVT-encodec and PVT-disc: latents of a codec before and after quantization."""

from typing import Self

import torch
from torch import Tensor

from data_specs.codecs import Codec, load_codec
from data_specs.errors import UserError
from data_specs.representations.base import Representation


class _Coded(Representation):
    """Base of the formats encodec and disc: their properties are those of the codec."""

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
    """Stored array float32 [D, T]: the codec's latents before quantization, D channels, T frames."""

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
    """Stored array int16 [K, T] in 0..bins-1: codes of the first K codebooks of the codec's residual quantizer."""

    name = "disc"
    source = Latents.name
    discrete = True

    def __init__(self, codec: Codec, codebooks: int = 16) -> None:
        """Keep the codes of the first `codebooks` K codebooks of `codec`.

        Raises:
            UserError: K is below 1 or above the codec's number of codebooks.
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
        """Decode codes [B, K', T] of any integer dtype to float32 [B, 1, N]; K' is 1 to the codec's codebooks.

        `gradient` is not used: codes have no gradient.
        """
        with torch.no_grad():
            return self.codec.decode(self.codec.dequantize(stored.long()))
