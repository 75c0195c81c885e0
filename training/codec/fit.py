"""Fit of codecs in closed form: principal directions of frames, then residual k-means.

There are two passes over the audio, with one clip in memory at a time. The first computes second moments of the frames;
the second draws a random sample of the latents, to which the codebooks are fitted. `methods.py` defines frames and
tensors of each kind of codec. B clips, N samples, C coefficients of a frame, D latent channels, T frames, S sampled
latents, K codebooks of M entries.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from data_specs.codecs.base import Codec
from data_specs.codecs.weights import write_weights
from data_specs.errors import UserError
from training.codec.kmeans import codebook, nearest
from training.codec.methods import Method
from training.data.dataset import Dataset

Clips = Callable[[], Iterable[Tensor]]  # audio float32 [1, 1, N], the same clips in the same order at each call
SILENT = 1e-10  # largest squared norm of a latent of silence, which entry 0 represents


def dataset_clips(dataset: Dataset, count: int) -> Iterator[Tensor]:
    """Yield the first `count` clips of a PVT-audio dataset in order, each float32 [1, 1, N].

    `count` must not exceed the number of clips.
    """
    for index in range(count):
        yield dataset[index]["data"][None].float()


def fit(clips: Clips, method: Method, count: int | None = None) -> dict[str, Tensor]:
    """Fit a codec on `clips` and return its tensors by name, among them `codebooks`, float32 [K, M, D].

    On one thread, the same clips and options give the same bits.

    Args:
        clips: function that returns an iterable of the clips, float32 [1, 1, N]; it is called twice and must give the
            same clips in the same order.
        method: kind of codec and its options.
        count: number of clips, for the progress bar only; None if unknown.

    Raises:
        UserError: no clips, only silence, or too few distinct latents for the codebooks.
    """
    moments, frames = _moments(_progress(clips(), "moments", count), method)
    empty = torch.zeros(method.codebooks, method.bins, method.channels)
    tensors = {**method.tensors(moments), "codebooks": empty}
    generator = torch.Generator().manual_seed(method.seed)
    codec = method.codec(tensors, method.power)
    latents = sampled_latents(_progress(clips(), "latents", count), codec, method.frames / frames, generator)
    tensors["codebooks"] = fit_codebooks(latents, method.codebooks, method.bins, method.iterations, generator)
    return tensors


def write(path: Path, tensors: dict[str, Tensor], method: Method, name: str) -> None:
    """Write the tensors that `fit` returned, with `method.power` and `name`, to the weights file `path`.

    `name` is the name of the codec in tables.
    """
    write_weights(path, method.codec.kind, tensors, {"power": method.power, "name": name})


def _moments(clips: Iterable[Tensor], method: Method) -> tuple[Tensor, int]:
    """Return the second moments of the frames `method.spectrum`, float64 [C, C], and the number of frames.

    The mean is not subtracted.

    Raises:
        UserError: no clips, or only silence.
    """
    total, frames = torch.zeros(()), 0
    for audio in clips:
        spectrum = method.spectrum(audio).double()
        total = total + spectrum @ spectrum.T
        frames += spectrum.shape[1]
    if not total.any():
        raise UserError("the train clips must have sound, got none or only silence; give another DATA=")
    return total / frames, frames


def sampled_latents(clips: Iterable[Tensor], codec: Codec, share: float, generator: torch.Generator) -> Tensor:
    """Return the latents that `codec` gives at random frames of `clips`, without silent ones: float32 [S, D].

    Each frame is chosen with probability `share`, by numbers from `generator`; a share of 1 or more chooses all frames.

    Raises:
        UserError: no clips.
    """
    kept = []
    for audio in clips:
        latents = codec.encode(audio)
        chosen = torch.rand(latents.shape[-1], generator=generator) < share
        kept.append(non_silent(latents[..., chosen]))
    if not kept:
        raise UserError("the dataset must have train clips, got none; give another DATA=")
    return torch.cat(kept)


def non_silent(latents: Tensor) -> Tensor:
    """Return the frames of latents [B, D, T] whose squared norm is above SILENT, clip after clip: [S, D]."""
    frames = latents.transpose(1, 2).flatten(0, 1)
    return frames[frames.square().sum(1) > SILENT]


def fit_codebooks(residual: Tensor, codebooks: int, bins: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Fit K = `codebooks` codebooks of M = `bins` entries by residual k-means: float32 [K, M, D].

    Args:
        residual: latents [S, D]. Each codebook is fitted to what remains of them after subtracting the nearest entries
            of the codebooks before it.
        codebooks: number of codebooks K.
        bins: number of entries M of each; entry 0 is zero.
        iterations: steps of k-means for each codebook.
        generator: source of random numbers.

    Raises:
        UserError: too few distinct latents.
    """
    books = []
    for _ in tqdm(range(codebooks), desc="codebooks", disable=None, leave=False):
        try:
            entries = codebook(residual, bins, iterations, generator)
        except ValueError as error:
            raise UserError(f"codebooks cannot be fitted: {error}") from error
        residual = residual - entries[nearest(residual, entries)[0]]
        books.append(entries)
    return torch.stack(books)


def _progress(clips: Iterable[Tensor], what: str, count: int | None) -> Iterable[Tensor]:
    return tqdm(clips, desc=what, total=count, unit="clip", disable=None, leave=False)
