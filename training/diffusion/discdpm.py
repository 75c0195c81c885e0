"""DiscDPM: diffusion over categorical codes in discrete time (Hoogeboom et al. 2021; Austin et al. 2021).

Last layer and loss are computed in chunks of limited size, so that the logits [B, K, T, C] need not fit into memory at
once. The time steps of the diffusion are 1 to S. B clips, K codebooks, T frames, C classes, H features.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.errors import UserError
from data_specs.strict import Positive, StrictModel
from training.conditioning import ControlLayout
from training.diffusion.base import Paradigm, SamplerSteps, TrainedSteps, options_or_default
from training.diffusion.class_loss import ClassTerms, class_loss
from training.diffusion.guidance import Guidance, Weights
from training.diffusion.noise import Noise
from training.diffusion.samplers import Callback, SamplerState
from training.diffusion.schedules import SCHEDULES, TIMES, State, strided_times
from training.diffusion.transitions import TRANSITIONS, indices


class DiscDPMConfig(StrictModel):
    """Config of training.

    `steps` is the number S of time steps, `schedule` a key of `SCHEDULES`, `transition` the corruption process, a key
    of `TRANSITIONS`, and `times` the distribution of the time steps in training, a key of `TIMES`. `chunk_values` is
    the largest number of logits of a chunk, which has at least those of one frame and codebook of all clips.
    """

    steps: TrainedSteps = 1000
    schedule: Literal["cosine", "linear"] = "cosine"
    transition: Literal["uniform", "absorbing"] = "uniform"
    times: Literal["uniform", "importance"] = "uniform"
    # promise: discdpm-loss-hot-tensors-2
    chunk_values: Positive = 2**21  # largest number of logits in memory


class DiscDPMOptions(StrictModel):
    """Options of sampling: `steps` of the trained time steps, evenly spaced; None for all of them."""

    steps: SamplerSteps | None = None


class DiscDPM(Paradigm):
    """Diffusion over codes.

    The loss of a clip estimates the variational bound in nats per code: S KL_t at one random time t, plus KL_prior.
    KL_t is `Transition.divergence` from t to t - 1, mean over the codes; KL_prior is `Transition.prior_divergence`.
    Networks are conditioned on t / S - 1/2. They must have a method `features` and a layer `out`, a `ClassLogits`.

    Raises:
        UserError: `classes` is None, or the transition is absorbing with a schedule that does not end in 0.
    """

    name = "discdpm"
    formats = ("disc",)
    Config = DiscDPMConfig
    Options = DiscDPMOptions

    def __init__(self, config: DiscDPMConfig, layout: ControlLayout, classes: int | None = None) -> None:
        super().__init__(config, layout, classes)
        if classes is None:
            raise UserError(
                "FORMAT= must be disc for PARADIGM=discdpm; use that, or another paradigm for continuous data"
            )
        self.classes = classes
        self.alphabars = SCHEDULES[config.schedule](config.steps)
        self._on: dict[torch.device, Tensor] = {}  # copied to each device once
        self.transition = TRANSITIONS[config.transition](classes, float(self.alphabars[-1]))
        self.times = TIMES[config.times](config.steps)
        self.adaptive = self.times.adaptive

    @property
    def vocabulary(self) -> int:
        return self.transition.vocabulary

    def _conditioning(self, times: Tensor) -> Tensor:
        return times.float() / self.config.steps - 0.5

    def loss(self, network: nn.Module, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        times, weights = self.times.draw(noise.uniform())
        return self.terms(network, x0, controls, times, weights, noise) + self.transition.prior_divergence()

    def terms(
        self, network: nn.Module, x0: Tensor, controls: Tensor | None, times: Tensor, weights: Tensor, noise: Noise
    ) -> Tensor:
        """Return `weights` * S KL_t of each clip, in nats, mean over its codes: float32 [B].

        Args:
            network: backbone with `features` and `out`.
            x0: clean codes, int64 [B, K, T].
            controls: [B, N, T], -1 where unconditioned; None for a network without controls.
            times: time step t of each clip in 1..S, int64 [B].
            weights: factor of each clip [B].
            noise: random numbers that corrupt the codes.
        """
        if times.device not in self._on:
            self._on[times.device] = self.alphabars.to(times.device)
        alphabars = self._on[times.device]
        past, now = alphabars[times - 1], alphabars[times]
        x_t = self.transition.corrupt(x0, now, noise)
        features = network.features(x_t, self._conditioning(times).to(x0.device), controls)  # type: ignore[operator]
        transition = self.transition

        def divergence(terms: ClassTerms, clean: Tensor, corrupted: Tensor) -> Tensor:
            return transition.divergence(terms, clean, corrupted, past, now)

        scale = weights * (self.config.steps / x0[0].numel())
        ratio, chunk = transition.ratio(past, now), self.config.chunk_values
        return class_loss(network.out, features, x0, x_t, divergence, ratio, scale, chunk)  # type: ignore[arg-type]

    def observe(self, noise: Noise, losses: Tensor) -> None:
        if self.adaptive:
            times, weights = (drawn.cpu() for drawn in self.times.draw(noise.uniform()))
            self.times.observe(times, (losses.detach().cpu() - self.transition.prior_divergence()) / weights)

    def state_dict(self) -> State:
        return self.times.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.times.load_state_dict(state)

    def evaluations(self, options: StrictModel | None = None) -> int:
        return options_or_default(options, DiscDPMOptions).steps or self.config.steps

    def sample(
        self,
        network: nn.Module,
        shape: Shape,
        controls: Tensor | None,
        noise: Noise,
        options: StrictModel | None = None,
        guidance: Weights = 1.0,
        callback: Callback | None = None,
    ) -> Tensor:
        """Return new codes, int64 [B, *shape] in 0..C-1; see `Paradigm.sample`.

        Each step samples from p(x_s | x_t), from a time t to the next lower s of the chosen times. Guidance mixes the
        log-probabilities that the network predicts, which are then normalized.
        """
        times = strided_times(self.config.steps, options_or_default(options, DiscDPMOptions).steps)
        guided = Guidance(controls, self.layout, guidance)
        with torch.no_grad():
            x = self.transition.replacement(shape, noise)
            for number, (time, before) in enumerate(pairwise(times), start=1):
                x = self._step(network, guided, x, time, before, noise.uniform(shape))
                if callback is not None:
                    callback(SamplerState(number, len(times) - 1, x, None))
        return x

    def _step(self, network: nn.Module, guided: Guidance, x: Tensor, time: int, before: int, uniform: Tensor) -> Tensor:
        """Return codes [B, K, T] at time step `before`, drawn given codes `x` [B, K, T] at the later time step `time`.

        `uniform` [B, K, T] are random numbers in [0, 1), one per code. Logits are computed in chunks, on a CPU only for
        codes that may change.
        """
        repeated = guided.repeat(x)
        c_noise = self._conditioning(torch.full((repeated.shape[0],), time)).to(x.device)
        features = network.features(repeated, c_noise, guided.controls)  # type: ignore[operator]
        # Logits are affine in the features and the coefficients sum to 1. Mixing features therefore mixes
        # log-probabilities up to a constant.
        # promise: both-formulas-stated-log-3
        hidden = guided.mix(features.float()).to(features.dtype).transpose(1, 2)  # [B, T, H]
        past, now = float(self.alphabars[before]), float(self.alphabars[time])
        rows = max(1, self.config.chunk_values // self.classes)
        x = x.clone()
        for k in range(x.shape[1]):
            codes, numbers = x[:, k], uniform[:, k]
            changing = indices(self.transition.changing(codes, numbers, past, now))
            for part in zip(*(index.split(rows) for index in changing), strict=True):
                logits = network.out.codebook(hidden[part], k).float()  # type: ignore[operator, union-attr]
                codes[part] = self.transition.draw(logits, codes[part], numbers[part], past, now)
        return x
