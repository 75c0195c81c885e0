"""Figures of the experiments: states from noise to samples, beside the data."""

from pathlib import Path

import numpy as np
from torch import Tensor

from data_specs.io.files import Json
from training.toys.experiments import Result, Toy

INK, PAPER, FAINT = "#1f2430", "#fbfaf7", "#c9c4b8"


def draw(toy: Toy, result: Result, path: Path) -> None:
    """Write the figure of one experiment to the image file `path`: states during sampling, and the data."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = len(result.frames) + 1
    figure, axes = plt.subplots(1, columns, figsize=(2.05 * columns, 2.9), dpi=150, facecolor=PAPER)
    DRAWINGS[toy.kind](axes, result)
    for axis, (done, _) in zip(axes, result.frames, strict=False):
        axis.set_title("samples" if done == 1 else f"{done:.0%} of the steps", fontsize=8.5, color=INK)
    axes[0].set_title("after the first step", fontsize=8.5, color=INK)
    axes[-1].set_title("data", fontsize=8.5, color=INK, fontweight="bold")
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    numbers = result.numbers
    figure.text(0.012, 0.95, toy.title, fontsize=11.5, color=INK, fontweight="bold", va="top")
    figure.text(0.012, 0.045, _caption(numbers), fontsize=8, color="#6b6f7a")
    figure.subplots_adjust(left=0.012, right=0.988, top=0.8, bottom=0.11, wspace=0.06)
    figure.savefig(path, facecolor=PAPER)
    plt.close(figure)


def _caption(numbers: Json) -> str:
    return (
        f"sliced Wasserstein distance to data {numbers['distance']:.4f}, between halves of the data "
        f"{numbers['halves']:.4f} (N = {numbers['count']}); {numbers['parameters'] / 1000:.0f} k parameters, "
        f"{numbers['steps']} steps of {numbers['batch']}, {numbers['evaluations']} evaluations"
    )


def _unit(x: Tensor) -> np.ndarray:
    """Return states [n, ...] of two values each, with each value standardized over the n states: float64 [n, 2]."""
    flat = x.flatten(1)
    return np.asarray(((flat - flat.mean(0)) / flat.std(0)).tolist())


def _draw_points(axes: np.ndarray, result: Result) -> None:
    """Draw the first 1500 points of each state, standardized, over the data in grey; the last panel has only data.

    The color of a point is the distance of its final position from the origin.
    """
    shown = 1500
    data = _unit(result.data.items)[:shown]
    ends = _unit(result.frames[-1][1])[:shown]
    colors = np.hypot(ends[:, 0], ends[:, 1])
    for axis, (_, state) in zip(axes, result.frames, strict=False):
        points = _unit(state)[:shown]
        axis.scatter(data[:, 0], data[:, 1], s=1.2, c=FAINT, alpha=0.5, linewidths=0)
        axis.scatter(points[:, 0], points[:, 1], s=3.2, c=colors, cmap="plasma", alpha=0.85, linewidths=0)
    axes[-1].scatter(data[:, 0], data[:, 1], s=3.2, c=INK, alpha=0.7, linewidths=0)
    for axis in axes:
        axis.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")


def _draw_codes(axes: np.ndarray, result: Result) -> None:
    """Draw the grid of pairs of codes in each panel; brightness is the square root of the share of items in a cell."""
    classes = result.data.classes or 1
    for axis, state in zip(axes, [*(state for _, state in result.frames), result.data.items], strict=True):
        codes = state.flatten(1)
        counts = np.bincount((codes[:, 1] * classes + codes[:, 0]).numpy(), minlength=classes**2)
        share = counts.reshape(classes, classes) / len(codes)
        axis.imshow(np.sqrt(share), origin="lower", cmap="magma", vmin=0, vmax=0.085, interpolation="nearest")


def _draw_images(axes: np.ndarray, result: Result) -> None:
    """Draw the first 25 images of each state, and of the data, in a grid in its panel.

    Brightness is standardized over the images of a panel.
    """
    rows, columns = 5, 5
    for axis, state in zip(axes, [*(state for _, state in result.frames), result.data.items], strict=True):
        images = state[: rows * columns, 0]
        spread = (images - images.mean()) / images.std()
        height, width = spread.shape[1:]
        canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
        for index, image in enumerate(spread):
            top, left = index // columns * (height + 1), index % columns * (width + 1)
            canvas[top : top + height, left : left + width] = image.numpy()
        axis.imshow(canvas, cmap="bone_r", vmin=-1.0, vmax=2.2, interpolation="nearest")


DRAWINGS = {"points": _draw_points, "codes": _draw_codes, "images": _draw_images}
