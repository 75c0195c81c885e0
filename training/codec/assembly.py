"""Build the modules of a codec at step 0, or load them from a run folder."""

from pathlib import Path
from typing import Any

import torch

from data_specs.codecs import CODECS
from data_specs.codecs.networks import network_class
from data_specs.codecs.weights import FOLDER, codec_kind, read_weights
from data_specs.errors import UserError
from data_specs.io.files import Json
from data_specs.strict import StrictModel, parse_model
from training import checkpoint
from training.codec.config import CodecConfig
from training.codec.discriminator import Discriminator
from training.codec.quantizer import TrainedQuantizer
from training.codec.run import AudioMetadata, CodecRun, TrainedCodec


def build_codec(config: CodecConfig) -> tuple[TrainedCodec, StrictModel]:
    """Return the modules at step 0 and the resolved options of the network.

    Weights are a function of the seed and of the initial codec in the config.

    Raises:
        UserError: the initial codec is missing, damaged or of a kind that the network cannot start from.
    """
    if config.begin is None:
        options = network_options(config, {})
        return modules(config, options), options
    path = _beginning(config)
    tensors, metadata = read_weights(path)
    try:
        options = network_options(config, _network(config).inherited(tensors, float(metadata["power"])))
        network = modules(config, options)
        network.codec.begin(tensors)
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"begin = {config.begin!r}: {path} is incomplete ({error}); fetch or make it again") from error
    if config.quantizer.start_step is None:
        codebooks = tensors["codebooks"].float()
        wanted = (config.quantizer.codebooks, config.quantizer.bins)
        if tuple(codebooks.shape[:2]) != wanted:
            raise UserError(
                f"[quantizer] must have {codebooks.shape[0]} codebooks of {codebooks.shape[1]} as {path}, got "
                f"{wanted[0]} of {wanted[1]}; change it, or set quantizer.start_step to fit new codebooks"
            )
        network.quantizer.initialize(codebooks)
    return network, options


def network_options(config: CodecConfig, inherited: Json) -> StrictModel:
    """Return the options in [network] and those `inherited` from the initial codec, as a validated model."""
    own = {key: value for key, value in config.network.items() if key != "kind"}
    return parse_model(_network(config).Options, {**own, **inherited}, f"{config.name}: [network]")


def modules(config: CodecConfig, options: StrictModel) -> TrainedCodec:
    """Return modules with random weights, a function of the seed in the config, on the CPU."""
    quantizer, scales = config.quantizer, config.discriminator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        codec = _network(config).of(options)
        books = TrainedQuantizer(quantizer.codebooks, quantizer.bins, codec.channels)
        discriminator = Discriminator(scales.windows, scales.filters) if config.adversarial else None
    return TrainedCodec(codec, books, discriminator)


def load_codec_run(path: Path) -> CodecRun:
    """Load the newest codec of a run folder, or the codec in a snapshot file.

    Raises:
        UserError: there is no snapshot, it is damaged, or it is of a diffusion model.
    """
    snapshot = checkpoint.find_snapshot(path)
    weights, facts = checkpoint.read_snapshot(snapshot)
    if "options" not in facts:
        raise UserError(f"{path} must be a run of `codec train`, got one of a diffusion model; give another RUN=")
    try:
        config = parse_model(CodecConfig, facts["config"], f"{snapshot}: config")
        data = parse_model(AudioMetadata, facts["data"], f"{snapshot}: data")
        options = parse_model(_network(config).Options, facts["options"], f"{snapshot}: options")
        network = modules(config, options)
        network.load_state_dict(weights)
        step, seconds = int(facts["step"]), float(facts["train_seconds"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{snapshot} must be a codec of this version of the project ({error}); train again") from error
    network.eval().requires_grad_(False)
    return CodecRun(network=network, options=options, config=config, data=data, step=step, train_seconds=seconds)


def _network(config: CodecConfig) -> Any:
    return network_class(config.network.get("kind"))


def _beginning(config: CodecConfig) -> Path:
    """Return the path of the weights file that `begin` names.

    Raises:
        UserError: there is no such file, or its codec is of another kind.
    """
    assert config.begin is not None
    path = FOLDER / f"{config.begin}.safetensors" if config.begin in CODECS else Path(config.begin)
    if not path.is_file():
        raise UserError(f"begin = {config.begin!r}: there is no file {path}; name a shipped codec or a weights file")
    kind, wanted = codec_kind(path), _network(config).begins_as
    if kind != wanted:
        raise UserError(f"begin must name a codec of kind {wanted}, got {config.begin!r} of kind {kind}")
    return path
