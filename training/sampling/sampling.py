"""Sampling loop: from stacked controls to audio, in batches.

B clips in all, b clips of a batch, R control rows, T frames, N audio samples.
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

STREAM = "sample"  # of the random numbers, which differ from those of training
LARGEST_BATCH = {"cpu": 8, "cuda": 256}  # larger batches are not faster
FEW_STEPS = 50  # default on a CPU for samplers with more than twice as many
BAR = "{desc} {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"


@dataclass(frozen=True)
class SamplingConfig:
    """Options of sampling.

    Attributes:
        steps: steps of the sampler; None for the default of the paradigm.
        guidance: one weight for all controls, or weights by name of the control, 1 for others; 1 for no guidance.
        seed: seed of the noise; sample i of a seed has the same noise in any batch.
        options: other options of sampling of the paradigm by name, for example sampler or s_churn.
    """

    steps: int | None = None
    guidance: Weights = DEFAULT_GUIDANCE
    seed: int = 0
    options: Json = field(default_factory=dict)

    def resolve(self, paradigm: Paradigm) -> Any:
        """Return `steps` and `options` as validated options of `paradigm`, an instance of its `Options`.

        `steps`, unless None, replaces a value of the same name in `options`. `guidance` is checked as well.

        Raises:
            UserError: the paradigm lacks an option, a value is of the wrong type or out of range, or the paradigm
                cannot use the weights of guidance.
        """
        paradigm.check_guidance(self.guidance)
        steps = {} if self.steps is None else {"steps": self.steps}
        return paradigm.options({**self.options, **steps})


def default_steps(paradigm: Paradigm, device: torch.device) -> int | None:
    """Return the default number of sampler steps on a device; None for the default of the paradigm.

    On a CPU it is FEW_STEPS if the paradigm makes more than twice as many network evaluations by default.
    """
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
    """Sample and decode one clip for each clip of `controls`, in batches.

    If a batch exceeds the memory of the device, it is repeated with half as many clips, as are later ones.

    Args:
        network: backbone in eval mode.
        paradigm: its paradigm.
        decode: function from data of the paradigm [b, *shape] to audio [b, 1, N] on the CPU.
        shape: shape of the data of one clip.
        controls: float32 [B, R, T], -1 where unconditioned.
        config: options of sampling.
        indices: index of each of the B samples, which with the seed determines its noise; None for 0..B-1.
        batch: largest number of clips of a batch; None for the default of the device.
        progress: whether to show a progress bar if standard error is a terminal.
        known: given part of every clip, for a paradigm over continuous data; None to generate all.
        callback: called with a `SamplerState` of the clips of the batch after each step of each batch.

    Returns:
        Audio [b, 1, N] of each batch, in order.

    Raises:
        UserError: an option that the paradigm lacks or that is out of range, guidance weights that it cannot use, or
            one clip that does not fit into the memory of the device.
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
