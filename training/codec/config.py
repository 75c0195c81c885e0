"""Config of codec training: TOML tables training, machine, logging, network, quantizer, loss, discriminator."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from data_specs.codecs.networks import network_class
from data_specs.errors import UserError
from data_specs.io.files import Json
from data_specs.strict import Positive, Share, StrictModel, parse_model
from training.config import NonNegative, RunConfig, config_path, read_toml

Weight = Annotated[float, Field(ge=0)]
Window = Annotated[int, Field(ge=16)]  # samples
INHERITED = {"channels", "power", "size"}  # keys of [network] taken from the initial codec
CONFIGS = Path(__file__).parent / "configs"


class Quantizer(StrictModel):
    """Sizes of the residual codebooks and their schedule in training."""

    codebooks: Positive = 16
    bins: Annotated[int, Field(ge=2)] = 1024
    share: Share = 0.5  # probability that a step quantizes, by a uniformly random number of codebooks
    start_step: Positive | None = None  # k-means runs before this step; None for the codebooks of the initial codec
    frames: Positive = 16_384  # number of latents for k-means
    iterations: Positive = 6  # of k-means


class Loss(StrictModel):
    """Weights of the loss terms (0 leaves a term out), window lengths in samples, and the number of mel bands."""

    stft: Weight = 0.0
    mel: Weight = 0.0
    waveform: Weight = 0.0
    magnitude: Weight = 0.0  # only for networks that decode magnitudes
    commitment: Weight = 0.25
    codebook: Weight = 1.0
    adversarial: Weight = 0.0  # if this or feature_matching is positive, there is a discriminator
    feature_matching: Weight = 0.0
    stft_windows: tuple[Window, ...] = Field(default=(2048, 1024, 512, 256), min_length=1)
    mel_window: Window = 1024
    mel_bands: Positive = 80


class DiscriminatorConfig(StrictModel):
    """Window lengths of the discriminator in samples, channels of its layers, and the first step that uses it."""

    windows: tuple[Window, ...] = Field(default=(1024, 512, 256), min_length=1)
    filters: Positive = 8
    start_step: NonNegative = 0  # first step that uses it


class CodecConfig(RunConfig):
    """Resolved config of codec training: everything that determines a run except the data."""

    format: Literal["audio"] = "audio"
    begin: str | None = None  # initial codec, by name or file; None for random weights
    network: Json
    quantizer: Quantizer = Quantizer()
    loss: Loss
    discriminator: DiscriminatorConfig = DiscriminatorConfig()

    @property
    def adversarial(self) -> bool:
        """Whether training uses a discriminator, because loss.adversarial or loss.feature_matching is positive."""
        return self.loss.adversarial > 0 or self.loss.feature_matching > 0


def load_codec_config(name: str, steps: int | None = None) -> CodecConfig:
    """Return the validated config of codec training in a TOML file.

    Args:
        name: name of a shipped config (`frame`, `magnitudes`, `seanet`), or path of a TOML file.
        steps: value that replaces training.steps; None to keep that of the file.

    Raises:
        UserError: no such file, not TOML, or a key that is unknown, of the wrong type or contradicts another.
    """
    path = config_path(name, CONFIGS)
    values = read_toml(path)
    if steps is not None and isinstance(values.get("training"), dict):
        values["training"]["steps"] = steps
    config = parse_model(CodecConfig, {"machine": {}, "logging": {}, **values, "name": path.stem}, str(path))
    _check(config, str(path))
    return config


def _check(config: CodecConfig, where: str) -> None:
    """Raise UserError if an option in [network] is invalid or keys contradict each other.

    `where` is the path of the config, with which messages begin.
    """
    kind, loss = config.network.get("kind"), config.loss
    network = network_class(kind)
    own = {key: value for key, value in config.network.items() if key != "kind"}
    parse_model(network.Options, own, f"{where}: [network]")
    if network.begins_as is None and (config.begin is not None or config.quantizer.start_step is None):
        raise UserError(f"{where}: {kind} must start from random weights; remove begin and set quantizer.start_step")
    if network.begins_as is not None and config.begin is None:
        raise UserError(f'{where}: {kind} must start from a codec; set begin = "{network.begins_as}" or such a file')
    if network.begins_as is not None and own.keys() & INHERITED:
        keys = ", ".join(sorted(own.keys() & INHERITED))
        raise UserError(f"{where}: [network] must not have {keys}, which the initial codec determines; remove the key")
    waveforms, magnitudes = ("stft", "waveform", "adversarial", "feature_matching"), ("magnitude",)
    own_terms, others, decoded = (
        (waveforms[:2], magnitudes, "waveforms") if network.phase else (magnitudes, waveforms, "magnitudes")
    )
    for key in others:
        if getattr(loss, key):
            raise UserError(f"{where}: loss.{key} must be 0 for {kind}, which decodes {decoded}")
    if not any(getattr(loss, key) for key in ("mel", *own_terms)):
        raise UserError(f"{where}: [loss] must have a positive weight; set mel or {' or '.join(own_terms)}")
