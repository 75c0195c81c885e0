"""Consistency models tuned from an EDM: f(x, sigma) is the end of the probability flow through x (Song et al. 2023).

The student starts with the weights of the EDM, its teacher. The loss compares its outputs at two noise levels, whose
relative difference is halved at each stage of the training (easy consistency tuning, Geng et al. 2024, section 3.3).
The step between the levels follows the teacher with classifier-free guidance, so the student learns guided samples and
needs one evaluation where a guided EDM needs two. The weight of guidance can be an input of the student (Meng et al.
2023, section 3.1). B clips, R control rows, T frames.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.strict import Positive, StrictModel
from training.conditioning import ControlLayout
from training.diffusion.base import SamplerSteps, options_or_default
from training.diffusion.continuous import Level, mean_per_clip, per_clip
from training.diffusion.edm import PreconditionedParadigm, loss_weight
from training.diffusion.guidance import Weights
from training.diffusion.inpainting import Known, keeping
from training.diffusion.noise import Noise
from training.diffusion.samplers import Callback, sample_consistency
from training.diffusion.schedules import karras_sigmas
from training.sampling.defaults import DEFAULT_GUIDANCE

HUBER = 0.03  # scale below which the loss is quadratic, in units of the output of the network


class ConsistencyConfig(StrictModel):
    """Config of training.

    sigma^(1 / rho) is uniform between its values at `sigma_min` and `sigma_max`, as the levels of Karras et al. 2022,
    eq. 5. There are `stages` stages; each but the last has `stage_steps` training steps.
    """

    sigma_data: Level = 0.5  # of the teacher
    sigma_min: Level = 0.002
    sigma_max: Level = 80.0
    rho: Level = 7.0
    guidance: Annotated[float, Field(ge=0)] = DEFAULT_GUIDANCE  # of the teacher
    # Largest difference of the weight of a clip from `guidance`; the student is told it if network.guided.
    guidance_spread: Annotated[float, Field(ge=0)] = 0.0
    # From stage 3 on, samples come near to those of the teacher, with their noise (docs/results/few-steps.md).
    stages: Annotated[int, Field(ge=1, le=5)] = 2
    stage_steps: Positive = 400


class ConsistencyOptions(StrictModel):
    """Options of sampling: `steps` noise levels from `sigma_max` to `sigma_min`, with one network evaluation at each.

    The levels are those of `karras_sigmas`; for one step the level is `sigma_max`.
    """

    steps: SamplerSteps = 2
    sigma_min: Level = 0.3
    sigma_max: Level = 80.0
    rho: Level = 7.0


def with_offset(controls: Tensor | None, offset: Tensor) -> Tensor | None:
    """Return `controls` [B, R, T] with a further row that has `offset` [B] at all frames; [1] is that of all clips."""
    if controls is None:
        return None
    return torch.cat([controls, offset.to(controls).view(-1, 1, 1).expand_as(controls[:, :1])], 1)


class Consistency(PreconditionedParadigm):
    """f(x, sigma) with the preconditioning of EDM, so that f(x, 0) = x, distilled from a guided EDM.

    Attributes:
        teacher: network of the EDM in eval mode, which must be set before `loss`; None when sampling.
        step: number of the training step, from 1, which determines the stage; None for the last stage.
    """

    name = "consistency"
    distilled = True
    Config = ConsistencyConfig
    Options = ConsistencyOptions

    def __init__(self, config: ConsistencyConfig, layout: ControlLayout, classes: int | None = None) -> None:
        super().__init__(config, layout, classes)
        self.teacher: nn.Module | None = None
        self.step: int | None = None

    @property
    def guidance_range(self) -> tuple[float, float]:
        return self.config.guidance - self.config.guidance_spread, self.config.guidance + self.config.guidance_spread

    @property
    def stage(self) -> int:
        """Stage of the training at `step`, from 1 to the `stages` of the config."""
        stages, length = self.config.stages, self.config.stage_steps
        return stages if self.step is None else min(stages, 1 + (max(1, self.step) - 1) // length)

    def next_level(self, sigma: Tensor) -> Tensor:
        """Return the lower noise level [B] that is compared with `sigma` [B].

        It is sigma (1 - n(sigma) / 2^stage), at least sigma_min, where n(sigma) = 1 + 8 / (1 + exp(sigma)) lengthens
        the steps at low noise (Geng et al. 2024, section 3.3 and table 5).
        """
        ratio = 1 - (1 + 8 * torch.sigmoid(-sigma)) / 2**self.stage
        return (sigma * ratio).clamp(min=self.config.sigma_min)

    def loss(self, network: nn.Module, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        """Return the pseudo-Huber distance between f at a random noise level and f at its `next_level`, float32 [B].

        The difference is divided by c_out of the higher level, so that all levels have equal weight. f at the lower
        level has no gradient.

        Raises:
            ValueError: `teacher` is None.
        """
        if self.teacher is None:
            raise ValueError("a consistency model must have a teacher for its loss; set `teacher` first")
        config = self.config
        low, high = (level ** (1 / config.rho) for level in (config.sigma_min, config.sigma_max))
        sigma = (low + noise.uniform() * (high - low)) ** config.rho
        noisy = x0 + per_clip(sigma, x0) * noise.normal(tuple(x0.shape[1:]))
        weight: Weights | Tensor = config.guidance
        told = controls
        if config.guidance_spread:
            offset = config.guidance_spread * (2 * noise.uniform() - 1)
            weight, told = config.guidance + per_clip(offset, x0), with_offset(controls, offset)
        with torch.no_grad():
            clean = self.denoiser(self.teacher, controls, weight)(noisy, sigma)
            following = self.next_level(sigma)
            along_flow = clean + per_clip(following / sigma, x0) * (noisy - clean)
            target = self.denoise(network, along_flow, following, told)
        squares = mean_per_clip((self.denoise(network, noisy, sigma, told) - target) ** 2)
        return (loss_weight(sigma, self.sigma_data) * squares + HUBER**2).sqrt() - HUBER

    def sample(
        self,
        network: nn.Module,
        shape: Shape,
        controls: Tensor | None,
        noise: Noise,
        options: StrictModel | None = None,
        guidance: Weights | None = None,
        callback: Callback | None = None,
        known: Known | None = None,
    ) -> Tensor:
        """Return new clips [B, *shape], float32; see `Paradigm.sample`.

        `guidance` must be None, for that of the training, or a weight within its spread. With `known`, the frames that
        it gives equal `known.x0`.

        Raises:
            TypeError: `options` is not a `ConsistencyOptions`.
            UserError: `guidance` is refused by `check_guidance`, or sigma_min is not below sigma_max.
        """
        weight = self.config.guidance if guidance is None else guidance
        self.check_guidance(weight)
        assert not isinstance(weight, Mapping)
        if self.config.guidance_spread:
            controls = with_offset(controls, torch.tensor([weight - self.config.guidance]))
        chosen = options_or_default(options, ConsistencyOptions)
        sigmas = karras_sigmas(chosen.steps, chosen.sigma_min, chosen.sigma_max, chosen.rho)
        with torch.no_grad():
            x, denoiser = chosen.sigma_max * noise.normal(shape), self.denoiser(network, controls)
            if known is not None:  # each step adds new noise to the given frames (Song et al. 2023, algorithm 4)
                x = torch.where(known.mask.to(x.device), known.x0.to(x) + x, x)
                denoiser = keeping(denoiser, known)
            return sample_consistency(denoiser, x, sigmas, noise=noise, callback=callback)

    def evaluations(self, options: StrictModel | None = None) -> int:
        return options_or_default(options, ConsistencyOptions).steps
