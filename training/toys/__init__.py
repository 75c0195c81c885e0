"""Experiments of each paradigm on data of low dimension (figures 3.1, 3.2, 3.3 and 3.6 of the report)."""

from collections.abc import Iterable
from pathlib import Path

from data_specs.io.files import Json, write_json
from data_specs.registry import lookup

NAMES = ("swiss-ddpm", "swiss-edm", "digits-ddpm", "digits-edm", "codes-discdpm", "swiss-unet")


def run(out: Path, names: Iterable[str] = NAMES, mnist: Path | None = None, seed: int = 0) -> dict[str, Json]:
    """Run experiments; write `<name>.png` for each and `toys.json` with all results so far, and print a line for each.

    Args:
        out: folder to write to, created if needed.
        names: names of the experiments, run in this order.
        mnist: IDX file of MNIST images for the experiments on digits; None for the digits of scikit-learn.
        seed: seed of initial weights and random numbers.

    Returns:
        Results of each experiment by its name.

    Raises:
        UserError: an unknown experiment, or a file that is not an IDX file of images.
    """
    from training.toys.experiments import TOYS, run_toy
    from training.toys.figures import draw

    numbers = {}
    chosen = {name: lookup(TOYS, name, "ONLY=") for name in names}
    out.mkdir(parents=True, exist_ok=True)
    for name, toy in chosen.items():
        result = run_toy(toy, mnist, seed)
        numbers[name] = result.numbers
        draw(toy, result, out / f"{name}.png")
        write_json(out / "toys.json", numbers)
        print(
            f"{name}: sliced Wasserstein distance {result.numbers['distance']:.4f} to data, "
            f"{result.numbers['halves']:.4f} between halves (ratio {result.numbers['ratio']:.2f}), "
            f"{result.numbers['training_seconds'] + result.numbers['sampling_seconds']:.0f} s",
            flush=True,
        )
    return numbers
