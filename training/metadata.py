"""Metadata of the dataset that a model was trained on."""

from data_specs.arrays import Shape
from data_specs.dataset import DatasetInfo, Feature
from data_specs.errors import UserError
from data_specs.io.files import Json, value_digest
from data_specs.representations import Representation, representation
from data_specs.representations.latents import Codes
from data_specs.strict import StrictModel
from training.conditioning import ControlLayout


def content_digest(info: DatasetInfo) -> str:
    """Digest of the content of a dataset's train split."""
    return value_digest([[shard.clips, shard.sha256] for shard in info.splits["train"].shards])


class DatasetMetadata(StrictModel):
    """Properties of a dataset that a model needs to be used without it."""

    digest: str  # of the content of the train split
    format: str
    label: str
    sample_rate: int
    clip_samples: int
    hop: int
    shape: Shape  # of one stored clip
    controls: dict[str, Shape]  # shapes of one clip's control features, in the order they are stacked
    instruments: tuple[str, ...]
    codec: str
    codebooks: int
    codec_digest: str  # of the codec's weights or the transform's kernels
    classes: int | None  # of a code; None for continuous data
    centred: bool  # whether the mean is subtracted on the way into the network
    one_scale: bool = False  # whether all channels are divided by the same standard deviation
    statistics: Json | None
    plan_digest: str
    format_digest: str

    @classmethod
    def of(cls, info: DatasetInfo, features: tuple[Feature, ...]) -> "DatasetMetadata":
        """Metadata of a dataset.

        Raises:
            UserError: the codec at hand is not the one that made the data.
        """
        codec = info.spec.codec
        transform = matching_representation(info.format, codec.name, codec.codebooks, info.codec_digest)
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
            classes=transform.bins if isinstance(transform, Codes) else None,
            centred=transform.centred,
            one_scale=transform.one_scale,
            statistics=info.statistics,
            plan_digest=info.plan_digest,
            format_digest=info.format_digest,
        )

    @property
    def layout(self) -> ControlLayout:
        """The control features in the order networks take them."""
        return ControlLayout.from_shapes(self.controls)

    def representation(self) -> Representation:
        """The format's transform.

        Raises:
            UserError: the codec at hand is not the one that made the data.
        """
        return matching_representation(self.format, self.codec, self.codebooks, self.codec_digest)


def matching_representation(format_name: str, codec: str, codebooks: int, digest: str) -> Representation:
    """The representation of a format, checked against the digest of the one that made the data.

    Raises:
        UserError: the digests differ, or the codec's weights are missing.
    """
    found = representation(format_name, codec, codebooks)
    # promise: sampling-refuses-digest
    if found.digest != digest:
        raise UserError(
            f"{found.label} has the digest {found.digest[:12] or 'none'}, the data was made with "
            f"{digest[:12] or 'none'}; restore that codec ({codec}), or rebuild the dataset with this one"
        )
    return found
