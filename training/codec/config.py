"""What a codec's training run is: a TOML file with the tables training, machine, logging, network, quantizer, loss."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from data_specs.codecs.networks import network_class
from data_specs.errors import UserError
from data_specs.spec import Positive, Share, StrictModel, parse_model
from training.config import NonNegative, RunConfig, config_path

Weight = Annotated[float, Field(ge=0)]
Window = Annotated[int, Field(ge=16)]  # samples
INHERITED = {"channels", "power", "size"}  # keys of [network] that a codec to begin as has decided
CONFIGS = Path(__file__).parent / "configs"


class Quantizer(StrictModel):
    """Residual codebooks and when they are used in training."""

    codebooks: Positive = 16
    bins: Annotated[int, Field(ge=2)] = 1024
    share: Share = 0.5  # of the steps; in these the number of codebooks is drawn uniformly, the others have none
    start_step: Positive | None = None  # k-means before this step; None for the codebooks of the codec it begins as
    frames: Positive = 16_384  # latents for k-means
    iterations: Positive = 6


class Loss(StrictModel):
    """Weights of the sum, and the sizes of its parts."""

    stft: Weight = 0.0
    mel: Weight = 0.0
    waveform: Weight = 0.0
    magnitude: Weight = 0.0  # of networks that find a phase for magnitudes
    commitment: Weight = 0.25
    codebook: Weight = 1.0
    adversarial: Weight = 0.0  # with feature_matching: 0 for no discriminator
    feature_matching: Weight = 0.0
    stft_windows: tuple[Window, ...] = Field(default=(2048, 1024, 512, 256), min_length=1)
    mel_window: Window = 1024
    mel_bands: Positive = 80


class Discriminating(StrictModel):
    """The discriminator, where the loss has one."""

    windows: tuple[Window, ...] = Field(default=(1024, 512, 256), min_length=1)
    filters: Positive = 8
    start_step: NonNegative = 0  # before it the codec trains without


class CodecConfig(RunConfig):
    """A resolved config: everything that decides a run but the data."""

    format: Literal["audio"] = "audio"
    begin: str | None = None  # a codec by name or file whose matrices and codebooks are the start; None for none
    network: dict[str, Any]
    quantizer: Quantizer = Quantizer()
    loss: Loss
    discriminator: Discriminating = Discriminating()

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator."""
        return self.loss.adversarial > 0 or self.loss.feature_matching > 0


def load_codec_config(name: str, steps: int | None = None) -> CodecConfig:
    """Read a config by name (`frame`, `magnitudes`, `seanet`) or path; `steps` replaces training.steps.

    Raises:
        UserError: no such file, not TOML, or a key that is unknown, of the wrong type or of no use.
    """
    path = config_path(name, CONFIGS)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not valid TOML ({error}); mend it or take a copy of a shipped config") from error
    if steps is not None and isinstance(values.get("training"), dict):
        values["training"]["steps"] = steps
    config = parse_model(CodecConfig, {"machine": {}, "logging": {}, **values, "name": path.stem}, str(path))
    _check(config, str(path))
    return config


def _check(config: CodecConfig, where: str) -> None:
    """Raise UserError for keys that do not fit each other."""
    kind, loss = config.network.get("kind"), config.loss
    network = network_class(kind)
    own = {key: value for key, value in config.network.items() if key != "kind"}
    parse_model(network.Options, own, f"{where}: [network]")
    if network.begins_as is None and (config.begin is not None or config.quantizer.start_step is None):
        raise UserError(f"{where}: {kind} begins as no codec; leave out begin and set quantizer.start_step")
    if network.begins_as is not None and config.begin is None:
        raise UserError(f'{where}: {kind} continues a codec; set begin = "{network.begins_as}" or a file of that kind')
    if network.begins_as is not None and own.keys() & INHERITED:
        keys = ", ".join(sorted(own.keys() & INHERITED))
        raise UserError(f"{where}: [network] {keys}: the codec that it begins as decides; leave it out")
    if network.phase:
        if loss.magnitude:
            raise UserError(f"{where}: loss.magnitude is for networks that find a phase; set it to 0 for {kind}")
        if not (loss.stft or loss.mel or loss.waveform):
            raise UserError(f"{where}: [loss] asks for nothing; give stft, mel or waveform a weight")
        return
    for key in ("stft", "waveform", "adversarial", "feature_matching"):
        if getattr(loss, key):
            raise UserError(f"{where}: loss.{key} compares waveforms and {kind} learns no phase; set it to 0")
    if not (loss.magnitude or loss.mel):
        raise UserError(f"{where}: [loss] asks for nothing; give magnitude or mel a weight")
