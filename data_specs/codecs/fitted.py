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
    """A codec in one weights file of ours: an encoder to latents [B, D, T], a decoder, and residual codebooks."""

    kind: ClassVar[str]
    licence = "MIT"

    def __init__(self, codebooks: Tensor, name: str = "", digest: str = "") -> None:
        """Keep `codebooks`, float32 [K, M, D]: K codebooks of M entries of D channels.

        `name` defaults to the kind; `digest` is that of the weights file, empty if there is none.
        """
        self.name, self._digest = name or self.kind, digest
        self._quantizer = ResidualQuantizer(codebooks.float())
        self.max_codebooks, self.bins, self.channels = codebooks.shape

    @classmethod
    @abstractmethod
    def of(cls, tensors: dict[str, Tensor], metadata: dict[str, Any], digest: str = "") -> Self:
        """Return the codec of the tensors and metadata of a weights file, whose SHA-256 is `digest`.

        Raises:
            KeyError, RuntimeError, ValueError or TypeError: tensors or metadata are missing or inconsistent.
        """

    @classmethod
    def shipped(cls) -> Path:
        """Return the path of the shipped weights file of this kind, whether it exists or not."""
        return FOLDER / f"{cls.kind}.safetensors"

    @classmethod
    def pretrained(cls) -> Self:
        return cls.load(cls.shipped())

    @classmethod
    def missing(cls) -> str:
        return "" if cls.shipped().is_file() else f"{cls.shipped()} is missing; install the project again"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the codec of a file as `make codec` writes it, checked by encoding and decoding four frames.

        Raises:
            UserError: unreadable, not a weights file of this project, or its tensors are incomplete or inconsistent.
        """
        tensors, metadata = read_weights(path)
        try:
            codec = cls.of(tensors, metadata, file_sha256(path))
            # Tensors of inconsistent shapes would otherwise fail in the middle of a build.
            codec.decode(codec.dequantize(codec.quantize(codec.encode(torch.zeros(1, 1, 4 * codec.hop)), 1)))
            return codec
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{path} must be a complete {cls.kind} codec ({reason:.120}); fetch or make it again"
            ) from error

    @property
    def digest(self) -> str:
        return self._digest

    def quantize(self, latents: Tensor, codebooks: int) -> Tensor:
        return self._quantizer.to(latents.device).encode(latents, codebooks)

    def dequantize(self, codes: Tensor) -> Tensor:
        return self._quantizer.to(codes.device).decode(codes)


class FittedCodec(StoredCodec):
    """Codec whose encoder and decoder are matrices fitted in closed form; shipped ones have EnCodec's shapes.

    These are latents [B, 128, T] and codes [B, 16, T] at 75 frames a second. A subclass defines `kind` and computes its
    matrices from the tensors of the file.
    """

    def __init__(self, tensors: dict[str, Tensor], power: float, name: str = "", digest: str = "") -> None:
        """Compute the matrices from `tensors`: `codebooks`, float32 [K, M, D], and those that `matrices` takes.

        Args:
            tensors: tensors of the weights file by name.
            power: exponent of the companding, in (0, 1].
            name: for messages and tables; the kind if empty.
            digest: SHA-256 of the weights file; empty if there is none.

        Raises:
            ValueError: `power` is out of range.
        """
        if not 0 < power <= 1:
            raise ValueError(f"power must be above 0 and at most 1, got {power}")
        super().__init__(tensors["codebooks"], name, digest)
        self.power = power
        self._matrices = self.matrices(tensors)

    @classmethod
    def of(cls, tensors: dict[str, Tensor], metadata: dict[str, Any], digest: str = "") -> Self:
        return cls(tensors, float(metadata["power"]), metadata["name"], digest)

    @classmethod
    @abstractmethod
    def matrices(cls, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the float32 tensors of `encode` and `decode` by name, computed in float64 from those of the file."""

    def _on(self, device: torch.device) -> dict[str, Tensor]:
        """Move the matrices of this codec to `device`, where they stay, and return them by name."""
        self._matrices = {name: tensor.to(device) for name, tensor in self._matrices.items()}
        return self._matrices
