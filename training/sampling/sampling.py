"""New audio from a trained model and control curves. B clips, n samples, N audio samples, R control rows, T frames."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from data_specs.controls.curves import Curves
from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE
from training.diffusion import PerClipNoise
from training.diffusion.guidance import Weights
from training.diffusion.samplers import SamplerState
from training.model import TrainedModel

STREAM = "sample"  # of the random numbers, so that they are not those of training
LARGEST_BATCH = {"cpu": 8, "cuda": 256}  # beyond this nothing gets faster
QUICK_STEPS = 50  # of samplers that are published with a thousand
MEMORY_SHARE = 0.5  # of what is free; the rest is for what the estimate does not see


@dataclass(frozen=True)
class SamplingConfig:
    """How to sample.

    Attributes:
        steps: of the sampler; None takes the paradigm's published number.
        guidance: one weight, or one by feature; 1 is none.
        seed: sample i of a seed is the same in any batch and beside any other samples.
        options: other options of the paradigm's sampler: s_churn, s_min, s_max, s_noise, sampler, ...
    """

    steps: int | None = None
    guidance: Weights = 1.0
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def of(self, run: TrainedModel) -> Any:
        """The paradigm's own options.

        Raises:
            UserError: an option that this paradigm does not have, or that is out of range.
        """
        steps = {} if self.steps is None else {"steps": self.steps}
        return run.paradigm.options({**self.options, **steps})


def quick_steps(run: TrainedModel, asked: int | None) -> int | None:
    """Steps as asked; unasked on a CPU few where the published sampler takes many; else None, the published number."""
    return asked if asked is not None or device_of(run.network).type != "cpu" else affordable_steps(run)


def affordable_steps(run: TrainedModel) -> int | None:
    """QUICK_STEPS where the published sampler takes more than twice as many evaluations, else None."""
    return QUICK_STEPS if run.paradigm.evaluations() > 2 * QUICK_STEPS else None


def sample(
    run: TrainedModel,
    curves: Curves | Sequence[Curves],
    *,
    seconds: float | Fraction | None = None,
    n: int = 1,
    settings: SamplingConfig | None = None,
    progress: bool = False,
) -> Tensor:
    """`n` clips that follow each of `curves`, float32 [len(curves) * n, 1, N] on the CPU, n of the first curves first.

    Args:
        run: from `load_model`.
        curves: what to follow; one or several.
        seconds: length, a whole number of frames; None for that of the clips the model was trained on.
        progress: show a bar where standard error is a terminal.

    Raises:
        UserError: curves that do not fit the length or the model's instruments, or settings that do not fit the model.
    """
    several = [curves] if isinstance(curves, Curves) else list(curves)
    samples = sample_count(run, seconds)
    controls = control_rows(run, several, samples).repeat_interleave(n, dim=0)
    return sample_controls(run, controls, samples, settings=settings, progress=progress)


def sample_count(run: TrainedModel, seconds: float | Fraction | None) -> int:
    """Number of audio samples N of `seconds`.

    Raises:
        UserError: not a whole number of frames.
    """
    if seconds is None:
        return run.data.clip_samples
    exact = Fraction(seconds).limit_denominator(SAMPLE_RATE) * run.data.sample_rate
    hop = run.data.hop
    samples = round(exact / hop) * hop
    if samples <= 0 or abs(exact - samples) > 1:
        raise UserError(
            f"SECONDS={float(seconds):g} must be a multiple of this model's frame of {hop}/{SAMPLE_RATE} s; "
            f"take {max(samples, hop) / SAMPLE_RATE:g}"
        )
    return samples


def control_rows(run: TrainedModel, curves: Sequence[Curves], samples: int) -> Tensor:
    """Curves -> the controls of a batch as the networks take them, float32 [B, R, T]."""
    frames, hop = run.representation.frames(samples), run.data.hop
    arrays = [one.arrays(run.data.instruments, samples, frames, hop) for one in curves]
    stacked = {name: torch.stack([torch.from_numpy(one[name]) for one in arrays]) for name in arrays[0]}
    return run.data.layout.stack(stacked)


def sample_controls(
    run: TrainedModel,
    controls: Tensor,
    samples: int,
    *,
    settings: SamplingConfig | None = None,
    indices: Sequence[int] | None = None,
    batch: int | None = None,
    progress: bool = False,
) -> Tensor:
    """One clip for each row of `controls`, float32 [B, 1, N] on the CPU.

    Args:
        controls: float32 [B, R, T], -1 where a feature is free.
        samples: N.
        indices: the number of each sample, which with the seed decides its noise; 0..B-1 for None.
        batch: clips at once; None for what fits into memory.
    """
    settings = settings or SamplingConfig()
    options = settings.of(run)
    indices = range(len(controls)) if indices is None else indices
    largest = batch or batch_size(run, controls, samples, settings)
    found: list[Tensor] = []
    with _bar(len(controls), progress) as advance:
        start = 0
        while start < len(controls):
            part = slice(start, start + largest)
            try:
                found.append(_batch(run, controls[part], indices[part], samples, settings, options, advance))
            except torch.OutOfMemoryError:
                if largest == 1:
                    raise UserError("one clip does not fit into this device's memory; ask for fewer SECONDS") from None
                largest = max(1, largest // 2)
                torch.cuda.empty_cache()
                continue
            start += largest
    return torch.cat(found) if found else torch.empty(0, 1, samples)


Advance = Callable[[float], None]


def _batch(
    run: TrainedModel,
    controls: Tensor,
    indices: Sequence[int],
    samples: int,
    settings: SamplingConfig,
    options: Any,
    advance: Advance,
) -> Tensor:
    device = device_of(run.network)
    noise = PerClipNoise(settings.seed, list(indices), STREAM, device)

    def stepped(state: SamplerState) -> None:
        advance(len(indices) / state.steps)

    shape = run.representation.shape(samples)
    x = run.paradigm.sample(
        run.network, shape, controls.to(device), noise, options, guidance=settings.guidance, callback=stepped
    )
    stored = run.from_model(x)
    decoded = run.representation.decode(stored.to(torch.int16) if run.scaling is None else stored)
    return decoded.detach().float().cpu()


def batch_size(run: TrainedModel, controls: Tensor, samples: int, settings: SamplingConfig) -> int:
    """How many clips fit into the memory that is free now, from the sizes of what one clip's evaluation computes."""
    if len(controls) <= 1:
        return 1
    device = device_of(run.network)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_bytes()
    terms = 1 + (len(settings.guidance) if not isinstance(settings.guidance, (int, float)) else 1)
    need = evaluation_bytes(run, controls[:1].to(device), samples) * (1 if settings.guidance == 1 else terms)
    return max(1, min(int(free * MEMORY_SHARE / need), LARGEST_BATCH.get(device.type, 8), len(controls)))


def evaluation_bytes(run: TrainedModel, controls: Tensor, samples: int) -> int:
    """Bytes of all layers' outputs for one clip: more than are alive at any one time, so a bound on the safe side."""
    total = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        total += output.numel() * output.element_size() if isinstance(output, Tensor) else 0

    layers = [module for module in run.network.modules() if not list(module.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        probe = PerClipNoise(0, [0], STREAM, controls.device)
        # One short trajectory: whatever a paradigm asks of its network is counted, its own steps are few.
        run.paradigm.sample(
            run.network,
            run.representation.shape(samples),
            controls,
            probe,
            run.paradigm.options({"steps": 1}),
        )
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, total)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights lie."""
    return next(network.parameters()).device


def _free_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _bar(clips: int, progress: bool) -> Iterator[Advance]:
    """A progress bar in clips; silent unless asked for and standard error is a terminal."""
    from tqdm import tqdm

    form = "{l_bar}{bar}| {n:.1f}/{total} clips [{elapsed}<{remaining}]"
    with tqdm(total=clips, disable=None if progress else True, bar_format=form, leave=False) as bar:
        yield bar.update
