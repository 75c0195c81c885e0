"""The project's own codec, fitted in closed form: lapped transform, principal components, residual codebooks.

Encoder: MDCT (mdct.py), a weight for each of its 320 coefficients, projection on 128 orthonormal directions, and a
radial power law z = u |u|^(p - 1) that compresses the level of a frame and keeps its direction. Decoder: the inverse of
each. Transform, weight and projection are one matrix [640, 128] in each direction, so a clip costs one matrix product.
Silence encodes to the zero latent, and entry 0 of every codebook is the zero vector, so silence decodes to silence.
`training/codec/methods.py` makes the weights, `weights/pvt.md` describes the shipped ones.
"""

from torch import Tensor

from data_specs.codecs import mdct
from data_specs.codecs.fitted import FittedCodec

NORM_FLOOR = 1e-12  # of |u|^2: keeps the power law and its gradient finite at zero; -120 dB


class PvtCodec(FittedCodec):
    """Codec of a lapped transform: 128 numbers a frame, 75 frames a second; it keeps the waveform."""

    kind = "pvt"

    @classmethod
    def matrices(cls, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `window` [2H], and `analysis` and `synthesis` [2H, D], which hold MDCT, weight and projection.

        They are computed from `window`, `weight` [H], and `basis` [H, D] with orthonormal columns.
        """
        window, weight, basis = (tensors[key].double() for key in ("window", "weight", "basis"))
        lapped = mdct.kernel(window)
        return {
            "window": window.float(),
            "analysis": (lapped * weight @ basis).float(),
            "synthesis": (lapped / weight @ basis).float(),
        }

    def encode(self, audio: Tensor) -> Tensor:
        self.frames(audio.shape[-1])
        return radial_power(mdct.analyse(audio.float(), self._on(audio.device)["analysis"]), self.power)

    def decode(self, latents: Tensor) -> Tensor:
        on = self._on(latents.device)
        return mdct.synthesise(radial_power(latents.float(), 1 / self.power), on["synthesis"], on["window"])


def radial_power(vectors: Tensor, power: float) -> Tensor:
    """Return v |v|^(power - 1) for each vector v of D channels in [B, D, T], with 1e-12 added to |v|^2 (Euclidean)."""
    if power == 1.0:
        return vectors
    square = vectors.square().sum(1, keepdim=True)
    return vectors * (square + NORM_FLOOR).pow((power - 1) / 2)
