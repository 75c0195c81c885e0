"""DDPM: discrete time, noise prediction (Ho et al. 2020)."""

from typing import Literal

import torch
from torch import Tensor, nn

from data_specs.spec import StrictModel
from training.conditioning import ControlLayout
from training.diffusion.base import SamplerSteps, TrainedSteps, chosen, conditioning_of, mean_per_clip, per_clip
from training.diffusion.continuous import ContinuousParadigm, Level, SigmaOptions
from training.diffusion.noise import Noise
from training.diffusion.schedules import SCHEDULES, karras_sigmas, sigmas_of, strided_times, with_signal_left


class DDPMConfig(StrictModel):
    """Number of time steps T and the schedule of alphabar."""

    steps: TrainedSteps = 1000
    schedule: Literal["linear", "cosine"] = "linear"


class DDPMOptions(SigmaOptions):
    """Sampling. `ancestral` and `ddim` walk trained times in strides; `euler` and `heun` choose their own levels."""

    sampler: Literal["ancestral", "ddim", "euler", "heun"] = "ancestral"
    steps: SamplerSteps | None = None  # every time step
    limit: Level | None = 3.0  # twice what clips of music reach; a well-trained network never does


class DDPM(ContinuousParadigm):
    """eps(x_t, t) trained on the mean squared error of the noise (eq. 14) at x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps.

    Time reaches the network as the noise level, which is what makes it a denoiser at any level between the trained.
    """

    name = "ddpm"
    Config = DDPMConfig
    Options = DDPMOptions

    def __init__(self, config: DDPMConfig, layout: ControlLayout, classes: int | None = None) -> None:
        super().__init__(config, layout, classes)
        self.config = config
        self.sigmas = sigmas_of(with_signal_left(SCHEDULES[config.schedule](config.steps)))  # [T + 1], 0 first

    def denoise(self, network: nn.Module, x: Tensor, sigma: Tensor, controls: Tensor | None) -> Tensor:
        level = per_clip(sigma, x)
        return x - level * self._predicted_noise(network, x / (1 + level**2).sqrt(), sigma, controls)

    def _predicted_noise(self, network: nn.Module, x_t: Tensor, sigma: Tensor, controls: Tensor | None) -> Tensor:
        predicted: Tensor = network(x_t, conditioning_of(sigma), controls).float()
        return predicted

    def loss(self, network: nn.Module, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        times = 1 + noise.integers(self.config.steps, ())
        sigma = self.sigmas.to(times.device, torch.float32)[times]
        added = noise.normal(tuple(x0.shape[1:]))
        level = per_clip(sigma, x0)
        x_t = (x0 + level * added) / (1 + level**2).sqrt()
        return mean_per_clip((self._predicted_noise(network, x_t, sigma, controls) - added) ** 2)

    def levels(self, options: StrictModel | None) -> tuple[str, SigmaOptions, list[float], float]:
        asked = chosen(options, DDPMOptions)
        if asked.sampler in ("ancestral", "ddim"):
            sigmas = [float(self.sigmas[t]) for t in strided_times(self.config.steps, asked.steps)]
        else:
            lowest, highest = float(self.sigmas[1]), float(self.sigmas[-1])
            sigmas = karras_sigmas(asked.steps or self.config.steps, lowest, highest, asked.rho)
        return asked.sampler, asked, sigmas, (1 + sigmas[0] ** 2) ** 0.5
