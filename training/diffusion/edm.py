"""EDM: preconditioned denoising in continuous time (Karras et al. 2022), with s(t) = 1 and sigma(t) = t.

Equations and tables are those of this paper.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import pydantic
import torch
from torch import Tensor, nn

from data_specs.strict import StrictModel
from training.diffusion.base import SamplerSteps, options_or_default
from training.diffusion.continuous import (
    ContinuousParadigm,
    DenoisingParadigm,
    Level,
    SigmaOptions,
    conditioning_of,
    mean_per_clip,
    per_clip,
)
from training.diffusion.noise import Noise
from training.diffusion.schedules import karras_sigmas
from training.sampling.defaults import DEFAULT_EDM_SAMPLER, DEFAULT_EDM_STEPS


class EDMConfig(StrictModel):
    """Config of training, with the values of table 1.

    ln(sigma) is normal with mean `p_mean` and standard deviation `p_std`. Data are scaled to the standard deviation
    `sigma_data`.
    """

    p_mean: float = -1.2
    p_std: Level = 1.2
    sigma_data: Level = 0.5


class EDMOptions(SigmaOptions):
    """Options of sampling: `sampler`, and `steps` noise levels from `sigma_max` to `sigma_min`, followed by 0.

    The default levels are those of the paper; the default sampler, `ipndm`, is not. With churn it is `heun`.
    """

    sampler: Literal["heun", "euler", "ancestral", "ddim", "dpmpp_2m", "ipndm"] = DEFAULT_EDM_SAMPLER
    steps: SamplerSteps = DEFAULT_EDM_STEPS
    sigma_min: Level = 0.002
    sigma_max: Level = 80.0

    @pydantic.model_validator(mode="before")
    @classmethod
    def _stochastic(cls, values: Any) -> Any:
        """Return `values` with sampler "heun" if s_churn is not 0 and no sampler is given; else unchanged.

        Churn removes the history that multistep samplers use.
        """
        if isinstance(values, dict) and values.get("s_churn") and "sampler" not in values:
            return {**values, "sampler": "heun"}
        return values

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min must be below sigma_max = {self.sigma_max:g}")
        return self


def preconditioning(sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return c_skip, c_out, c_in and c_noise of table 1 for noise levels `sigma`, each with the shape of `sigma`."""
    total = (sigma**2 + sigma_data**2).sqrt()
    return (sigma_data / total) ** 2, sigma * sigma_data / total, 1 / total, conditioning_of(sigma)


def loss_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """Return lambda(sigma) = 1 / c_out^2 (table 1), the weight of the squared error, with the shape of `sigma`.

    A network whose output is 0 then has an expected loss of 1 at every noise level.
    """
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


class PreconditionedParadigm(ContinuousParadigm):
    """Paradigm with the denoiser D(x, sigma) = c_skip x + c_out F(c_in x, c_noise) of a network F (eq. 7).

    The coefficients are those of `preconditioning`.
    """

    @property
    def sigma_data(self) -> float:
        return self.config.sigma_data

    def denoise(self, network: nn.Module, x: Tensor, sigma: Tensor, controls: Tensor | None) -> Tensor:
        c_skip, c_out, c_in, c_noise = preconditioning(sigma, self.sigma_data)
        raw = network(per_clip(c_in, x) * x, c_noise, controls)
        return per_clip(c_skip, x) * x + per_clip(c_out, x) * raw.float()


class EDM(PreconditionedParadigm, DenoisingParadigm):
    """Preconditioned denoiser (eq. 7), trained with the squared error times `loss_weight` (eq. 2 and 8)."""

    name = "edm"
    Config = EDMConfig
    Options = EDMOptions
    published: ClassVar[Mapping[str, Any]] = {"sampler": "heun"}

    def loss(self, network: nn.Module, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        sigma = torch.exp(self.config.p_mean + self.config.p_std * noise.normal(()))
        noisy = x0 + per_clip(sigma, x0) * noise.normal(tuple(x0.shape[1:]))
        denoised = self.denoise(network, noisy, sigma, controls)
        return loss_weight(sigma, self.sigma_data) * mean_per_clip((denoised - x0) ** 2)

    def levels(self, options: StrictModel | None) -> tuple[str, SigmaOptions, list[float], float]:
        chosen = options_or_default(options, EDMOptions)
        sigmas = karras_sigmas(chosen.steps, chosen.sigma_min, chosen.sigma_max, chosen.rho)
        return chosen.sampler, chosen, sigmas, chosen.sigma_max
