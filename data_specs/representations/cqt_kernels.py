"""Constant-Q kernels, the fast transform, its exact adjoint, and an approximate inverse of their product.

The kernels are nnAudio's (Cheuk et al., "nnAudio: An on-the-fly GPU Audio to Spectrogram Conversion Toolbox", IEEE
Access 2020), after Brown, "Calculation of a constant Q spectral transform", JASA 1991. The strided correlation of
nnAudio is computed in the frequency domain. With hop h, a padded length L = h M and the spectra X of the
clip and G_k of kernel k, the correlation's spectrum is X conj(G_k); keeping every h-th sample aliases it into M values,

    Y_k(m) = 1/h sum_r X(r M + m) conj(G_k(r M + m)),    0 <= m < M,

and one inverse FFT of length M gives bin k's frames. G_k is narrow, so that only a few of the rows r matter.

B batch, N samples, K = 216 bins, T = N / 100 + 1 frames, R rows of M values each of the lower half of the spectrum.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE

HOP = 100
LOWEST_HZ = 130.81  # C3
BINS_PER_OCTAVE = 36
BINS = 216
SPECTRUM_FLOOR = 1e-4  # of a kernel's peak: rows of its spectrum below it are omitted
INVERSE_FLOOR = 0.005  # of a bound on the eigenvalues: weaker directions are not amplified
ADJOINT_SCALE = HOP / 2  # irfft divides by L and counts frequencies twice, the adjoint of ifft divides by M = L / hop
_GROUP = 8  # adjacent bins share rows of the spectrum
_BLOCKS_AT_ONCE = 256


class Kernels(NamedTuple):
    """Time-domain kernels, complex64 [K, 2 reach], centred on a frame's middle, each times the root of its length."""

    values: np.ndarray
    reach: int  # samples on either side of a frame
    digest: str  # SHA-256, hex, of the values and of the other constants of the transform


@cache
def kernels() -> Kernels:
    """Return the kernels of nnAudio: Hann windows, unit l1 norm, then times the root of the length as in librosa.

    They are computed at the first call and kept.
    """
    from nnAudio.utils import create_cqt_kernels

    quality = 1 / (2 ** (1 / BINS_PER_OCTAVE) - 1)
    made, width, lengths, _ = create_cqt_kernels(
        quality, SAMPLE_RATE, LOWEST_HZ, n_bins=BINS, bins_per_octave=BINS_PER_OCTAVE, norm=1, window="hann"
    )
    used = np.flatnonzero(np.any(made != 0, axis=0))
    reach = max(width // 2 - int(used[0]), int(used[-1]) + 1 - width // 2)
    scaled = made[:, width // 2 - reach : width // 2 + reach] * np.sqrt(lengths.numpy())[:, None]
    values = np.ascontiguousarray(scaled, dtype=np.complex64)
    digest = hashlib.sha256(f"hop {HOP}, floor {SPECTRUM_FLOOR}, group {_GROUP}".encode())
    digest.update(values.tobytes())
    return Kernels(values, reach, digest.hexdigest())


class Group(NamedTuple):
    """Adjacent bins, the range of rows of the spectrum where they are not negligible, and their weights there."""

    bins: slice
    rows: slice
    weights: Tensor  # conj(G_k) / hop, complex64 [bins, rows, M]


class CqtTransform:
    """Transform of clips of one length, as a linear map from audio [B, N] to complex bins [B, K, T].

    Holds 24 MB of weights for clips of 8 seconds, and 32 MB more once `approximate_inverse` has been called.
    """

    def __init__(self, samples: int, device: torch.device) -> None:
        """Compute the weights for clips of `samples` N on `device`; takes about half a second for 8 seconds of audio.

        Raises:
            UserError: N is no multiple of the hop of 100, or too short to be reflected at its ends.
        """
        bank = kernels()
        if samples % HOP or samples <= bank.reach:
            raise UserError(
                f"a clip of {samples} samples cannot become cqt; give a multiple of {HOP} above {bank.reach}"
            )
        self.samples, self.frames, self.reach = samples, samples // HOP + 1, bank.reach
        self.period = _fast_length(-(-(samples + 2 * bank.reach) // HOP))  # M
        self.length = self.period * HOP  # L
        self.groups = [
            group._replace(weights=group.weights.to(device)) for group in _groups(bank, self.period, self.length)
        ]
        self.rows = max(group.rows.stop for group in self.groups)  # R
        self._inverse_blocks: Tensor | None = None

    def forward(self, audio: Tensor) -> Tensor:
        """Transform audio, float32 [B, N], to bins, complex64 [B, K, T]."""
        padded = torch.nn.functional.pad(audio, (self.reach, self.reach), mode="reflect")
        spectrum = self._spectrum(padded)
        folded = [(group.weights * spectrum[:, None, group.rows]).sum(dim=2) for group in self.groups]
        return torch.fft.ifft(torch.cat(folded, dim=1))[..., : self.frames]

    def adjoint(self, bins: Tensor) -> Tensor:
        """Map bins, complex64 [B, K, T], to float32 [B, N] by the adjoint of `forward`.

        That is <forward(x), y> = <x, adjoint(y)> for real x, where <,> is the real part of the inner product.
        """
        spectra = torch.fft.fft(bins, n=self.period)
        unfolded = spectra.new_zeros(len(bins), self.rows, self.period)
        for group in self.groups:
            unfolded[:, group.rows] += (group.weights.conj() * spectra[:, group.bins, None]).sum(dim=1)
        padded = self._waveform(unfolded) * ADJOINT_SCALE
        reach, end = self.reach, self.reach + self.samples
        inner = padded[:, reach:end]
        rest = (1, self.samples - 1 - reach)
        left = torch.nn.functional.pad(padded[:, :reach].flip(1), rest)
        right = torch.nn.functional.pad(padded[:, end : end + reach].flip(1), rest[::-1])
        return inner + left + right

    def approximate_inverse(self, audio: Tensor) -> Tensor:
        """Apply an approximate inverse of the map x -> adjoint(forward(x)) to float32 [B, N]; symmetric, semidefinite.

        It is that of a clip without ends, where the map joins only the R frequencies that fold onto the same m. So it
        falls into M Hermitian blocks of size R, which are inverted one by one, at the first call. Frequencies that no
        bin covers are attenuated, not amplified.
        """
        if self._inverse_blocks is None:
            with _without_autograd():
                self._inverse_blocks = _inverse_blocks(self.groups, self.rows, self.period)
        padded = torch.nn.functional.pad(audio, (self.reach, self.length - self.samples - self.reach))
        columns = self._inverse_blocks @ self._spectrum(padded).permute(2, 1, 0)
        return self._waveform(columns.permute(2, 1, 0))[:, self.reach : self.reach + self.samples]

    def _spectrum(self, padded: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(padded, n=self.length)[:, : self.rows * self.period]
        return spectrum.reshape(-1, self.rows, self.period)

    def _waveform(self, spectrum: Tensor) -> Tensor:
        return torch.fft.irfft(spectrum.reshape(-1, self.rows * self.period), n=self.length)


@lru_cache(maxsize=4)
def transform(samples: int, device: torch.device) -> CqtTransform:
    """Return the transform for clips of `samples` samples on `device`; the last four made are kept."""
    with _without_autograd():
        return CqtTransform(samples, device)


@contextmanager
def _without_autograd() -> Iterator[None]:
    # Tensors made in inference mode could never be used with gradients, and these are kept.
    with torch.inference_mode(False), torch.no_grad():
        yield


def _groups(bank: Kernels, period: int, length: int) -> list[Group]:
    groups = []
    for first in range(0, BINS, _GROUP):
        spectra = torch.fft.fft(torch.from_numpy(bank.values[first : first + _GROUP]), n=length)
        size = spectra.abs()
        heard = torch.nonzero((size > SPECTRUM_FLOOR * size.amax(dim=1, keepdim=True)).any(dim=0))
        rows = slice(int(heard[0]) // period, int(heard[-1]) // period + 1)
        weights = (
            spectra[:, rows.start * period : rows.stop * period].conj().reshape(-1, rows.stop - rows.start, period)
        )
        weights = weights / HOP
        if rows.start == 0:
            weights[:, 0, 0] = 0  # the one frequency that irfft counts once; far below the kernels' floor
        groups.append(Group(slice(first, first + len(weights)), rows, weights))
    return groups


def _inverse_blocks(groups: list[Group], rows: int, period: int) -> Tensor:
    """Return regularized inverses of the M blocks of adjoint(forward(.)), complex64 [M, R, R]; `period` is M."""
    blocks = groups[0].weights.new_zeros(period, rows, rows)
    for group in groups:
        weights = group.weights.permute(2, 0, 1)
        blocks[:, group.rows, group.rows] += weights.mH @ weights * ADJOINT_SCALE
    largest = torch.linalg.matrix_norm(blocks, ord=1).max()  # no eigenvalue lies above
    for first in range(0, period, _BLOCKS_AT_ONCE):
        part = slice(first, first + _BLOCKS_AT_ONCE)
        values, vectors = torch.linalg.eigh(blocks[part])
        values = values.clamp_min(0)
        inverted = values / (values.square() + (INVERSE_FLOOR * largest).square())
        blocks[part] = (vectors * inverted[:, None]) @ vectors.mH
    return blocks


def _fast_length(least: int) -> int:
    """Return the smallest multiple of 16 from `least` up with no prime factor above 5, a fast length of FFTs."""
    quotient = -(-least // 16)
    while _without_small_factors(quotient) > 1:
        quotient += 1
    return 16 * quotient


def _without_small_factors(number: int) -> int:
    for factor in (2, 3, 5):
        while number % factor == 0:
            number //= factor
    return number
