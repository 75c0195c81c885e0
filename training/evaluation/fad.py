"""Frechet audio distance (Kilgour, Zuluaga, Roblek and Sharifi, Interspeech 2019).

An embedder maps audio to frames of embeddings. A Gaussian is fitted to the frames of each of two sets of clips; the
score is the squared Frechet distance of the two Gaussians. Scores with different embedders, numbers of clips or
references cannot be compared, so `FadScore` states these. B clips, N audio samples, F frames per clip, D dimensions of
an embedding; means and matrices are float64.
"""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_specs.arrays import Float64
from data_specs.errors import UserError

FRAMES_PER_DIMENSION = 10  # below it, the covariance is mostly noise
POINTS = 12  # subset sizes of the extrapolation
DRAWS = 4  # subsets of each size
SMALLEST_SUBSET = 0.2  # of the clips


class Embedder(Protocol):
    """Interface of networks that map audio to frames of embeddings."""

    name: str
    sample_rate: int  # Hz, of its input
    dimension: int  # D

    def embed(self, audio: Tensor) -> Tensor:
        """Map audio, float32 [B, 1, N] at `sample_rate`, to embeddings, float32 [B, F, D] on the CPU, without gradient.

        Raises:
            UserError: the clips are too short for one frame.
        """
        ...


@dataclass(frozen=True)
class Gaussian:
    """Number, mean and scatter matrix of a set of embeddings; the sum of two is that of both sets together.

    The scatter is the sum over all embeddings x of (x - mean)(x - mean)^T. A sum of x x^T would lose precision where
    the mean is much larger than the standard deviation.
    """

    count: int
    mean: Float64  # [D]
    scatter: Float64  # [D, D]

    @classmethod
    def of(cls, frames: NDArray[Any]) -> Self:
        """Return the statistics of embeddings [..., D] of any float dtype, all axes but the last taken as one.

        Without any embedding all three are 0.

        Raises:
            UserError: a value is not finite.
        """
        frames = np.asarray(frames, np.float64).reshape(-1, np.shape(frames)[-1])
        if not np.isfinite(frames).all():
            raise UserError("embeddings must be finite, got inf or NaN; the model may have diverged: check its samples")
        if not len(frames):
            return cls(0, np.zeros(frames.shape[1]), np.zeros((frames.shape[1],) * 2))
        mean = frames.mean(0)
        centred = frames - mean
        return cls(len(frames), mean, centred.T @ centred)

    def __add__(self, other: "Gaussian") -> "Gaussian":
        """Return the statistics of both sets together (Chan, Golub and LeVeque 1979, eq. 2.1)."""
        count = self.count + other.count
        if not count:
            return self
        step = other.mean - self.mean
        mean = self.mean + step * (other.count / count)
        scatter = self.scatter + other.scatter + np.outer(step, step) * (self.count * other.count / count)
        return Gaussian(count, mean, scatter)

    @property
    def covariance(self) -> Float64:
        """Unbiased covariance [D, D]: the scatter divided by count - 1.

        Raises:
            UserError: fewer than two embeddings.
        """
        if self.count < 2:
            raise UserError(f"embeddings must have 2 or more frames for a covariance, got {self.count}; raise CLIPS=")
        return self.scatter / (self.count - 1)


def _root(covariance: Float64) -> Float64:
    """Return the symmetric square root of a covariance [D, D].

    Negative eigenvalues of the covariance, which are rounding errors, count as 0.
    """
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Return the squared Frechet distance of two Gaussians (Dowson and Landau 1982).

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1^1/2 C2 C1^1/2)^1/2), with means m and covariances C. C1^1/2 C2 C1^1/2 is
    symmetric, so its eigenvalues are real. The root of C1 C2, which is not symmetric, can become complex by rounding.
    Rounding can make a distance of 0 slightly negative.

    Raises:
        UserError: a Gaussian has fewer than two embeddings.
    """
    first, second = one.covariance, other.covariance
    root = _root(first)
    product = root @ second @ root
    values = np.linalg.eigvalsh((product + product.T) / 2)
    cross = np.sqrt(np.maximum(values, 0)).sum()
    step = one.mean - other.mean
    return float(step @ step + np.trace(first) + np.trace(second) - 2 * cross)


def split_half(embeddings: NDArray[Any], seed: int) -> float:
    """Return the squared Frechet distance between two random halves of embeddings [B, F, D], split by clip.

    It is the score of a perfect model with B // 2 clips. If B is odd, one clip is left out. `seed` determines the
    halves.

    Raises:
        UserError: a value is not finite, or a half has fewer than two frames.
    """
    order = np.random.default_rng(seed).permutation(len(embeddings))
    half = len(order) // 2
    return frechet_distance(Gaussian.of(embeddings[order[:half]]), Gaussian.of(embeddings[order[half : 2 * half]]))


@dataclass(frozen=True)
class Extrapolation:
    """Least-squares line of the scores of subsets as a function of 1/N, with N the number of clips of a subset."""

    value: float  # at 1/N = 0
    slope: float  # per unit of 1/N
    r2: float  # coefficient of determination
    smallest: int  # clips of the smallest subset


def fad_infinity(embeddings: NDArray[Any], reference: Gaussian, seed: int) -> Extrapolation | None:
    """Return FAD extrapolated to infinitely many clips (Chong and Forsyth, CVPR 2020; Gui et al., ICASSP 2024).

    The bias of the score is linear in the inverse number of clips to first order. A line is fitted by least squares to
    the scores of all clips and of random subsets, with sizes evenly spaced in the inverse number.

    Args:
        embeddings: embeddings of the generated clips, [B, F, D].
        reference: statistics of the real clips.
        seed: seed of the subsets.

    Returns:
        The line; its `value` is the extrapolated FAD. None if there are too few clips: the smallest subset has a fifth
        of the clips and at least 2 D frames, since with fewer the bias is not linear, and must be below half of the
        clips.

    Raises:
        UserError: a value is not finite.
    """
    clips, frames, dimension = embeddings.shape
    smallest = max(round(clips * SMALLEST_SUBSET), -(-2 * dimension // frames))
    if smallest >= clips // 2:
        return None
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.round(1 / np.linspace(1 / clips, 1 / smallest, POINTS)).astype(int))
    inverse, scores = [], []
    for size in sizes.tolist():
        for _ in range(1 if size == clips else DRAWS):
            subset = embeddings[rng.choice(clips, size, replace=False)]
            inverse.append(1 / size)
            scores.append(frechet_distance(Gaussian.of(subset), reference))
    x, y = np.array(inverse), np.array(scores)
    slope, value = np.polyfit(x, y, 1)
    residual, total = np.square(y - value - slope * x).sum(), np.square(y - y.mean()).sum()
    return Extrapolation(float(value), float(slope), float(1 - residual / total) if total > 0 else 1.0, smallest)


@dataclass(frozen=True)
class FadScore:
    """FAD of generated clips (`value`), with its embedder, numbers of clips and reference.

    `frames_per_clip` is that of the embeddings, `seed` that of the extrapolation. `infinity` is None for too few clips
    to extrapolate. `warning` is empty if there are enough frames.
    """

    value: float
    embedder: str
    reference: str  # name of the set of real clips
    clips: int
    reference_clips: int
    frames_per_clip: int
    seed: int
    infinity: Extrapolation | None
    warning: str = ""


def score(
    embedder: str, generated: NDArray[Any], real: Gaussian, reference: str, reference_clips: int, seed: int
) -> FadScore:
    """Return the FAD of generated clips against real clips, with a warning if either set has fewer than 10 D frames.

    Args:
        embedder: name of the embedder.
        generated: embeddings of the generated clips, [B, F, D].
        real: statistics of the real clips by the same embedder.
        reference: name of the set of real clips.
        reference_clips: number of real clips.
        seed: seed of the subsets of the extrapolation.

    Raises:
        UserError: a value is not finite, or either set has fewer than two frames.
    """
    clips, frames, dimension = generated.shape
    fewest = min(clips * frames, real.count)
    wanted = FRAMES_PER_DIMENSION * dimension
    warning = ""
    if fewest < wanted:
        warning = (
            f"{fewest} frames for {dimension} dimensions; below {wanted} frames the score is mostly bias: "
            "compare only scores with equal numbers of clips, or raise CLIPS="
        )
    value = frechet_distance(Gaussian.of(generated), real)
    infinity = fad_infinity(generated, real, seed)
    return FadScore(value, embedder, reference, clips, reference_clips, frames, seed, infinity, warning)
