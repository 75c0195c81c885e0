"""Latents without a phase: principal components of compressed magnitudes, decoded by finding a phase that fits.

Encoder: magnitudes of a short-time Fourier transform, raised to a power below 1, projected on 128 orthonormal
directions, each scaled. A note that is held is a constant here, whatever its phase, which a small diffusion model can
learn; the latents of `pvt` turn with every partial. Decoder: the inverse up to the magnitudes, then `phase.py`. Silence
gives the zero latent, and every codebook's entry 0 is the zero vector: silence stays silent.
`training/codec/methods.py` makes the weights, `weights/phaseless.md` describes the shipped ones.
"""

import torch
from torch import Tensor

from data_specs.codecs.fitted import FittedCodec
from data_specs.codecs.phase import stft, with_phase

ITERATIONS = 16  # of Griffin-Lim: half as many lose 2 dB, twice as many gain 1


class PhaselessCodec(FittedCodec):
    """Magnitudes at 75 Hz in 128 numbers."""

    kind = "phaseless"
    one_scale = True  # of principal directions, most tell next to nothing

    @classmethod
    def matrices(cls, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """From `window` [W], `basis` [F, D] with orthonormal columns, and `scale` [D]."""
        basis, scale = tensors["basis"].double(), tensors["scale"].double()
        return {
            "window": tensors["window"].float(),
            "analysis": (basis * scale).float(),
            "synthesis": (basis / scale).T.float(),
        }

    def encode(self, audio: Tensor) -> Tensor:
        self.frames(audio.shape[-1])
        on = self._on(audio.device)
        # Clip by clip: a product of another shape rounds differently, and codes must not depend on the batch.
        latents = [compressed(clip, on["window"], self.hop, self.power) @ on["analysis"] for clip in audio[:, 0]]
        return torch.stack(latents).transpose(1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        on = self._on(latents.device)
        magnitudes = [(clip.T @ on["synthesis"]).clamp(min=0).pow(1 / self.power) for clip in latents.float()]
        return torch.stack([with_phase(clip, on["window"], self.hop, ITERATIONS) for clip in magnitudes])[:, None]


def compressed(audio: Tensor, window: Tensor, hop: int, power: float) -> Tensor:
    """[N] -> magnitudes to the power `power`, float32 [N / hop, F]."""
    return stft(audio.float(), window, hop).abs().pow(power)
