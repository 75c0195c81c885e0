"""A trained model and everything it was made from: what `load_model` gives and what the training loop builds.

B clips, N control rows, T frames.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_specs.controls.curve_files import as_curves
from data_specs.controls.curves import Curves
from data_specs.dataset import DatasetInfo, Feature
from data_specs.errors import UserError
from data_specs.io.files import value_digest
from data_specs.representations import Representation, Scaling, Statistics, representation
from data_specs.representations.latents import Codes
from data_specs.spec import StrictModel, parse_model
from training import checkpoint
from training.conditioning import ControlLayout
from training.config import Config, RunConfig, differing_key
from training.diffusion import Paradigm, build_paradigm
from training.diffusion.guidance import Weights
from training.networks import build_network


def content_digest(info: DatasetInfo) -> str:
    """Digest of the content of a dataset's train split."""
    return value_digest([[shard.clips, shard.sha256] for shard in info.splits["train"].shards])


class DatasetMetadata(StrictModel):
    """What a model has to know of the dataset it was trained on, to be used without it."""

    digest: str  # of the content of the train split
    format: str
    label: str
    sample_rate: int
    clip_samples: int
    hop: int
    shape: tuple[int, ...]  # of one stored clip
    controls: dict[str, tuple[int, ...]]  # shapes of one clip's control features, in the order they are stacked
    instruments: tuple[str, ...]
    codec: str
    codebooks: int
    codec_digest: str  # of the codec's weights or the transform's kernels
    classes: int | None  # of a code; None for continuous data
    centred: bool  # whether the mean is taken off on the way into the network
    one_scale: bool = False  # whether all channels are divided by one spread
    statistics: dict[str, Any] | None
    plan_digest: str
    format_digest: str

    @classmethod
    def of(cls, info: DatasetInfo, features: tuple[Feature, ...]) -> "DatasetMetadata":
        """The facts of a dataset.

        Raises:
            UserError: the codec at hand is not the one that the data was made with.
        """
        codec = info.spec.codec
        stored = matching_representation(info.format, codec.name, codec.codebooks, info.codec_digest)
        shapes = {feature.name: feature.shape for feature in features}
        return cls(
            digest=content_digest(info),
            format=info.format,
            label=info.label,
            sample_rate=info.spec.clip.sample_rate,
            clip_samples=info.clip_samples,
            hop=info.hop,
            shape=shapes.pop("data"),
            controls=shapes,
            instruments=info.spec.instrument_names,
            codec=codec.name,
            codebooks=codec.codebooks,
            codec_digest=info.codec_digest,
            classes=stored.bins if isinstance(stored, Codes) else None,
            centred=stored.centred,
            one_scale=stored.one_scale,
            statistics=info.statistics,
            plan_digest=info.plan_digest,
            format_digest=info.format_digest,
        )

    @property
    def layout(self) -> ControlLayout:
        """The control features as networks take them."""
        return ControlLayout.from_shapes(self.controls)


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model ready to sample.

    Attributes:
        network: the backbone with averaged weights, in eval mode.
        paradigm: how to sample with it.
        config: what it was trained with.
        data: what it was trained on.
        step: steps of training behind it.
        train_seconds: wall-clock seconds those steps took.
    """

    network: nn.Module
    paradigm: Paradigm
    config: Config
    data: DatasetMetadata
    step: int
    train_seconds: float

    @cached_property
    def representation(self) -> Representation:
        """The format's transform.

        Raises:
            UserError: the codec at hand is not the one that the data was made with.
        """
        data = self.data
        return matching_representation(data.format, data.codec, data.codebooks, data.codec_digest)

    @cached_property
    def scaling(self) -> Scaling | None:
        """The pair between stored values and the network's; None for codes."""
        if self.data.statistics is None:
            return None
        statistics = Statistics.from_json(self.data.statistics)
        data, training = self.data, self.config.training
        return Scaling.fit(statistics, self.paradigm.sigma_data, training.companding, data.centred, data.one_scale)

    def to_model(self, stored: Tensor) -> Tensor:
        """Stored data [B, *shape] -> what the paradigm takes: scaled float32, or int64 codes."""
        return stored.long() if self.scaling is None else self.scaling.to_model(stored)

    def from_model(self, x: Tensor) -> Tensor:
        """The inverse of `to_model`."""
        return x if self.scaling is None else self.scaling.from_model(x)

    def sample(
        self,
        curves: Curves | Mapping[str, Any] | str | Path,
        *,
        seconds: float | None = None,
        n: int = 4,
        seed: int = 0,
        steps: int | None = None,
        guidance: Weights = 1.0,
        **options: Any,
    ) -> Tensor:
        """`n` new clips that follow `curves`, float32 [n, 1, N] at the dataset's sample rate.

        Args:
            curves: Curves, the value of a curve file, or the path of one.
            seconds: a whole number of frames; None for the length of the clips in training.
            seed: decides the noise; sample i is the same in any batch.
            steps: of the sampler; None takes the published number.
            guidance: one weight, or one by feature.
            options: of the paradigm's sampler, for example s_churn.

        Raises:
            UserError: curves or options that do not fit.
        """
        from training.sampling.sampling import SamplingConfig, sample

        settings = SamplingConfig(steps, guidance, seed, options)
        return sample(self, as_curves(curves), seconds=seconds, n=n, settings=settings)

    def facts(self) -> dict[str, Any]:
        """Everything but the weights as a JSON value, for the metadata of a snapshot."""
        return {
            "config": self.config.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json"),
            "step": self.step,
            "train_seconds": self.train_seconds,
            "paradigm_state": {name: value.tolist() for name, value in self.paradigm.state_dict().items()},
        }


def matching_representation(format_name: str, codec: str, codebooks: int, digest: str) -> Representation:
    """The representation of a format, if it is the one that made the data.

    Raises:
        UserError: its digest is another, or its weights cannot be had.
    """
    stored = representation(format_name, codec, codebooks)
    # promise: sampling-refuses-digest
    if stored.digest != digest:
        raise UserError(
            f"{stored.label} has the digest {stored.digest[:12] or 'of none'} here, the data was made with "
            f"{digest[:12] or 'none'}; put that codec back ({codec}), or build the dataset again with this one"
        )
    return stored


def build(config: Config, data: DatasetMetadata) -> TrainedModel:
    """A model with fresh weights, a function of the config's seed; on the CPU, in train mode."""
    paradigm = build_paradigm(config.paradigm, config.diffusion, data.layout, classes=data.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        network = build_network(
            config.network, data.shape, data.layout, classes=data.classes, vocabulary=paradigm.vocabulary
        )
    return TrainedModel(network=network, paradigm=paradigm, config=config, data=data, step=0, train_seconds=0.0)


def check_continues(folder: Path, config: RunConfig, data_digest: str) -> None:
    """Refuse a run folder that holds a run of another config or of other data than `data_digest` names.

    Raises:
        UserError: names the key that differs, or that the folder is not a run.
    """
    path = folder / "config.json"
    if not path.exists():
        if (folder / checkpoint.CHECKPOINTS).exists():
            raise UserError(f"{folder} has checkpoints but no config.json; move it aside or choose another RUN")
        return
    try:
        old = json.loads(path.read_bytes())
        old_digest = old.pop("data")["digest"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged; move {folder} aside or choose another RUN") from None
    new = config.model_dump(mode="json")
    difference = differing_key({**old, "data_digest": old_digest}, {**new, "data_digest": data_digest})
    # promise: refused-name-key-nothing-5
    if difference:
        raise UserError(f"{folder} holds another run: {difference}; choose another RUN, or give it the same config")


def load_model(path: str | Path, device: str | torch.device = "cpu") -> TrainedModel:
    """The newest model of a run folder, or the one in a snapshot file.

    Raises:
        UserError: there is none, or it is damaged.
    """
    snapshot = checkpoint.find_snapshot(Path(path))
    weights, facts = checkpoint.read_snapshot(snapshot)
    try:
        config = parse_model(Config, facts["config"], f"{snapshot}: config")
        data = parse_model(DatasetMetadata, facts["data"], f"{snapshot}: data")
        step, seconds = int(facts["step"]), float(facts["train_seconds"])
        run = build(config, data)
        run.network.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{snapshot} does not fit this version of the project ({error}); train again") from error
    network = run.network.to(device).eval().requires_grad_(False)
    return TrainedModel(
        network=network, paradigm=run.paradigm, config=config, data=data, step=step, train_seconds=seconds
    )


load_run = load_model  # the name before version 2
