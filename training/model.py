"""Trained models: network, paradigm, config and metadata. B clips, N audio samples, R control rows, T frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_specs.arrays import Float32
from data_specs.controls.curves import Curves
from data_specs.errors import UserError
from data_specs.io.files import Json
from data_specs.representations import Representation, Scaling, Statistics
from data_specs.strict import parse_model
from training import checkpoint
from training.config import Config
from training.diffusion import Paradigm, build_paradigm
from training.diffusion.guidance import Weights
from training.diffusion.inpainting import Known
from training.diffusion.samplers import Callback
from training.metadata import DatasetMetadata
from training.networks import build_network, parameter_count
from training.networks.precision import PrecisionChoice, freeze, has_fast_bf16
from training.runs import shipped_model
from training.sampling.curve_sources import load_curves
from training.sampling.defaults import DEFAULT_GUIDANCE
from training.sampling.sampling import SamplingConfig, sample_batches


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainedModel:
    """A model ready to sample.

    Attributes:
        network: backbone with averaged weights.
        paradigm: loss and sampler.
        config: config of the training.
        data: metadata of the training data.
        step: number of training steps done.
        train_seconds: wall-clock seconds of these steps.
    """

    network: nn.Module
    paradigm: Paradigm
    config: Config
    data: DatasetMetadata
    step: int
    train_seconds: float

    def __repr__(self) -> str:
        size = f"{parameter_count(self.network) / 1e6:.1f} M parameters"
        controls = ", ".join(self.data.layout.names)
        return f"TrainedModel({self.config.paradigm} on {self.data.label}, {size}, step {self.step}, {controls})"

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.network.parameters()).device

    @cached_property
    def representation(self) -> Representation:
        """Transform between audio and stored data.

        Raises:
            UserError: the present codec is not the one that made the training data, or its weights are missing.
        """
        return self.data.representation()

    @cached_property
    def scaling(self) -> Scaling | None:
        """Map between stored values and those on the scale of the network; None for codes."""
        if self.data.statistics is None:
            return None
        statistics = Statistics.from_json(self.data.statistics)
        data, training = self.data, self.config.training
        return Scaling.fit(statistics, self.paradigm.sigma_data, training.companding, data.centred, data.one_scale)

    def to_model(self, stored: Tensor) -> Tensor:
        """Convert stored data [B, *shape] for the paradigm: values to scaled float32, or codes to int64."""
        return stored.long() if self.scaling is None else self.scaling.to_model(stored)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Convert data of the paradigm (scaled values or codes) [B, *shape] to audio, float32 [B, 1, N] on the CPU."""
        stored = x.to(torch.int16) if self.scaling is None else self.scaling.from_model(x)
        return self.representation.decode(stored).float().cpu()

    def sample(
        self,
        curves: Curves | Mapping[str, Any] | str | Path,
        *,
        seconds: float | Fraction | None = None,
        n: int = 4,
        seed: int = 0,
        steps: int | None = None,
        guidance: Weights = DEFAULT_GUIDANCE,
        progress: bool = False,
        **options: Any,
    ) -> Tensor:
        """Sample `n` clips that follow `curves`: float32 [n, 1, N] on the CPU, at the sample rate of the dataset.

        Args:
            curves: Curves, content or path of a curve file, or name of a shipped one.
            seconds: length of a clip, rounded up to a frame; None for the length of the training clips.
            n: number of clips.
            seed: seed of the noise; sample i of a seed does not depend on n.
            steps: steps of the sampler; None for the default of the paradigm.
            guidance: one weight, or a weight for each control by its name.
            progress: whether to show a bar if standard error is a terminal.
            options: options of the sampler of the paradigm, for example s_churn.

        Raises:
            UserError: curves or options that do not fit the model, or a clip that does not fit into memory.
        """
        length = self.sample_count(seconds)
        controls = self.stack_curves([load_curves(curves)], length).expand(n, -1, -1)
        return self.sample_controls(controls, length, SamplingConfig(steps, guidance, seed, options), progress=progress)

    def sample_controls(
        self,
        controls: Tensor,
        samples: int,
        config: SamplingConfig | None = None,
        *,
        indices: Sequence[int] | None = None,
        batch: int | None = None,
        progress: bool = False,
        known: Known | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Sample one clip of N = `samples` audio samples for each item of `controls` [B, R, T], -1 where unconditioned.

        The other arguments are those of `training.sampling.sampling.sample_batches`; a `config` of None has its
        defaults.

        Returns:
            Audio, float32 [B, 1, N] on the CPU.

        Raises:
            UserError: an option that the paradigm lacks, or a clip that does not fit into memory.
        """
        found = sample_batches(
            self.network,
            self.paradigm,
            self.decode,
            self.representation.shape(samples),
            controls,
            config or SamplingConfig(),
            indices=indices,
            batch=batch,
            progress=progress,
            known=known,
            callback=callback,
        )
        return torch.cat(found) if found else torch.empty(0, 1, samples)

    def sample_count(self, seconds: float | Fraction | None) -> int:
        """Return the number of audio samples N of `seconds`, rounded up to a frame; for None that of training clips.

        A length of one sample more than full frames is not rounded up; the least is one frame.
        """
        if seconds is None:
            return self.data.clip_samples
        exact = Fraction(seconds).limit_denominator(self.data.sample_rate) * self.data.sample_rate
        frames = max(1, -(-(exact - 1) // self.data.hop))  # one sample of tolerance for rounded decimals
        return int(frames) * self.data.hop

    def stack_curves(self, curves: Sequence[Curves], samples: int) -> Tensor:
        """Evaluate curves at the frames of the model and stack them for the network: float32 [B, R, T].

        Args:
            curves: curves of each clip.
            samples: length of every clip in audio samples.

        Raises:
            UserError: curves that do not fit the length, the instruments or the controls of the model.
        """
        arrays = [self.curve_arrays(one, samples) for one in curves]
        return self.data.layout.stack(
            {name: torch.stack([torch.from_numpy(one[name]) for one in arrays]) for name in arrays[0]}
        )

    def curve_arrays(self, curves: Curves, samples: int) -> dict[str, Float32]:
        """Return the values of the curves of a clip of `samples` audio samples at the frames of the model, by control.

        They are float32 [T], or [n, T] for a control of n rows.

        Raises:
            UserError: curves that do not fit the length, the instruments or the controls of the model.
        """
        data, frames = self.data, self.representation.frames(samples)
        fitting = curves.for_controls(data.layout.names)
        return fitting.arrays(data.instruments, samples, frames, data.hop, data.layout.names)

    def metadata(self) -> Json:
        """Return everything but the weights as a JSON object, the metadata of a snapshot."""
        return {
            "config": self.config.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json"),
            "step": self.step,
            "train_seconds": self.train_seconds,
            "paradigm_state": {name: value.tolist() for name, value in self.paradigm.state_dict().items()},
        }


def build_model(config: Config, data: DatasetMetadata) -> TrainedModel:
    """Return a model with random weights, a function of the seed in the config, on the CPU and in train mode."""
    paradigm = build_paradigm(config.paradigm, config.diffusion, data.layout, classes=data.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        network = build_network(
            config.network, data.shape, data.layout, classes=data.classes, vocabulary=paradigm.vocabulary
        )
    return TrainedModel(network=network, paradigm=paradigm, config=config, data=data, step=0, train_seconds=0.0)


def load_model(
    path: str | Path | None = None,
    device: str | torch.device = "cpu",
    precision: PrecisionChoice = "float32",
) -> TrainedModel:
    """Load a model for sampling, in eval mode and without gradients.

    Args:
        path: a run folder, for its newest model, a snapshot file, or the name of a shipped model ("few-steps",
            "edm"); None for "few-steps".
        device: device of the network.
        precision: "auto" for bf16 where the device has it natively. Samples in bf16 differ by about 1 % from those in
            float32. Weights of convolutions are rounded to bf16, so such a model cannot be trained further. Networks
            other than U-Nets compute in float32 in any case.

    Raises:
        UserError: there is no model at `path`, or it is damaged.
    """
    snapshot = shipped_model() if path is None else checkpoint.find_snapshot(Path(path))
    weights, metadata = checkpoint.read_snapshot(snapshot)
    try:
        config = parse_model(Config, metadata["config"], f"{snapshot}: config")
        data = parse_model(DatasetMetadata, metadata["data"], f"{snapshot}: data")
        step, seconds = int(metadata["step"]), float(metadata["train_seconds"])
        model = build_model(config, data)
        model.network.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{snapshot} must be a model of this version of the project ({error}); train again") from error
    if precision == "auto":
        precision = "bf16" if has_fast_bf16(torch.device(device)) else "float32"
    network = freeze(model.network.to(device), precision)
    return replace(model, network=network, step=step, train_seconds=seconds)


load_run = load_model  # the name before version 2
