"""Codecs in closed form: principal directions of frames, then residual k-means.

Two passes over the audio, one clip in memory at a time: the second moments of the frames, then a fixed number of
latents drawn evenly from all clips, on which the codebooks are fitted. `methods.py` says what is fitted.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from data_specs.codecs.base import Codec
from data_specs.codecs.weights import write_weights
from data_specs.errors import UserError
from training.codec.kmeans import codebook, nearest
from training.codec.methods import Method

Clips = Callable[[], Iterable[Tensor]]  # audio float32 [1, 1, N], the same clips in the same order at each call
SILENT = 1e-10  # squared length of a latent: silence needs no entry but the zero vector


def fit(clips: Clips, method: Method, count: int | None = None) -> dict[str, Tensor]:
    """Tensors of the method's codec fitted on `clips`; the same clips and options give the same bits.

    `count`, the number of clips where it is known, serves the progress bar.

    Raises:
        UserError: too little sound to fit on.
    """
    moments, frames = _moments(_counted(clips(), "moments", count), method)
    empty = torch.zeros(method.codebooks, method.bins, method.channels)
    tensors = {**method.tensors(moments), "codebooks": empty}
    generator = torch.Generator().manual_seed(method.seed)
    codec = method.codec(tensors, method.power)
    latents = sampled_latents(_counted(clips(), "latents", count), codec, method.frames / frames, generator)
    tensors["codebooks"] = fitted_codebooks(latents, method.codebooks, method.bins, method.iterations, generator)
    return tensors


def write(path: Path, tensors: dict[str, Tensor], method: Method, name: str) -> None:
    """Write what `fit` gave as a weights file that the method's codec loads."""
    write_weights(path, method.codec.kind, tensors, {"power": method.power, "name": name})


def _moments(clips: Iterable[Tensor], method: Method) -> tuple[Tensor, int]:
    """Second moments of frames, float64 [C, C] (not centred: silence is zero and stays so), and their number."""
    total, frames = torch.zeros(()), 0
    for audio in clips:
        spectrum = method.spectrum(audio).double()
        total = total + spectrum @ spectrum.T
        frames += spectrum.shape[1]
    if not total.any():
        raise UserError("the audio to fit on is empty or silent; give another dataset")
    return total / frames, frames


def sampled_latents(clips: Iterable[Tensor], codec: Codec, share: float, generator: torch.Generator) -> Tensor:
    """About `share` of all frames that sound, float32 [M, D].

    Raises:
        UserError: there are no clips.
    """
    kept = []
    for audio in clips:
        latents = codec.encode(audio)
        chosen = torch.rand(latents.shape[-1], generator=generator) < share
        kept.append(sounding(latents[..., chosen]))
    if not kept:
        raise UserError("there are no clips to fit codebooks on; give a dataset with train clips")
    return torch.cat(kept)


def sounding(latents: Tensor) -> Tensor:
    """[B, D, T] -> the frames that sound, [M, D]."""
    frames = latents.transpose(1, 2).flatten(0, 1)
    return frames[frames.square().sum(1) > SILENT]


def fitted_codebooks(
    residual: Tensor, codebooks: int, bins: int, iterations: int, generator: torch.Generator
) -> Tensor:
    """Codebooks [K, M, D], each fitted to what those before it left of the latents [F, D].

    Raises:
        UserError: too few latents, or too much alike.
    """
    books = []
    for _ in tqdm(range(codebooks), desc="codebooks", disable=None, leave=False):
        try:
            entries = codebook(residual, bins, iterations, generator)
        except ValueError as error:
            raise UserError(f"the codebooks cannot be fitted: {error}") from error
        residual = residual - entries[nearest(residual, entries)[0]]
        books.append(entries)
    return torch.stack(books)


def _counted(clips: Iterable[Tensor], what: str, count: int | None) -> Iterable[Tensor]:
    counted: Iterable[Tensor] = tqdm(clips, desc=what, total=count, unit="clip", disable=None, leave=False)
    return counted
