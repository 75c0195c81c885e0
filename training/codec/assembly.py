"""Where a codec's training starts, and how a run folder gives back what it has come to."""

from pathlib import Path
from typing import Any

import torch

from data_specs.codecs import CODECS
from data_specs.codecs.networks import network_class
from data_specs.codecs.weights import FOLDER, codec_kind, read_weights
from data_specs.errors import UserError
from data_specs.spec import StrictModel, parse_model
from training import checkpoint
from training.codec.config import CodecConfig
from training.codec.discriminator import Discriminator
from training.codec.quantizer import TrainedQuantizer
from training.codec.run import AudioFacts, CodecRun, TrainedCodec


def build_codec(config: CodecConfig) -> tuple[TrainedCodec, StrictModel]:
    """The modules at step 0, a function of the config's seed and of the codec they begin as; the network's options.

    Raises:
        UserError: the codec to begin as is not there, or not of the kind that the network continues.
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
        raise UserError(f"begin = {config.begin!r}: {path} is not whole ({error}); fetch or make it again") from error
    if config.quantizer.start_step is None:
        codebooks = tensors["codebooks"].float()
        wanted = (config.quantizer.codebooks, config.quantizer.bins)
        if tuple(codebooks.shape[:2]) != wanted:
            raise UserError(
                f"{path} has {codebooks.shape[0]} codebooks of {codebooks.shape[1]}, [quantizer] asks for {wanted[0]} "
                f"of {wanted[1]}; change that, or set quantizer.start_step to fit others"
            )
        network.quantizer.begin(codebooks)
    return network, options


def network_options(config: CodecConfig, inherited: dict[str, Any]) -> StrictModel:
    """Options of the network: those in [network], and those that the codec it begins as decides."""
    own = {key: value for key, value in config.network.items() if key != "kind"}
    return parse_model(_network(config).Options, {**own, **inherited}, f"{config.name}: [network]")


def modules(config: CodecConfig, options: StrictModel) -> TrainedCodec:
    """Modules with fresh weights, a function of the config's seed, on the CPU."""
    quantizer, judge = config.quantizer, config.discriminator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        codec = _network(config).of(options)
        books = TrainedQuantizer(quantizer.codebooks, quantizer.bins, codec.channels)
        discriminator = Discriminator(judge.windows, judge.filters) if config.adversarial else None
    return TrainedCodec(codec, books, discriminator)


def load_codec_run(path: Path) -> CodecRun:
    """The newest codec of a run folder, or the one in a snapshot file.

    Raises:
        UserError: there is none, it is damaged, or it is no codec's.
    """
    snapshot = checkpoint.find_snapshot(path)
    weights, facts = checkpoint.read_snapshot(snapshot)
    if "options" not in facts:
        raise UserError(f"{path} is not a run of `codec train`; name one that is")
    try:
        config = parse_model(CodecConfig, facts["config"], f"{snapshot}: config")
        data = parse_model(AudioFacts, facts["data"], f"{snapshot}: data")
        options = parse_model(_network(config).Options, facts["options"], f"{snapshot}: options")
        network = modules(config, options)
        network.load_state_dict(weights)
        step, seconds = int(facts["step"]), float(facts["train_seconds"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{snapshot} does not fit this version of the project ({error}); train again") from error
    network.eval().requires_grad_(False)
    return CodecRun(network=network, options=options, config=config, data=data, step=step, train_seconds=seconds)


def _network(config: CodecConfig) -> Any:
    return network_class(config.network.get("kind"))


def _beginning(config: CodecConfig) -> Path:
    """The weights file that `begin` names."""
    assert config.begin is not None
    path = FOLDER / f"{config.begin}.safetensors" if config.begin in CODECS else Path(config.begin)
    if not path.is_file():
        raise UserError(f"begin = {config.begin!r}: there is no file {path}; name a codec of ours or its weights file")
    kind, wanted = codec_kind(path), _network(config).begins_as
    if kind != wanted:
        raise UserError(f"begin = {config.begin!r} is a codec of kind {kind}, this network continues {wanted}")
    return path
