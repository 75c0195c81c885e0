"""What codecs fitted by this project share: one weights file, residual codebooks, no download."""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from data_specs.codecs.base import Codec
from data_specs.codecs.quantizer import ResidualQuantizer
from data_specs.codecs.weights import FOLDER, read_weights
from data_specs.errors import UserError
from data_specs.files import file_sha256


class FittedCodec(Codec):
    """Latents [B, 128, T] and codes [B, 16, T] at 75 Hz, as EnCodec has them.

    A subclass names its `kind` and makes its matrices of the tensors in the file.
    """

    kind: ClassVar[str]
    licence = "MIT"

    def __init__(self, tensors: dict[str, Tensor], power: float, name: str = "", digest: str = "") -> None:
        """`codebooks` float32 [K, M, D] and the tensors that `matrices` takes; `power` of the companding in (0, 1]."""
        self.name, self.power, self._digest = name or self.kind, power, digest
        self._matrices = self.matrices(tensors)
        self._quantizer = ResidualQuantizer(tensors["codebooks"].float())
        self.max_codebooks, self.bins, self.channels = tensors["codebooks"].shape

    @classmethod
    @abstractmethod
    def matrices(cls, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `encode` and `decode` compute with, float32, made in float64 from the stored tensors."""

    @classmethod
    def shipped(cls) -> Path:
        """The weights file that comes with the project."""
        return FOLDER / f"{cls.kind}.safetensors"

    @classmethod
    def own(cls) -> Self:
        return cls.load(cls.shipped())

    @classmethod
    def missing(cls) -> str:
        return "" if cls.shipped().is_file() else f"{cls.shipped()} is missing; install the project again"

    @classmethod
    def load(cls, path: Path) -> Self:
        """The codec in a file that `python -m training codec` wrote."""
        tensors, metadata = read_weights(path)
        try:
            return cls(tensors, float(metadata["power"]), metadata["name"], file_sha256(path))
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(f"{path} is not a whole {cls.kind} codec ({error}); fetch or fit it again") from error

    @property
    def digest(self) -> str:
        return self._digest

    def quantize(self, latents: Tensor, codebooks: int) -> Tensor:
        return self._quantizer.to(latents.device).encode(latents, codebooks)

    def dequantize(self, codes: Tensor) -> Tensor:
        return self._quantizer.to(codes.device).decode(codes)

    def _on(self, device: torch.device) -> dict[str, Tensor]:
        """The matrices on `device`, where they stay."""
        self._matrices = {name: tensor.to(device) for name, tensor in self._matrices.items()}
        return self._matrices
