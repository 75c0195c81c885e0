"""A trained model: network, paradigm, config and metadata; building and loading it.

B clips, n samples, N audio samples, R control rows, T frames.
"""

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
from training.sampling.curve_sources import load_curves
from training.sampling.defaults import DEFAULT_GUIDANCE
from training.sampling.sampling import SamplingConfig, sample_batches

SNAPSHOTS = Path(__file__).parent / "snapshots"  # shipped with the project


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainedModel:
    """A model ready to sample.

    Attributes:
        network: the backbone with averaged weights.
        paradigm: loss and sampler.
        config: of its training.
        data: metadata of the dataset it was trained on.
        step: training steps done.
        train_seconds: wall-clock seconds these steps took.
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
        """The format's transform.

        Raises:
            UserError: the codec at hand is not the one that made the data.
        """
        return self.data.representation()

    @cached_property
    def scaling(self) -> Scaling | None:
        """Map between stored values and the network's; None for codes."""
        if self.data.statistics is None:
            return None
        statistics = Statistics.from_json(self.data.statistics)
        data, training = self.data, self.config.training
        return Scaling.fit(statistics, self.paradigm.sigma_data, training.companding, data.centred, data.one_scale)

    def to_model(self, stored: Tensor) -> Tensor:
        """Stored data [B, *shape] -> scaled float32, or int64 codes, as the paradigm takes it."""
        return stored.long() if self.scaling is None else self.scaling.to_model(stored)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Data as the paradigm returns it, [B, *shape] -> audio, float32 [B, 1, N] on the CPU."""
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
        """`n` new clips that follow `curves`, float32 [n, 1, N] at the dataset's sample rate.

        Args:
            curves: Curves, the content of a curve file, the path of one, or the name of a shipped one.
            seconds: length, rounded up to a frame; None for the length of the clips in training.
            seed: of the noise; sample i is the same in any batch.
            steps: of the sampler; None takes the published number.
            guidance: one weight, or one by feature.
            progress: show a bar if standard error is a terminal.
            options: of the paradigm's sampler, for example s_churn.

        Raises:
            UserError: curves or options that do not fit the model.
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
        """One clip of `samples` samples for each row of `controls` [B, R, T], float32 [B, 1, N] on the CPU.

        The other arguments are those of `training.sampling.sampling.sample_batches`.
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
        """Number of audio samples N of `seconds`, rounded up to a frame; None for the clips of training."""
        if seconds is None:
            return self.data.clip_samples
        exact = Fraction(seconds).limit_denominator(self.data.sample_rate) * self.data.sample_rate
        frames = max(1, -(-(exact - 1) // self.data.hop))  # one sample of tolerance for rounded decimals
        return int(frames) * self.data.hop

    def stack_curves(self, curves: Sequence[Curves], samples: int) -> Tensor:
        """Curves on the model's frames, stacked as the network takes them: float32 [B, R, T].

        Raises:
            UserError: curves that do not fit the length or the model's instruments.
        """
        arrays = [self.curve_arrays(one, samples) for one in curves]
        return self.data.layout.stack(
            {name: torch.stack([torch.from_numpy(one[name]) for one in arrays]) for name in arrays[0]}
        )

    def curve_arrays(self, curves: Curves, samples: int) -> dict[str, Float32]:
        """Return the controls of a clip at the model's frames, float32 [T] or [R, T].

        Raises:
            UserError: curves that do not fit the length, the instruments or the controls of the model.
        """
        data, frames = self.data, self.representation.frames(samples)
        fitting = curves.for_controls(data.layout.names)
        return fitting.arrays(data.instruments, samples, frames, data.hop, data.layout.names)

    def metadata(self) -> Json:
        """Everything but the weights as a JSON value, for a snapshot."""
        return {
            "config": self.config.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json"),
            "step": self.step,
            "train_seconds": self.train_seconds,
            "paradigm_state": {name: value.tolist() for name, value in self.paradigm.state_dict().items()},
        }


def build_model(config: Config, data: DatasetMetadata) -> TrainedModel:
    """A model with initial weights, a function of the config's seed; on the CPU, in train mode."""
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
    """The newest model of a run folder, the one in a snapshot file, or for None the shipped one.

    Args:
        path: run folder, snapshot, or None.
        device: on which it samples.
        precision: "auto" for bf16 where the device has it natively. In bf16 samples differ by about 1 % from those of
            float32; weights are rounded, so such a model is for sampling alone.

    Raises:
        UserError: there is no model at `path`, or it is damaged.
    """
    snapshot = checkpoint.find_snapshot(shipped_model() if path is None else Path(path))
    weights, metadata = checkpoint.read_snapshot(snapshot)
    try:
        config = parse_model(Config, metadata["config"], f"{snapshot}: config")
        data = parse_model(DatasetMetadata, metadata["data"], f"{snapshot}: data")
        step, seconds = int(metadata["step"]), float(metadata["train_seconds"])
        model = build_model(config, data)
        model.network.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{snapshot} does not fit this version of the project ({error}); train again") from error
    if precision == "auto":
        precision = "bf16" if has_fast_bf16(torch.device(device)) else "float32"
    network = freeze(model.network.to(device), precision)
    return replace(model, network=network, step=step, train_seconds=seconds)


def shipped_model() -> Path:
    """The snapshot shipped with the project.

    Raises:
        UserError: none is shipped.
    """
    if shipped := sorted(SNAPSHOTS.glob("*.safetensors")):
        return shipped[0]
    raise UserError("no model was named; give RUN=runs/..., or PARADIGM= of a run that you trained")


load_run = load_model  # the name before version 2
