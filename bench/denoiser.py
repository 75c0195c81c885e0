"""Error of an EDM denoiser by noise level and channel group, beside a Wiener filter: `python -m bench.denoiser`.

The filter is linear, acts on channels independently and does not use controls. A network with a larger error has not
learned more than the power spectrum of each channel. B clips, C channels, T frames, K = T // 2 + 1.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from data_specs.cli import Parser, add_threads, integer, run, use_threads
from data_specs.errors import UserError
from training.data.dataset import Dataset
from training.diffusion.edm import EDM, loss_weight
from training.evaluation.tables import markdown_table
from training.model import TrainedModel, load_model

SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 4.0, 10.0, 40.0)
FIT_CLIPS = 1000  # largest number of train clips to which the filter is fitted
BATCH = 16  # clips


def fit_wiener(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean [C, 1] and power spectrum [C, K] of clips [B, C, T], averaged over clips.

    The Fourier transform is orthonormal; K = T // 2 + 1. The mean is subtracted before the transform.
    """
    mean = x.mean((0, 2))[:, None]
    return mean, (torch.fft.rfft(x - mean, norm="ortho").abs() ** 2).mean(0)


def wiener(noisy: Tensor, sigma: float, mean: Tensor, power: Tensor) -> Tensor:
    """Return the Wiener estimate of clips `noisy` [B, C, T] in white noise of standard deviation `sigma`.

    The gain at each frequency is S / (S + sigma^2), with S from `power` [C, K]; `mean` [C, 1] is that of clean clips.
    """
    spectrum = torch.fft.rfft(noisy - mean, norm="ortho")
    return torch.fft.irfft(spectrum * (power / (power + sigma**2)), n=noisy.shape[-1], norm="ortho") + mean


def group_errors(estimate: Tensor, clean: Tensor, sigma: float, sigma_data: float, groups: int) -> list[float]:
    """Return EDM-weighted mean squared errors of `estimate` from `clean`, both [B, C, T].

    Args:
        estimate, clean: denoised and clean data.
        sigma: noise level, which with `sigma_data` determines the weight.
        sigma_data: standard deviation of the data of the EDM.
        groups: number of groups of successive channels.

    Returns:
        The error over all channels, then that of each group; if `groups` does not divide C, there may be fewer groups.
    """
    weight = float(loss_weight(torch.tensor(sigma), sigma_data))
    per_channel = weight * (estimate - clean).square().mean((0, 2))
    bands = (float(band.mean()) for band in per_channel.chunk(groups))
    return [float(per_channel.mean()), *bands]


def load_crops(model: TrainedModel, dataset: Dataset, clips: int, frames: int) -> tuple[Tensor, Tensor]:
    """Return scaled data [B, C, T] and controls [B, R, T] of the first T = `frames` frames of the first `clips` clips.

    If the dataset has fewer clips, or clips fewer frames, all are used. R control rows.
    """
    found = [dataset[i] for i in range(min(clips, len(dataset)))]
    data = torch.stack([torch.as_tensor(clip["data"])[..., :frames] for clip in found])
    names = model.data.layout.names
    controls = {n: torch.stack([torch.as_tensor(clip[n])[..., :frames] for clip in found]) for n in names}
    return model.to_model(data), model.data.layout.stack(controls)


@torch.no_grad()
def measure(
    model: TrainedModel, folder: Path, clips: int, frames: int, groups: int
) -> list[tuple[float, list[float], list[float]]]:
    """Return (sigma, errors of the network, errors of the filter) for each of SIGMAS, with the same noise.

    Errors are those of `group_errors` with `groups` groups.

    Args:
        model: an EDM on encodec.
        folder: PVT-encodec, or the folder above it; the filter is fitted to its train clips.
        clips: number of valid clips on which errors are measured.
        frames: number of frames of each clip.
        groups: number of groups of channels.

    Raises:
        UserError: the model is no EDM on encodec, or the dataset does not fit.
    """
    if not isinstance(model.paradigm, EDM) or len(model.data.shape) != 2:
        raise UserError(f"RUN= must be an EDM on encodec, got {model!r}; give another")
    format_name = model.config.format
    train = Dataset(folder, "train", format_name=format_name)
    mean, power = fit_wiener(load_crops(model, train, FIT_CLIPS, frames)[0])
    clean, controls = load_crops(model, Dataset(folder, "valid", format_name=format_name), clips, frames)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for sigma in SIGMAS:
        noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
        denoised = torch.cat(
            [
                model.paradigm.denoise(model.network, x, torch.full((len(x),), sigma), c)
                for x, c in zip(noisy.split(BATCH), controls.split(BATCH), strict=True)
            ]
        )
        network, filtered = (
            group_errors(estimate, clean, sigma, model.paradigm.sigma_data, groups)
            for estimate in (denoised, wiener(noisy, sigma, mean, power))
        )
        rows.append((sigma, network, filtered))
    return rows


def table(rows: list[tuple[float, list[float], list[float]]]) -> str:
    """Return the rows of `measure` as a Markdown table with `network / filter` in each cell, with three decimals."""
    groups = len(rows[0][1]) - 1
    cells = (
        [f"{sigma:g}", *(f"{a:.3f} / {b:.3f}" for a, b in zip(network, filtered, strict=True))]
        for sigma, network, filtered in rows
    )
    return markdown_table(["sigma", "all", *(f"band {i + 1} of {groups}" for i in range(groups))], cells)


def _measure(arguments: argparse.Namespace) -> int:
    use_threads(arguments)
    clips, frames, groups = (integer(n, getattr(arguments, n.lower())) for n in ("CLIPS", "FRAMES", "GROUPS"))
    print(table(measure(load_model(arguments.run), arguments.data, clips, frames, groups)))
    return 0


def main() -> int:
    """Print the table of errors for the model and the dataset of the command line, and return the exit status."""
    parser = Parser(prog="python -m bench.denoiser", description=__doc__)
    add = parser.add_argument
    add("--run", type=Path, default=Path("edm"), metavar="MODEL", help="run folder or snapshot of an EDM (edm)")
    add("--data", type=Path, required=True, metavar="FOLDER", help="dataset of the run")
    add("--clips", metavar="N", default="64", help="valid clips (64)")
    add("--frames", metavar="N", default="150", help="frames of each clip (150)")
    add("--groups", metavar="N", default="4", help="bands of channels (4)")
    add_threads(parser)
    parser.set_defaults(command=_measure)
    return run(parser, None)


if __name__ == "__main__":
    raise SystemExit(main())
