"""Experiments: small networks trained with each paradigm on data of low dimension. S samples."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.io.files import Json
from training.conditioning import ControlLayout
from training.diffusion import BatchNoise, Paradigm, build_paradigm
from training.diffusion.samplers import SamplerState
from training.networks import build_network, parameter_count
from training.toys.data import ToyData, code_roll, digits, swiss_roll
from training.toys.distance import compared

NO_CONTROLS = ControlLayout(())
SMALL_UNET = {"kind": "unet", "channels": 48, "factors": [2], "embedding": 128, "code_embedding": 24}


@dataclass(frozen=True)
class Toy:
    """Options of an experiment; `figure` is the number of its figure in the report, empty if there is none."""

    title: str
    figure: str
    kind: str  # kind of figure: points, images or codes
    paradigm: str
    network: Json
    data: Callable[[Path | None], ToyData]
    steps: int
    samples: int
    options: Json = field(default_factory=dict)  # options of sampling
    diffusion: Json = field(default_factory=dict)
    batch: int = 512
    learning_rate: float = 2e-3


@dataclass(frozen=True)
class Result:
    """Results of an experiment, and the states during sampling that its figure shows."""

    numbers: Json
    data: ToyData
    frames: list[tuple[float, Tensor]]  # share of the steps done, and state [n, *shape]


MLP = {"kind": "mlp", "layers": 4, "channels": 128}
CNN = {"kind": "cnn", "blocks": 3, "channels": 32, "embedding": 64}
FRAMES = (0.0, 0.35, 0.6, 0.75, 0.87, 0.95, 1.0)  # shares of the steps, denser where samples change most
TOYS: dict[str, Toy] = {
    "swiss-ddpm": Toy("DDPM, MLP of 4 x 128", "3.1", "points", "ddpm", MLP, swiss_roll((2,)), 5000, 5000),
    "swiss-edm": Toy("EDM, MLP of 4 x 128", "", "points", "edm", MLP, swiss_roll((2,)), 5000, 5000),
    "digits-ddpm": Toy("DDPM, CNN", "3.2", "images", "ddpm", CNN, digits, 4000, 1000, {"steps": 250}, batch=64),
    "digits-edm": Toy("EDM, CNN", "", "images", "edm", CNN, digits, 2000, 1000, batch=64),
    "codes-discdpm": Toy(
        "DiscDPM, U-Net, 2 codes of 40 classes",
        "3.3",
        "codes",
        "discdpm",
        SMALL_UNET,
        code_roll,
        1500,
        5000,
        diffusion={"steps": 100},
    ),
    "swiss-unet": Toy(
        "DDPM, 1-D U-Net",
        "3.6",
        "points",
        "ddpm",
        SMALL_UNET,
        swiss_roll((1, 2)),
        2000,
        5000,
        {"steps": 200},
        batch=256,
    ),
}


def run_toy(toy: Toy, path: Path | None = None, seed: int = 0) -> Result:
    """Run one experiment: train, sample and measure.

    On one machine, results other than times are a function of the seed. Torch's global seed is set to it.

    Args:
        toy: the experiment.
        path: IDX file of MNIST images for an experiment on digits; None for the digits of scikit-learn.
        seed: seed of initial weights and random numbers.

    Raises:
        UserError: `path` is not an IDX file of images.
    """
    started = time.perf_counter()
    data = toy.data(path)
    paradigm = build_paradigm(toy.paradigm, toy.diffusion, NO_CONTROLS, classes=data.classes)
    torch.manual_seed(seed)
    shape = tuple(data.items.shape[1:])
    network = build_network(toy.network, shape, NO_CONTROLS, classes=data.classes, vocabulary=paradigm.vocabulary)
    scale = 1 if data.classes else paradigm.sigma_data
    last_loss = _train(toy, network, paradigm, data.items * scale, seed)
    trained = time.perf_counter()
    final, frames = _sample(toy, network, paradigm, shape, seed)
    finished = time.perf_counter()
    distance, halves = compared(
        data.points(final / scale if data.classes is None else final), data.points(data.items), data.count
    )
    numbers = {
        "title": toy.title,
        "figure": toy.figure,
        "parameters": parameter_count(network),
        "steps": toy.steps,
        "batch": toy.batch,
        "loss": last_loss,
        "evaluations": paradigm.evaluations(paradigm.options(toy.options)),
        "training_seconds": trained - started,
        "sampling_seconds": finished - trained,
        "count": data.count,
        "distance": distance,
        "halves": halves,
        "ratio": distance / halves,
    }
    return Result(numbers, data, frames)


def _train(toy: Toy, network: nn.Module, paradigm: Paradigm, items: Tensor, seed: int) -> float:
    """Train `network` in place on `items`; return the mean loss of the last tenth of the steps (at least one step).

    Adam is used with a learning rate that falls linearly to 0. At the end the weights are set to their moving average
    of decay 0.995.
    """
    optimizer = torch.optim.Adam(network.parameters(), toy.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / toy.steps)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    losses = []
    for step in range(toy.steps):
        noise = BatchNoise(seed * 1_000_003 + step, toy.batch)
        chosen = items[noise.integers(len(items), ())]
        loss = paradigm.loss(network, chosen, None, noise).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        losses.append(loss.detach())
    network.load_state_dict(average.module.state_dict())
    return float(torch.stack(losses[-max(1, toy.steps // 10) :]).mean())


def _sample(
    toy: Toy, network: nn.Module, paradigm: Paradigm, shape: Shape, seed: int
) -> tuple[Tensor, list[tuple[float, Tensor]]]:
    """Return S = `toy.samples` samples [S, *shape], and (share of the steps done, state [S, *shape]) near FRAMES."""
    frames: list[tuple[float, Tensor]] = []

    def keep(state: SamplerState) -> None:
        if state.step in {max(1, round(state.steps * share)) for share in FRAMES}:
            frames.append((state.step / state.steps, state.x))

    noise = BatchNoise(seed + 1, toy.samples)
    final = paradigm.sample(network, shape, None, noise, paradigm.options(toy.options), callback=keep)
    return final, frames
