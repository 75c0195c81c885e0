"""The project's own codec, fitted in closed form: lapped transform, principal components, residual codebooks.

Encoder: MDCT (mdct.py), a weight for each of its 320 coefficients, projection on 128 orthonormal directions, and a
radial power law z = u |u|^(p - 1) that narrows the range between loud and quiet frames while it keeps each frame's
direction. Decoder: the inverse of each. Transform, weight and projection are one matrix [640, 128] either way, so a
clip costs one matrix product. Silence gives the zero latent, and every codebook's entry 0 is the zero vector: silence
stays silent. `training/codec/fit.py` makes the weights, `weights/pvt.md` describes the shipped ones.
"""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from data_specs.codecs import mdct
from data_specs.codecs.base import Codec
from data_specs.codecs.quantizer import ResidualQuantizer
from data_specs.codecs.weights import FOLDER, read_weights
from data_specs.errors import UserError
from data_specs.files import file_sha256

SHIPPED = FOLDER / "pvt.safetensors"
NORM_FLOOR = 1e-12  # of |u|^2: keeps the power law and its gradient finite at zero; -120 dB


class PvtCodec(Codec):
    """Latents [B, 128, T] and codes [B, 16, T] at 75 Hz, as EnCodec has them."""

    licence = "MIT"

    def __init__(self, tensors: dict[str, Tensor], power: float, name: str = "pvt", digest: str = "") -> None:
        """`window` [2H], `weight` [H], `basis` [H, D], `codebooks` [K, M, D], all float32; `power` in (0, 1]."""
        window, weight, basis = (tensors[key].double() for key in ("window", "weight", "basis"))
        lapped = mdct.kernel(window)
        self.name, self.power, self._digest = name, power, digest
        self.hop, self.channels = basis.shape
        self._window = window.float()
        self._analysis = (lapped * weight @ basis).float()
        self._synthesis = (lapped / weight @ basis).float()
        self._quantizer = ResidualQuantizer(tensors["codebooks"].float())
        self.max_codebooks, self.bins = tensors["codebooks"].shape[:2]

    @classmethod
    def own(cls) -> Self:
        return cls.load(SHIPPED)

    @classmethod
    def missing(cls) -> str:
        return "" if SHIPPED.is_file() else f"{SHIPPED} is missing; install the project again"

    @classmethod
    def load(cls, path: Path) -> Self:
        """The codec in a file that `python -m training codec fit` wrote."""
        tensors, metadata = read_weights(path)
        try:
            return cls(tensors, float(metadata["power"]), metadata["name"], file_sha256(path))
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(f"{path} is not a whole pvt codec ({error}); fetch or fit it again") from error

    @property
    def digest(self) -> str:
        return self._digest

    def encode(self, audio: Tensor) -> Tensor:
        self.frames(audio.shape[-1])
        self._move(audio.device)
        return _radial_power(mdct.analyse(audio.float(), self._analysis), self.power)

    def quantize(self, latents: Tensor, codebooks: int) -> Tensor:
        self._move(latents.device)
        return self._quantizer.encode(latents, codebooks)

    def dequantize(self, codes: Tensor) -> Tensor:
        self._move(codes.device)
        return self._quantizer.decode(codes)

    def decode(self, latents: Tensor) -> Tensor:
        self._move(latents.device)
        return mdct.synthesise(_radial_power(latents.float(), 1 / self.power), self._synthesis, self._window)

    def _move(self, device: torch.device) -> None:
        self._window, self._analysis, self._synthesis = (
            tensor.to(device) for tensor in (self._window, self._analysis, self._synthesis)
        )
        self._quantizer.to(device)


def _radial_power(vectors: Tensor, power: float) -> Tensor:
    """v |v|^(power - 1) for each vector of [B, D, T]."""
    if power == 1.0:
        return vectors
    square = vectors.square().sum(1, keepdim=True)
    return vectors * (square + NORM_FLOOR).pow((power - 1) / 2)
