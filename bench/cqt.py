"""Time of the constant-Q transform: this project, nnAudio, librosa, and the FFTs alone, which are a lower bound."""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.fixtures import Context, audio
from bench.table import Row, at_least, at_most, interleaved
from data_specs.representations.cqt import Cqt
from data_specs.representations.cqt_kernels import BINS, BINS_PER_OCTAVE, HOP, LOWEST_HZ, SAMPLE_RATE, transform

CLIPS, REPEATS = 2, 7
OURS, NNAUDIO, LIBROSA, LIMIT = "this project", "nnAudio CQT1992v2", "librosa.cqt", "one FFT and 216 short inverse FFTs"


def rows(context: Context) -> list[Row]:
    """Return rows of milliseconds per clip of 8 s on one thread, and of the largest difference from nnAudio."""
    torch.set_num_threads(1)
    clips = torch.from_numpy(audio(context.scratch, CLIPS))
    cqt, reference = Cqt(), nnaudio()

    def each(compute: Callable[[Tensor], object]) -> Callable[[], int]:
        def work() -> int:
            with torch.no_grad():
                for clip in clips.split(1):
                    compute(clip)
            return len(clips)

        return work

    ways = {OURS: cqt.encode, NNAUDIO: reference, LIBROSA: librosa_cqt, LIMIT: ffts}
    timings = interleaved({way: each(compute) for way, compute in ways.items()}, REPEATS)
    figure = "transform an 8 s clip, one thread"
    return [
        timings.row(figure, OURS, NNAUDIO, at_least(10)),
        timings.row(figure, OURS, LIBROSA),
        timings.row(figure, OURS, LIMIT, limit=True),
        Row("largest difference from nnAudio", "of its maximum", error(cqt, reference, clips), budget=at_most(2e-4)),
    ]


def nnaudio(device: torch.device | None = None) -> Callable[[Tensor], Tensor]:
    """Return the transform of nnAudio with our parameters: float32 [B, 1, N] -> [B, K, T, 2], real and imaginary part.

    K bins, T frames. `device` is that of its kernels; None for the CPU.
    """
    from nnAudio.features.cqt import CQT1992v2

    module = CQT1992v2(
        sr=SAMPLE_RATE,
        hop_length=HOP,
        fmin=LOWEST_HZ,
        n_bins=BINS,
        bins_per_octave=BINS_PER_OCTAVE,
        output_format="Complex",
        verbose=False,
    ).to(device or torch.device("cpu"))
    return lambda clips: module(clips[:, 0])


def librosa_cqt(clips: Tensor) -> object:
    """Return the transform by librosa, with our parameters, of the first clip of `clips` [B, 1, N]."""
    import librosa

    return librosa.cqt(
        clips[0, 0].numpy(),
        sr=SAMPLE_RATE,
        hop_length=HOP,
        fmin=LOWEST_HZ,
        n_bins=BINS,
        bins_per_octave=BINS_PER_OCTAVE,
    )


def ffts(clips: Tensor) -> Tensor:
    """Compute the FFTs of the transform of this project alone: that of `clips`, and one inverse FFT for each bin."""
    made = transform(clips.shape[-1], clips.device)
    spectrum = torch.fft.rfft(clips[:, 0], n=made.length)
    return torch.fft.ifft(spectrum[:, : made.period].expand(BINS, -1))


def error(cqt: Cqt, reference: Callable[[Tensor], Tensor], clips: Tensor) -> float:
    """Return the largest difference of `cqt` from `reference` on `clips`, divided by the largest value of `reference`.

    Both are absolute values. `reference` is the result of `nnaudio`.
    """
    with torch.no_grad():
        expected = reference(clips).permute(0, 3, 1, 2)
        return float((cqt.encode(clips) - expected).abs().max() / expected.abs().max())
