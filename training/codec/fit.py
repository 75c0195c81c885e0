"""The pvt codec in closed form: principal components of weighted MDCT frames, then residual k-means.

Two passes over the audio, one clip in memory at a time: the covariance of the frames, then a fixed number of latents
drawn evenly from all clips, on which the codebooks are fitted. See `data_specs/codecs/pvt.py` for what is fitted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from data_specs.codecs import mdct
from data_specs.codecs.pvt import PvtCodec
from data_specs.codecs.weights import write_weights
from data_specs.errors import UserError
from training.codec.kmeans import codebook, nearest

Clips = Callable[[], Iterable[Tensor]]  # audio float32 [1, 1, N], the same clips in the same order at each call
SILENT = 1e-10  # squared length of a frame, about -100 dBFS: silence needs no entry but the zero vector
WINDOWS: dict[str, Callable[[], Tensor]] = {
    "sine": mdct.sine_window,
    "vorbis": mdct.vorbis_window,
    "kaiser_bessel_4": lambda: mdct.kaiser_bessel_window(4.0),
}


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What is fitted. The defaults made the shipped codec; its card holds the comparison that chose them."""

    window: str = "sine"
    weighting: float = 0.0  # exponent g: coefficient k is weighted by its variance to the power -g / 2
    power: float = 0.35  # of the radial law: 1 leaves latents as they are, less narrows their range
    channels: int = 128
    codebooks: int = 16
    bins: int = 1024
    frames: int = 262_144  # latents kept for k-means: 512 bytes each
    iterations: int = 15
    seed: int = 0


def fit(clips: Clips, options: FitOptions, count: int | None = None) -> dict[str, Tensor]:
    """Tensors of a `PvtCodec` fitted on `clips`; the same clips and options give the same bits.

    `count`, the number of clips where it is known, serves the progress bar.

    Raises:
        UserError: too little sound to fit on.
    """
    window = WINDOWS[options.window]()
    covariance, frames = _covariance(_counted(clips(), "covariance", count), mdct.kernel(window).float())
    weight = _weight(covariance.diagonal(), options.weighting)
    tensors = {
        "window": window.float(),
        "weight": weight.float(),
        "basis": _principal(covariance * weight[:, None] * weight[None, :], options.channels).float(),
        "codebooks": torch.zeros(options.codebooks, options.bins, options.channels),
    }
    generator = torch.Generator().manual_seed(options.seed)
    codec = PvtCodec(tensors, options.power)
    latents = _sampled_latents(_counted(clips(), "latents", count), codec, options.frames / frames, generator)
    tensors["codebooks"] = _codebooks(latents, options, generator)
    return tensors


def write(path: Path, tensors: dict[str, Tensor], options: FitOptions, name: str) -> None:
    """Write what `fit` gave as a weights file that `PvtCodec.load` reads."""
    write_weights(path, "pvt", tensors, {"power": options.power, "name": name})


def _covariance(clips: Iterable[Tensor], kernel: Tensor) -> tuple[Tensor, int]:
    """Second moments of MDCT frames, float64 [H, H] (not centred: silence is zero and stays so), and their number."""
    total, frames = torch.zeros(kernel.shape[1], kernel.shape[1], dtype=torch.float64), 0
    for audio in clips:
        spectrum = mdct.analyse(audio, kernel)[0].double()
        total += spectrum @ spectrum.T
        frames += spectrum.shape[1]
    if not total.any():
        raise UserError("the audio to fit on is empty or silent; give another dataset")
    return total / frames, frames


def _weight(variance: Tensor, exponent: float) -> Tensor:
    """Weights [H] of geometric mean 1 that flatten the mean spectrum by `exponent`; bins 80 dB down count as that."""
    weight = variance.clamp(min=float(variance.max()) * 1e-8).pow(-exponent / 2)
    return weight / weight.log().mean().exp()


def _principal(covariance: Tensor, channels: int) -> Tensor:
    """Orthonormal [H, D]: directions of the largest variance first, each with its largest component positive."""
    vectors = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :channels]
    peaks = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return vectors * peaks.sign()


def _sampled_latents(clips: Iterable[Tensor], codec: PvtCodec, share: float, generator: torch.Generator) -> Tensor:
    """About `share` of all frames that sound, float32 [M, D]."""
    kept = []
    for audio in clips:
        latents = codec.encode(audio)[0].T
        chosen = torch.rand(len(latents), generator=generator) < share
        kept.append(latents[chosen & (latents.square().sum(1) > SILENT)])
    return torch.cat(kept)


def _codebooks(residual: Tensor, options: FitOptions, generator: torch.Generator) -> Tensor:
    """Codebooks [K, M, D], each fitted to what those before it left of the latents [M, D]."""
    books = []
    for _ in tqdm(range(options.codebooks), desc="codebooks", disable=None, leave=False):
        try:
            entries = codebook(residual, options.bins, options.iterations, generator)
        except ValueError as error:
            raise UserError(f"the codebooks cannot be fitted: {error}") from error
        residual = residual - entries[nearest(residual, entries)[0]]
        books.append(entries)
    return torch.stack(books)


def _counted(clips: Iterable[Tensor], what: str, count: int | None) -> Iterable[Tensor]:
    counted: Iterable[Tensor] = tqdm(clips, desc=what, total=count, unit="clip", disable=None, leave=False)
    return counted
