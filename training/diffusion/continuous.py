"""Bases of the paradigms over continuous data: denoiser, guidance and choice of sampler. B clips."""

import math
from abc import abstractmethod
from typing import Annotated

import torch
from pydantic import AliasChoices, Field
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.strict import StrictModel
from training.diffusion.base import Paradigm
from training.diffusion.guidance import Guidance, Weights
from training.diffusion.inpainting import Known, sample_inpaint
from training.diffusion.noise import Noise
from training.diffusion.samplers import SAMPLERS, Callback, Churn, Denoiser

Level = Annotated[float, Field(gt=0)]


class SigmaOptions(StrictModel):
    """Options of sampling that are common to the paradigms with a choice of sampler, which may change the defaults.

    `s_churn`, `s_min`, `s_max` and `s_noise` are those of `Churn`. `rho` is the exponent of `karras_sigmas`, not used
    where a sampler uses the trained times. `rms_threshold` (also accepted as `limit`) is the largest root mean square
    of a denoised clip over all its values, in units of `sigma_data`; None for no limit.
    """

    s_churn: Annotated[float, Field(ge=0)] = 0.0
    s_min: Annotated[float, Field(ge=0)] = 0.0
    s_max: Annotated[float, Field(gt=0, allow_inf_nan=True)] = math.inf
    s_noise: Level = 1.0
    rho: Level = 7.0
    rms_threshold: Level | None = Field(default=None, validation_alias=AliasChoices("rms_threshold", "limit"))

    @property
    def churn(self) -> Churn:
        """The options `s_churn`, `s_min`, `s_max` and `s_noise` as a `Churn`."""
        return Churn(self.s_churn, self.s_min, self.s_max, self.s_noise)


class ContinuousParadigm(Paradigm):
    """Paradigm with a denoiser D(x, sigma) that maps noisy data and its noise level to clean data."""

    formats = ("cqt", "encodec")

    @abstractmethod
    def denoise(self, network: nn.Module, x: Tensor, sigma: Tensor, controls: Tensor | None) -> Tensor:
        """Estimate clean data, float32 [B, ...], from x [B, ...] = clean data + sigma * noise, for sigma [B]."""

    def denoiser(self, network: nn.Module, controls: Tensor | None, guidance: Weights | Tensor = 1.0) -> Denoiser:
        """Return `denoise` with guidance as a function of x [B, ...] and sigma [B].

        The n terms of the guidance are evaluated as one batch of n * B clips. `guidance` may have a weight per clip, as
        in `Guidance`.

        Raises:
            UserError: a weight for an unknown control.
        """
        terms = Guidance(controls, self.layout, guidance)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            return terms.mix(self.denoise(network, terms.repeat(x), terms.repeat(sigma), terms.controls))

        return denoise


class DenoisingParadigm(ContinuousParadigm):
    """Paradigm whose denoiser estimates the expected clean data given x, as all of `SAMPLERS` require."""

    @abstractmethod
    def levels(self, options: StrictModel | None) -> tuple[str, SigmaOptions, list[float], float]:
        """Return what `sample` needs for these options; None is for the default options.

        Returns:
            Name of the sampler in `SAMPLERS`; the options; noise levels sigma, decreasing, the last 0; and standard
            deviation of the initial noise, which is not always the first level.

        Raises:
            TypeError: options of another paradigm.
            UserError: an option out of range.
        """

    def sample(
        self,
        network: nn.Module,
        shape: Shape,
        controls: Tensor | None,
        noise: Noise,
        options: StrictModel | None = None,
        guidance: Weights = 1.0,
        callback: Callback | None = None,
        known: Known | None = None,
    ) -> Tensor:
        """Return new clips [B, *shape], float32; see `Paradigm.sample`.

        With `known`, only the frames that it does not give are generated, by `sample_inpaint`. The sampler and the
        churn of the options then have no effect.
        """
        sampler, shared, sigmas, std = self.levels(options)
        with torch.no_grad():
            x = std * noise.normal(shape)
            denoiser = self.denoiser(network, controls, guidance)
            if shared.rms_threshold is not None:
                denoiser = thresholded(denoiser, shared.rms_threshold * self.sigma_data)
            if known is not None:
                return sample_inpaint(denoiser, x, sigmas, known, noise=noise, callback=callback)
            return SAMPLERS[sampler](denoiser, x, sigmas, noise=noise, churn=shared.churn, callback=callback)

    def evaluations(self, options: StrictModel | None = None) -> int:
        sampler, _, sigmas, _ = self.levels(options)
        return SAMPLERS[sampler].evaluations(len(sigmas) - 1)


def thresholded(denoiser: Denoiser, largest: float) -> Denoiser:
    """Return a denoiser that scales each denoised clip down to a root mean square of at most `largest` over its values.

    An error of the predicted noise is multiplied by sigma in the denoised clip. In the first steps it can exceed the
    data by a factor of 100, and later steps do not remove it. Images are clipped to their range (Ho et al. 2020) or
    thresholded dynamically (Saharia et al. 2022, section 2.3); latents have no range but a standard deviation.
    """

    def bounded(x: Tensor, sigma: Tensor) -> Tensor:
        denoised = denoiser(x, sigma)
        rms = denoised.square().mean(dim=tuple(range(1, denoised.ndim)), keepdim=True).sqrt()
        return denoised * (largest / rms.clamp(min=largest))

    return bounded


def per_clip(values: Tensor, like: Tensor) -> Tensor:
    """Return `values` [B] as [B, 1, ..., 1] with as many axes as `like`, on the device of `like`."""
    return values.to(like.device).view(-1, *(1,) * (like.ndim - 1))


def mean_per_clip(values: Tensor) -> Tensor:
    """Return the mean of `values` [B, ...] over all axes but the first, computed in float32: [B]."""
    return values.float().flatten(1).mean(dim=1)


def conditioning_of(sigma: Tensor) -> Tensor:
    """Return c_noise = ln(sigma) / 4 (Karras et al. 2022, table 1), float32 with the shape of `sigma`."""
    return torch.log(sigma).float() / 4
