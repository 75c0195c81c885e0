"""Base of the codecs of this project: one weights file, residual codebooks, no download."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from data_specs.codecs.base import Codec
from data_specs.codecs.quantizer import ResidualQuantizer
from data_specs.codecs.weights import FOLDER, read_weights
from data_specs.errors import UserError
from data_specs.io.files import file_sha256


class StoredCodec(Codec):
    """A codec that is a weights file of ours: latents [B, D, T] and codes of residual codebooks."""

    kind: ClassVar[str]
    licence = "MIT"

    def __init__(self, codebooks: Tensor, name: str = "", digest: str = "") -> None:
        """`codebooks` float32 [K, M, D]."""
        self.name, self._digest = name or self.kind, digest
        self._quantizer = ResidualQuantizer(codebooks.float())
        self.max_codebooks, self.bins, self.channels = codebooks.shape

    @classmethod
    @abstractmethod
    def of(cls, tensors: dict[str, Tensor], metadata: dict[str, Any], digest: str = "") -> Self:
        """The codec made of what its weights file holds."""

    @classmethod
    def shipped(cls) -> Path:
        """The weights file that comes with the project."""
        return FOLDER / f"{cls.kind}.safetensors"

    @classmethod
    def pretrained(cls) -> Self:
        return cls.load(cls.shipped())

    @classmethod
    def missing(cls) -> str:
        return "" if cls.shipped().is_file() else f"{cls.shipped()} is missing; install the project again"

    @classmethod
    def load(cls, path: Path) -> Self:
        """The codec in a file that `python -m training codec` wrote."""
        tensors, metadata = read_weights(path)
        try:
            codec = cls.of(tensors, metadata, file_sha256(path))
            # Parts that do not fit each other would fail in the middle of a build.
            codec.decode(codec.dequantize(codec.quantize(codec.encode(torch.zeros(1, 1, 4 * codec.hop)), 1)))
            return codec
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{path} is not a whole {cls.kind} codec ({reason:.120}); fetch or make it again"
            ) from error

    @property
    def digest(self) -> str:
        return self._digest

    def quantize(self, latents: Tensor, codebooks: int) -> Tensor:
        return self._quantizer.to(latents.device).encode(latents, codebooks)

    def dequantize(self, codes: Tensor) -> Tensor:
        return self._quantizer.to(codes.device).decode(codes)


class FittedCodec(StoredCodec):
    """Latents [B, 128, T] and codes [B, 16, T] at 75 Hz, as EnCodec has them, by matrices fitted in closed form.

    A subclass names its `kind` and makes its matrices of the tensors in the file.
    """

    def __init__(self, tensors: dict[str, Tensor], power: float, name: str = "", digest: str = "") -> None:
        """`codebooks` float32 [K, M, D] and the tensors that `matrices` takes; `power` of the companding in (0, 1]."""
        if not 0 < power <= 1:
            raise ValueError(f"power {power} is not above 0 and at most 1")
        super().__init__(tensors["codebooks"], name, digest)
        self.power = power
        self._matrices = self.matrices(tensors)

    @classmethod
    def of(cls, tensors: dict[str, Tensor], metadata: dict[str, Any], digest: str = "") -> Self:
        return cls(tensors, float(metadata["power"]), metadata["name"], digest)

    @classmethod
    @abstractmethod
    def matrices(cls, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Float32 tensors of `encode` and `decode`, computed in float64 from the stored ones."""

    def _on(self, device: torch.device) -> dict[str, Tensor]:
        """The matrices on `device`, where they stay."""
        self._matrices = {name: tensor.to(device) for name, tensor in self._matrices.items()}
        return self._matrices
