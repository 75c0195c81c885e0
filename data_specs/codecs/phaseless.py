"""Latents without phase: principal components of compressed magnitudes; decoding reconstructs a phase.

Encoder: magnitudes of a short-time Fourier transform, raised to a power below 1, projected on 128 orthonormal
directions, each scaled. The latents of a held note are constant whatever its phase, which a small diffusion model can
learn; those of `pvt` rotate with every partial. Decoder: the inverse up to the magnitudes, then `phase.py`. Silence
encodes to the zero latent, and entry 0 of every codebook is the zero vector, so silence decodes to silence.
`training/codec/methods.py` makes the weights, `weights/phaseless.md` describes the shipped ones.
"""

import torch
from torch import Tensor

from data_specs.codecs.fitted import FittedCodec
from data_specs.codecs.phase import stft, with_phase

ITERATIONS = 16  # of Griffin-Lim: half as many lose 2 dB, twice as many gain 1


class PhaselessCodec(FittedCodec):
    """Codec of STFT magnitudes: 128 numbers a frame, 75 frames a second; decoding reconstructs a phase."""

    kind = "phaseless"
    one_scale = True  # most principal components have little variance

    @classmethod
    def matrices(cls, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `window` [W], `analysis` [F, D] and `synthesis` [D, F].

        They are computed from `window`, `basis` [F, D] with orthonormal columns, and `scale` [D].
        """
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
        window = self._on(latents.device)["window"]
        magnitudes = torch.stack([self.magnitudes(clip) for clip in latents])
        # Clip by clip on a CPU, as one clip fits the caches; together on a GPU, where many short kernels cost most.
        parts = magnitudes.split(1) if latents.device.type == "cpu" else [magnitudes]
        return torch.cat([with_phase(part, window, self.hop, ITERATIONS) for part in parts])[:, None]

    def magnitudes(self, latents: Tensor) -> Tensor:
        """Return the STFT magnitudes [..., T, F] >= 0 of latents [..., D, T]; differentiable."""
        projected = latents.float().transpose(-1, -2) @ self._on(latents.device)["synthesis"]
        return projected.clamp(min=0).pow(1 / self.power)

    @property
    def window(self) -> Tensor:
        """Analysis window of the STFT, float32 [W]."""
        return self._matrices["window"]


def compressed(audio: Tensor, window: Tensor, hop: int, power: float) -> Tensor:
    """Return the STFT magnitudes of audio [N], raised to `power`, float32 [N / hop, F]."""
    return stft(audio.float(), window, hop).abs().pow(power)
