"""Training configs: one TOML file for all formats and paradigms, resolved for one format and one paradigm.

`[training]` and `[machine]` apply to every format; `[training.cqt]` and `[machine.cqt]` replace keys for one format.
The keys of `[diffusion.<paradigm>]` and `[network.<format>]` are defined in `training.diffusion` and
`training.networks`. Only the keys in `MUTABLE` may change when a run is resumed (`differing_key`).
"""

import json
import tomllib
from collections.abc import Collection
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from data_specs.arrays import Shape
from data_specs.errors import UserError
from data_specs.formats import FORMATS
from data_specs.io.files import Json
from data_specs.strict import Positive, Share, StrictModel, parse_model

CONFIGS = Path(__file__).parent / "configs"
DEFAULT_FORMAT = "encodec"  # where a paradigm can be trained on it
# Keys and tables that may change within a run.
MUTABLE = ("name", "training.steps", "machine", "logging", "network.checkpoint")

OVERRIDABLE = ("training", "machine", "logging", "diffusion", "network")  # tables that SET= may change

NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class Optimization(StrictModel):
    """Optimization of any network. Schedules depend on the step alone, never on time."""

    steps: Positive
    batch: Positive  # clips per step, of all ranks together
    seed: int = 0
    seconds: PositiveFloat | None = None  # length of the crop of each clip; None for whole clips
    learning_rate: PositiveFloat = 1e-4
    warmup_steps: NonNegative = 1000  # over which the learning rate rises linearly
    decay_start: NonNegative = 0  # step from which it decays as 1 / sqrt(step); 0 for never
    adam_betas: tuple[Share, Share] = (0.9, 0.999)
    clip_norm: PositiveFloat = 1.0  # largest L2 norm of the gradient of all parameters
    ema_decay: Share = 0.9999
    ema_stds: tuple[Annotated[float, Field(gt=0, lt=0.289)], ...] = ()  # relative widths of power-function averages
    max_skipped: Positive = 20  # steps in a row without a finite loss and gradient before the run stops


class Training(Optimization):
    """Optimization of a diffusion model."""

    control_dropout: Share = 0.3  # probability that a control of a clip is unconditioned
    span_dropout: Share = 0.0  # probability that another is unconditioned over a random span of time
    curve_augmentation: Share = 0.0  # probability that curves are made coarser; needs network.augmented
    # Of the network; "auto" is bf16 where it is faster, and config.json records the choice.
    precision: Literal["auto", "float32", "bf16"] = "auto"
    companding: PositiveFloat = 1.0  # power of the signed-power companding of scaled data; 1 for none


class Machine(StrictModel):
    """Options of the machine. They change the results of a step by rounding errors only."""

    threads: Positive | None = None  # of a CPU; None for those of the run so far, else the fastest number
    micro_batch: Positive | None = None  # clips a rank computes at once; None for its whole share
    compile: bool = False
    in_memory: bool = False  # hold the train split in memory
    resident: bool = False  # hold the train split on the device and crop it there
    tf32: bool = False  # allow TF32 (10-bit mantissas) for float32 products on GPUs
    timeout_minutes: PositiveFloat = 10.0  # longest wait of a rank for the others
    max_train_seconds: Annotated[float, Field(ge=0)] = (
        0  # total time of the steps, after which the run is saved and stops; 0: no limit
    )


class Logging(StrictModel):
    """Intervals of logging and saving, in steps except `checkpoint_seconds` (0: never), and numbers of clips."""

    log_every: Positive = 10
    valid_every: NonNegative = 10_000
    valid_clips: Positive = 256
    listen_every: NonNegative = 10_000
    listen_clips: Positive = 3
    checkpoint_every: NonNegative = 2_000
    checkpoint_seconds: NonNegative = 600  # longest time between two checkpoints, in seconds
    ema_every: NonNegative = 10_000  # of storing the averages of `ema_stds`
    keep_checkpoints: Positive = 2

    def intervals(self) -> Shape:
        """Return the five intervals that are in steps, 0 for never."""
        return (self.log_every, self.valid_every, self.listen_every, self.checkpoint_every, self.ema_every)


class RunConfig(StrictModel):
    """Part of a config that the training loop reads."""

    name: str
    format: str
    training: Optimization
    machine: Machine
    logging: Logging

    def replaced(self, table: str, **values: Any) -> Self:
        """Return a copy in which keys of the table `table` have other values, which are not validated."""
        return self.model_copy(update={table: getattr(self, table).model_copy(update=values)})


class Config(RunConfig):
    """Resolved config of a diffusion model: everything that determines a run except the data."""

    paradigm: str
    training: Training
    diffusion: Json
    network: Json


class _File(StrictModel):
    """Tables of a config file, before those of one format and one paradigm are chosen."""

    training: Json
    machine: Json = Field(default_factory=dict)
    logging: Json = Field(default_factory=dict)
    diffusion: dict[str, Json] = Field(default_factory=dict)
    network: dict[str, Json] = Field(default_factory=dict)


def check_pair(paradigm: str, format_name: str | None) -> str:
    """Return the format to train `paradigm` on: `format_name` or, if it is None, the default of the paradigm.

    The default is encodec if the paradigm supports it, else its first format.

    Raises:
        UserError: an unknown paradigm, or a format that it does not support; the message lists the valid pairs.
    """
    from training.diffusion import PARADIGMS

    table = "; ".join(f"{name}: {' or '.join(kind.formats)}" for name, kind in PARADIGMS.items())
    if paradigm not in PARADIGMS:
        raise UserError(f"PARADIGM={paradigm} is not known; valid pairs of PARADIGM and FORMAT are {table}")
    formats = PARADIGMS[paradigm].formats
    if format_name is None:
        return DEFAULT_FORMAT if DEFAULT_FORMAT in formats else formats[0]
    # promise: refused-table-goes-together
    if format_name not in formats:
        raise UserError(
            f"{paradigm} does not train on FORMAT={format_name}; valid pairs of PARADIGM and FORMAT are {table}"
        )
    return format_name


def load_config(
    name: str, paradigm: str, format_name: str | None = None, steps: int | None = None, overrides: str = ""
) -> Config:
    """Read a config and resolve it for a paradigm and a format.

    Tables of other formats and paradigms in the file are checked too.

    Args:
        name: name of a shipped config, or path of a TOML file.
        paradigm: one of PARADIGMS.
        format_name: the format to train on; None for the default of the paradigm.
        steps: value that replaces training.steps; None to keep it.
        overrides: `table.key=value` pairs separated by spaces, values in TOML; checked like the file.

    Raises:
        UserError: no such file, not TOML, a pair that does not fit, a format without [network.<format>], a key that is
            unknown or of the wrong type, or training.steps both as `steps` and in `overrides`.
    """
    from training.diffusion import PARADIGMS
    from training.networks import network_config

    format_name = check_pair(paradigm, format_name)
    path = config_path(name)
    tables = parse_model(_File, read_toml(path), str(path))
    _check_names(tables.network, FORMATS, f"{path}: network")
    _check_names(tables.diffusion, PARADIGMS, f"{path}: diffusion")
    if format_name not in tables.network:
        raise UserError(f"{path} has no table [network.{format_name}]; add one, or train on another format")
    # Each format is resolved, so that a wrong key is found whichever of them is trained.
    resolved: dict[str, Json] = {f: {} for f in FORMATS}
    for f, (key, kind) in product(FORMATS, (("training", Training), ("machine", Machine))):
        where = f"{path}: [{key}]"
        resolved[f][key] = _for(getattr(tables, key), f, where)
        parse_model(kind, resolved[f][key], where)
    for key, one in PARADIGMS.items():
        parse_model(one.Config, tables.diffusion.get(key, {}), f"{path}: [diffusion.{key}]")
    for key, table in tables.network.items():
        network_config(table, f"{path}: [network.{key}]")
    config: Json = {
        **resolved[format_name],
        "name": path.stem,
        "paradigm": paradigm,
        "format": format_name,
        "logging": tables.logging,
        "diffusion": tables.diffusion.get(paradigm, {}),
        "network": tables.network[format_name],
    }
    if steps is not None:
        config["training"]["steps"] = steps
    for key, value in parse_overrides(overrides).items():
        if key == "training.steps" and steps is not None:
            raise UserError("SET= and STEPS= both give training.steps; remove one")
        *parents, last = key.split(".")
        place: Any = config if parents and parents[0] in OVERRIDABLE else None
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise UserError(f"SET= must name keys such as training.batch or network.channels, got {key!r:.60}")
        place[last] = value
    network_config(config["network"], "SET=: network")
    parse_model(PARADIGMS[paradigm].Config, config["diffusion"], "SET=: diffusion")
    return parse_model(Config, config, str(path))


def parse_overrides(text: str) -> Json:
    """Parse pairs such as `training.batch=16 network.kind=unet` to values by dotted key.

    Values are TOML; a value that is not valid TOML is a string.

    Raises:
        UserError: a part without key or `=`, or a key given twice.
    """
    found: Json = {}
    for part in text.split():
        key, equals, value = part.partition("=")
        if not equals or not key or key in found:
            raise UserError(f"SET= must be pairs such as training.batch=16, each key once, got {part!r:.60}")
        try:
            found[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key] = value
    return found


def config_path(name: str, folder: Path = CONFIGS) -> Path:
    """Return the path of a config: that of `name` among the shipped ones in `folder`, else `name` itself as a path.

    Raises:
        UserError: there is no such file.
    """
    shipped = sorted(path.stem for path in folder.glob("*.toml"))
    path = folder / f"{name}.toml" if name in shipped else Path(name)
    if not path.is_file():
        raise UserError(f"CONFIG={name} is neither one of {', '.join(shipped)} nor a file; check the name or the path")
    return path


def read_toml(path: Path) -> Json:
    """Return the content of a TOML file.

    Raises:
        UserError: not a readable TOML file.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} must be valid TOML ({error}); correct it or copy a shipped config") from error


def differing_key(old: Json, new: Json) -> str | None:
    """Return the first changed key that must not change within a run, as "KEY was OLD and is now NEW"; None for none.

    Keys are compared in alphabetical order.

    Args:
        old: JSON form of a Config, with `data_digest` beside its keys. Keys of `[training]` that it lacks have their
            defaults.
        new: the same of the config to resume with.
    """
    defaults = {f"training.{name}": field.default for name, field in Training.model_fields.items()}
    before, after = _flat(old), _flat(new)
    before |= {key: defaults[key] for key in after.keys() & defaults.keys() - before.keys()}
    for key in sorted(before.keys() | after.keys()):
        if any(key == name or key.startswith(f"{name}.") for name in MUTABLE):
            continue
        if before.get(key) != after.get(key):
            return f"{key} was {json.dumps(before.get(key))} and is now {json.dumps(after.get(key))}"
    return None


def _check_names(tables: Json, known: Collection[str], where: str) -> None:
    for name in tables:
        if name not in known:
            raise UserError(f"{where}.{name} is not a known table; choose from {', '.join(known)}")


def _for(table: Json, format_name: str, where: str) -> Json:
    """Return the keys of a table for one format: those of its sub-table `format_name` replace the shared ones.

    Raises:
        UserError: `format_name` in the table is not a sub-table; the message begins with `where`.
    """
    shared = {key: value for key, value in table.items() if key not in FORMATS}
    own = table.get(format_name, {})
    if not isinstance(own, dict):
        raise UserError(f"{where}: {format_name} must be a table, got {own!r:.80}")
    return shared | own


def _flat(value: Any, prefix: str = "") -> Json:
    """Return nested dicts as one dict with dotted keys below `prefix`; any other value is returned under `prefix`."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}.{key}" if prefix else key).items()}
