"""Reconstruction errors of codecs, for each clip [B]. B clips, N samples."""

from functools import lru_cache

import torch
from torch import Tensor

from data_specs.codecs import Codec
from data_specs.rates import SAMPLE_RATE
from training.codec.fit import dataset_clips
from training.data.dataset import Dataset

WINDOW, HOP, BANDS = 1024, 256, 80
FLOOR = 1e-10  # of the power in a band: -100 dB
NOISE_BANDWIDTH = 1.5  # of a Hann window, in bins


def si_sdr(audio: Tensor, target: Tensor) -> Tensor:
    """Return the scale-invariant signal-to-distortion ratio in dB of `audio` with respect to `target`: float64 [B].

    Both are [B, 1, N] (Le Roux et al. 2019, eq. 4). Means are not subtracted; 1e-10 is added to both energies.
    """
    audio, target = audio.flatten(1).double(), target.flatten(1).double()
    energy = target.square().sum(1, keepdim=True).clamp(min=FLOOR)
    projected = target * (audio * target).sum(1, keepdim=True) / energy
    distortion = (audio - projected).square().sum(1)
    return 10 * torch.log10((projected.square().sum(1) + FLOOR) / (distortion + FLOOR))


def log_mel_distance(audio: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference in dB of the log-mel spectra of `audio` and `target`, both [B, 1, N]: [B].

    There are 80 bands; the window has 1024 samples, the hop 256. 0 dB is a full-scale sine, and values have a floor at
    -100 dB.
    """
    return (_mel_db(audio) - _mel_db(target)).abs().mean((1, 2))


@torch.no_grad()
def measure_codec(codec: Codec, clips: Dataset, count: int, with_codes: bool = True) -> dict[str, float]:
    """Return SI-SDR and log-mel distance in dB, each a mean over the first `count` of `clips`, a PVT-audio dataset.

    If there are fewer clips, all are used; without clips the result is empty. Keys are latents_si_sdr and
    latents_log_mel for clips decoded from latents, and if `with_codes` also codes_si_sdr and codes_log_mel for clips
    decoded from the codes of all codebooks.
    """
    sums: dict[str, float] = {}
    count = min(count, len(clips))
    for audio in dataset_clips(clips, count):
        latents = codec.encode(audio)
        ways = {"latents": latents}
        if with_codes:
            ways["codes"] = codec.dequantize(codec.quantize(latents, codec.max_codebooks))
        for way, values in ways.items():
            decoded = codec.decode(values)
            for name, measure in (("si_sdr", si_sdr), ("log_mel", log_mel_distance)):
                key = f"{way}_{name}"
                sums[key] = sums.get(key, 0.0) + float(measure(decoded, audio))
    return {key: value / count for key, value in sums.items()}


def _mel_db(audio: Tensor) -> Tensor:
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(audio[:, 0], WINDOW, HOP, window=window, return_complex=True) / (window.sum() / 2)
    return 10 * torch.log10((_filters() @ spectrum.abs().square() / NOISE_BANDWIDTH).clamp(min=FLOOR))


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    from librosa.filters import mel

    return torch.from_numpy(mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=BANDS)).float()
