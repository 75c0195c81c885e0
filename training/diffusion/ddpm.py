"""DDPM: noise prediction in discrete time (Ho et al. 2020)."""

from typing import Literal

import torch
from pydantic import AliasChoices, Field
from torch import Tensor, nn

from data_specs.strict import StrictModel
from training.conditioning import ControlLayout
from training.diffusion.base import SamplerSteps, TrainedSteps, options_or_default
from training.diffusion.continuous import (
    DenoisingParadigm,
    Level,
    SigmaOptions,
    conditioning_of,
    mean_per_clip,
    per_clip,
)
from training.diffusion.noise import Noise
from training.diffusion.schedules import SCHEDULES, karras_sigmas, sigmas_of, strided_times, with_signal_left


class DDPMConfig(StrictModel):
    """Number of trained times (`steps`), and schedule of alphabar over them, a key of `SCHEDULES`."""

    steps: TrainedSteps = 1000
    schedule: Literal["linear", "cosine"] = "linear"


class DDPMOptions(SigmaOptions):
    """Options of sampling.

    The samplers `ancestral` and `ddim` use `steps` of the trained times. The others use `steps` levels of
    `karras_sigmas` between the lowest and the highest trained level. For `steps` None there are as many as trained.
    """

    sampler: Literal["ancestral", "ddim", "euler", "heun", "dpmpp_2m", "ipndm"] = "ancestral"
    steps: SamplerSteps | None = None  # None for all trained times
    rms_threshold: Level | None = Field(default=3.0, validation_alias=AliasChoices("rms_threshold", "limit"))


class DDPM(DenoisingParadigm):
    """Prediction of eps in x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps, with the mean squared error (eq. 14).

    abar is alphabar at the time t, at least 4e-5 (see `with_signal_left`). The network is conditioned on ln(sigma) / 4
    instead of t, with sigma = sqrt((1 - abar) / abar), so that it can be evaluated between trained times.
    """

    name = "ddpm"
    Config = DDPMConfig
    Options = DDPMOptions

    def __init__(self, config: DDPMConfig, layout: ControlLayout, classes: int | None = None) -> None:
        super().__init__(config, layout, classes)
        self.sigmas = sigmas_of(with_signal_left(SCHEDULES[config.schedule](config.steps)))  # [T + 1], 0 first
        self._on: dict[torch.device, Tensor] = {}  # float32, copied to each device once

    def denoise(self, network: nn.Module, x: Tensor, sigma: Tensor, controls: Tensor | None) -> Tensor:
        level = per_clip(sigma, x)
        return x - level * self._predicted_noise(network, x / (1 + level**2).sqrt(), sigma, controls)

    def _predicted_noise(self, network: nn.Module, x_t: Tensor, sigma: Tensor, controls: Tensor | None) -> Tensor:
        return network(x_t, conditioning_of(sigma), controls).float()

    def loss(self, network: nn.Module, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        times = 1 + noise.integers(self.config.steps, ())
        if times.device not in self._on:
            self._on[times.device] = self.sigmas.to(times.device, torch.float32)
        sigma = self._on[times.device][times]
        added = noise.normal(tuple(x0.shape[1:]))
        level = per_clip(sigma, x0)
        x_t = (x0 + level * added) / (1 + level**2).sqrt()
        return mean_per_clip((self._predicted_noise(network, x_t, sigma, controls) - added) ** 2)

    def levels(self, options: StrictModel | None) -> tuple[str, SigmaOptions, list[float], float]:
        chosen = options_or_default(options, DDPMOptions)
        if chosen.sampler in ("ancestral", "ddim"):
            sigmas = [float(self.sigmas[t]) for t in strided_times(self.config.steps, chosen.steps)]
        else:
            lowest, highest = float(self.sigmas[1]), float(self.sigmas[-1])
            sigmas = karras_sigmas(chosen.steps or self.config.steps, lowest, highest, chosen.rho)
        return chosen.sampler, chosen, sigmas, (1 + sigmas[0] ** 2) ** 0.5
