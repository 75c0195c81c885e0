"""What paradigms over continuous data share: sampling through a denoiser, with guidance, by any sigma sampler."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from data_specs.spec import StrictModel
from training.diffusion.base import Paradigm
from training.diffusion.guidance import Guidance, Weights
from training.diffusion.noise import Noise
from training.diffusion.samplers import Callback, Churn, Denoiser, sample_ancestral, sample_euler, sample_heun

Level = Annotated[float, Field(gt=0)]


class SigmaOptions(StrictModel):
    """Options common to all sigma samplers; the published values are the defaults of each paradigm's own class."""

    s_churn: Annotated[float, Field(ge=0)] = 0.0
    s_min: Annotated[float, Field(ge=0)] = 0.0
    s_max: Annotated[float, Field(gt=0, allow_inf_nan=True)] = math.inf
    s_noise: Level = 1.0
    rho: Level = 7.0
    limit: Level | None = None  # root mean square that an estimate of a clean clip may have, in units of the data's

    @property
    def churn(self) -> Churn:
        """The part that stochastic samplers read."""
        return Churn(self.s_churn, self.s_min, self.s_max, self.s_noise)


Run = Callable[[Denoiser, Tensor, list[float], Noise, SigmaOptions, Callback | None], Tensor]

SAMPLERS: dict[str, Run] = {
    "heun": lambda d, x, s, noise, o, call: sample_heun(d, x, s, noise=noise, churn=o.churn, callback=call),
    "euler": lambda d, x, s, noise, o, call: sample_euler(d, x, s, noise=noise, churn=o.churn, callback=call),
    "ancestral": lambda d, x, s, noise, o, call: sample_ancestral(d, x, s, noise=noise, callback=call),
    "ddim": lambda d, x, s, noise, o, call: sample_ancestral(d, x, s, noise=noise, eta=0.0, callback=call),
}


class ContinuousParadigm(Paradigm):
    """A paradigm whose networks can be read as denoisers D(x, sigma)."""

    formats = ("cqt", "encodec")

    @abstractmethod
    def denoise(self, network: nn.Module, x: Tensor, sigma: Tensor, controls: Tensor | None) -> Tensor:
        """Expected clean data of x = clean + sigma * noise: x [B, ...], sigma [B] -> float32 [B, ...]."""

    @abstractmethod
    def levels(self, options: StrictModel | None) -> tuple[str, SigmaOptions, list[float], float]:
        """The sampler's name, its options, the decreasing noise levels and the standard deviation of the start."""

    def denoiser(self, network: nn.Module, controls: Tensor | None, guidance: Weights = 1.0) -> Denoiser:
        """The network as a function of (x, sigma), its controls and guidance closed over."""
        guided = Guidance(controls, self.layout, guidance)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            return guided.mix(self.denoise(network, guided.repeat(x), guided.repeat(sigma), guided.controls))

        return denoise

    def sample(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        controls: Tensor | None,
        noise: Noise,
        options: StrictModel | None = None,
        guidance: Weights = 1.0,
        callback: Callback | None = None,
    ) -> Tensor:
        sampler, shared, sigmas, spread = self.levels(options)
        with torch.no_grad():
            x = spread * noise.normal(shape)
            denoiser = self.denoiser(network, controls, guidance)
            if shared.limit is not None:
                denoiser = limited(denoiser, shared.limit * self.sigma_data)
            return SAMPLERS[sampler](denoiser, x, sigmas, noise, shared, callback)

    def evaluations(self, options: StrictModel | None = None) -> int:
        sampler, _, sigmas, _ = self.levels(options)
        return (2 if sampler == "heun" else 1) * (len(sigmas) - 1) - (1 if sampler == "heun" else 0)


def limited(denoiser: Denoiser, largest: float) -> Denoiser:
    """The denoiser with estimates scaled down where the root mean square over a clip exceeds `largest`.

    A network that predicts noise errs in the clean data by sigma times its own error, a hundred times the data at the
    first steps. Unbounded, what it failed to remove there stays: later steps take it for signal. This keeps estimates
    where data can be, as clipping does for images (Ho et al. 2020), whose range is known, and dynamic thresholding
    (Saharia et al. 2022, section 2.3); latents have no range but a spread.
    """

    def bounded(x: Tensor, sigma: Tensor) -> Tensor:
        estimate = denoiser(x, sigma)
        size = estimate.square().mean(dim=tuple(range(1, estimate.ndim)), keepdim=True).sqrt()
        return estimate * (largest / size.clamp(min=largest))

    return bounded
