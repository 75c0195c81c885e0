"""Build the modules of a codec before its first training step, or load them from a snapshot of a run."""

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
    """Return the modules of a codec before its first training step, and the validated options of its network.

    Without `begin` in the config, the network has random weights, a function of `training.seed`. With `begin`, it
    starts with the matrices of that codec; its codebooks are taken too if `quantizer.start_step` is None. Otherwise the
    codebooks are zero until they are fitted.

    Raises:
        UserError: the initial codec is missing, damaged or of a kind that the network cannot start from; its codebooks
            do not have the sizes in [quantizer]; or a key of [network] is invalid.
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
    """Return the validated options of the network: the keys of [network] without `kind`, and `inherited`.

    Args:
        config: config of codec training.
        inherited: options that the initial codec determines, which replace keys of [network]; empty without such a
            codec.

    Raises:
        UserError: an unknown kind or key, or a value of the wrong type.
    """
    own = {key: value for key, value in config.network.items() if key != "kind"}
    return parse_model(_network(config).Options, {**own, **inherited}, f"{config.name}: [network]")


def modules(config: CodecConfig, options: StrictModel) -> TrainedCodec:
    """Return the network of the codec with `options`, its quantizer, and a discriminator if `config.adversarial`.

    They are on the CPU. Weights are random, a function of `training.seed`; codebooks are zero and not yet set.
    """
    quantizer, scales = config.quantizer, config.discriminator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        codec = _network(config).of(options)
        books = TrainedQuantizer(quantizer.codebooks, quantizer.bins, codec.channels)
        discriminator = Discriminator(scales.windows, scales.filters) if config.adversarial else None
    return TrainedCodec(codec, books, discriminator)


def load_codec_run(path: Path) -> CodecRun:
    """Return the codec of the newest intact snapshot of a run folder, or of a snapshot file, in eval mode.

    Its weights are the averaged ones, on the CPU and without gradients.

    Raises:
        UserError: there is no snapshot, or it is damaged, of a diffusion model, or of another version of the project.
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
    """Return the path of the weights file of the initial codec: of a shipped one by name, else `config.begin` itself.

    `config.begin` must not be None.

    Raises:
        UserError: there is no such file, or its codec is not of the kind from which the network of the config starts.
    """
    assert config.begin is not None
    path = FOLDER / f"{config.begin}.safetensors" if config.begin in CODECS else Path(config.begin)
    if not path.is_file():
        raise UserError(f"begin = {config.begin!r}: there is no file {path}; name a shipped codec or a weights file")
    kind, wanted = codec_kind(path), _network(config).begins_as
    if kind != wanted:
        raise UserError(f"begin must name a codec of kind {wanted}, got {config.begin!r} of kind {kind}")
    return path
