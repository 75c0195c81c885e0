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
    """Return the SHA-256, hex, of the numbers of clips and the SHA-256 of all shards of the train split."""
    return value_digest([[shard.clips, shard.sha256] for shard in info.splits["train"].shards])


class DatasetMetadata(StrictModel):
    """Properties of the dataset that a model was trained on, with which the model is used without that dataset."""

    digest: str  # of the shards of the train split
    format: str
    label: str
    sample_rate: int
    clip_samples: int
    hop: int
    shape: Shape  # of one stored clip
    controls: dict[str, Shape]  # shapes of the controls of one clip
    instruments: tuple[str, ...]
    codec: str
    codebooks: int
    codec_digest: str  # of the codec's weights or the transform's kernels
    classes: int | None  # number of classes of a code; None for continuous data
    centred: bool  # whether scaling subtracts the mean
    one_scale: bool = False  # whether all channels are divided by the same standard deviation
    statistics: Json | None
    plan_digest: str
    format_digest: str

    @classmethod
    def of(cls, info: DatasetInfo, features: tuple[Feature, ...]) -> "DatasetMetadata":
        """Return the metadata of a dataset.

        Args:
            info: content of its dataset.json.
            features: features of its records: `data` and the controls.

        Raises:
            UserError: the present codec is not the one that made the data, or its weights are missing.
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
        """Controls in the order in which they are stacked for networks."""
        return ControlLayout.from_shapes(self.controls)

    def representation(self) -> Representation:
        """Return the transform between audio and the stored data of the dataset.

        Raises:
            UserError: the present codec is not the one that made the data, or its weights are missing.
        """
        return matching_representation(self.format, self.codec, self.codebooks, self.codec_digest)


def matching_representation(format_name: str, codec: str, codebooks: int, digest: str) -> Representation:
    """Return the representation of a format with a codec, if its digest is `digest`.

    Args:
        format_name: name of the format.
        codec: name of the codec.
        codebooks: number of codebooks of codes.
        digest: digest of the representation that made the data.

    Raises:
        UserError: the digests differ, or the weights of the codec are missing.
    """
    found = representation(format_name, codec, codebooks)
    # promise: sampling-refuses-digest
    if found.digest != digest:
        raise UserError(
            f"the digest of {found.label} must be {digest[:12] or 'empty'}, that of the codec which made the data, got "
            f"{found.digest[:12] or 'none'}; restore that codec ({codec}), or rebuild the dataset with this one"
        )
    return found
