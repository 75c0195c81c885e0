"""The sampling loop: control curves in the network's form to audio, in batches.

B clips, R control rows, T frames, N audio samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from data_specs.arrays import Shape
from data_specs.errors import UserError
from data_specs.io.files import Json
from training.diffusion import Paradigm, PerClipNoise
from training.diffusion.guidance import Weights
from training.diffusion.inpainting import Known
from training.diffusion.samplers import Callback, SamplerState
from training.networks.unet import encoding_once
from training.sampling.defaults import DEFAULT_GUIDANCE

STREAM = "sample"  # of the random numbers: sampling and training draw different ones
LARGEST_BATCH = {"cpu": 8, "cuda": 256}  # larger batches take more memory and no less time per clip
FEW_STEPS = 50  # on a CPU, for samplers published with a thousand steps
BAR = "{desc} {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"


@dataclass(frozen=True)
class SamplingConfig:
    """How to sample.

    Attributes:
        steps: of the sampler; None takes the paradigm's published number.
        guidance: one weight, or one by feature; 1 disables guidance.
        seed: of the noise; sample i of a seed is the same in any batch.
        options: further options of the paradigm's sampler: s_churn, s_min, s_max, s_noise, sampler, ...
    """

    steps: int | None = None
    guidance: Weights = DEFAULT_GUIDANCE
    seed: int = 0
    options: Json = field(default_factory=dict)

    def resolve(self, paradigm: Paradigm) -> Any:
        """Validated options of the paradigm's sampler.

        Raises:
            UserError: the paradigm lacks an option, or a value is out of range.
        """
        steps = {} if self.steps is None else {"steps": self.steps}
        return paradigm.options({**self.options, **steps})


def default_steps(paradigm: Paradigm, device: torch.device) -> int | None:
    """Sampler steps where the user gives none: None for the published number, FEW_STEPS where that is slow on a CPU."""
    return FEW_STEPS if device.type == "cpu" and paradigm.evaluations() > 2 * FEW_STEPS else None


def sample_batches(
    network: nn.Module,
    paradigm: Paradigm,
    decode: Callable[[Tensor], Tensor],
    shape: Shape,
    controls: Tensor,
    config: SamplingConfig,
    *,
    indices: Sequence[int] | None = None,
    batch: int | None = None,
    progress: bool = False,
    known: Known | None = None,
    callback: Callback | None = None,
) -> list[Tensor]:
    """Sample and decode one clip for each row of `controls`; a batch that does not fit into memory is halved.

    Args:
        network: a backbone in eval mode.
        decode: data as the network takes it, [B, *shape] -> audio [B, 1, N] on the CPU.
        shape: of one clip, without the batch axis.
        controls: float32 [B, R, T], -1 where unconditioned.
        indices: number of each sample, which with the seed determines its noise; 0..B-1 for None.
        batch: clips at once; None for the default of the device.
        progress: show a bar if standard error is a terminal.
        known: given part of every clip; the paradigm must be one of continuous data.
        callback: called after each step of each batch.

    Returns:
        Audio of the batches in order.

    Raises:
        UserError: options that the paradigm lacks, or a clip that does not fit into memory.
    """
    options = config.resolve(paradigm)
    device = next(network.parameters()).device
    indices = range(len(controls)) if indices is None else indices
    size, start, found = batch or LARGEST_BATCH.get(device.type, 8), 0, []
    with tqdm(desc="sampling", total=1, disable=None if progress else True, leave=False, bar_format=BAR) as bar:
        while start < len(controls):
            chosen = list(indices[start : start + size])
            first = start

            def advance(state: SamplerState, first: int = first, clips: int = len(chosen)) -> None:
                bar.total = state.steps * len(controls)
                bar.update(state.steps * first + state.step * clips - bar.n)
                if callback is not None:
                    callback(state)

            noise = PerClipNoise(config.seed, chosen, STREAM, device)
            part = controls[start : start + size].to(device)
            try:
                given = {} if known is None else {"known": known}
                with encoding_once(network):
                    x = paradigm.sample(
                        network, shape, part, noise, options, guidance=config.guidance, callback=advance, **given
                    )
                found.append(decode(x))
            except torch.OutOfMemoryError:
                if size == 1:
                    raise UserError("one clip does not fit into the memory of the device; lower SECONDS=") from None
                size //= 2
                torch.cuda.empty_cache()
            else:
                start += size
    return found
