"""Configs are resolved for a format, and what is wrong in them is named with file and key."""

import pytest

from data_specs.errors import UserError
from training.config import check_pair, config_path, differing_key, load_config

BASE = """
[training]
steps = 100
batch = 8
[training.cqt]
batch = 2
[machine]
micro_batch = 4
[network.encodec]
kind = "unet"
channels = 8
factors = [2]
[network.cqt]
kind = "unet"
channels = 4
factors = [2]
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return write


def test_tables_of_a_format_are_laid_over_the_common_ones(written):
    path = written(BASE + "[machine.cqt]\nmicro_batch = 1\n")
    encodec, cqt = load_config(path, "edm"), load_config(path, "edm", "cqt", steps=7)
    assert (encodec.training.batch, encodec.machine.micro_batch, encodec.network["channels"]) == (8, 4, 8)
    assert (cqt.training.batch, cqt.machine.micro_batch, cqt.network["channels"]) == (2, 1, 4)
    assert (encodec.training.steps, cqt.training.steps) == (100, 7)
    assert (encodec.name, encodec.format, cqt.format) == ("mine", "encodec", "cqt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps = 100", "stepz = 100"), r"mine\.toml: \[training\]: steps"),
        (("steps = 100", "steps = 100\nrate = 1"), r"mine\.toml: \[training\]: rate is not a key; choose from steps, "),
        (("steps = 100", "steps = 'many'"), r"\[training\]: steps: .*integer.*'many'"),
        (("steps = 100", "steps = true"), r"\[training\]: steps: must be .*integer, got True"),
        (("steps = 100", "steps = 100\nlearning_rate = inf"), r"\[training\]: learning_rate: .*finite"),
        (("steps = 100", "steps = 100\naudio = 5"), r"\[training\]: audio must be a table, got 5"),
        (("[machine]", "[diffusion.ddpm]\nsteps = 1000000\n[machine]"), r"\[diffusion\.ddpm\]: steps: .*10000"),
        (("steps = 100", "steps = 0"), r"\[training\]: steps: .*greater than 0"),
        (("batch = 2", "batchsize = 2"), r"\[training\]: batchsize"),  # of another format than the one trained
        (("micro_batch = 4", "micro = 4"), r"\[machine\]: micro"),
        (("[machine]", "[machines]"), r"mine\.toml: machines"),
        (("channels = 4", "chanels = 4"), r"\[network\.cqt\]: "),
        (('kind = "unet"\nchannels = 4', 'kind = "onet"\nchannels = 4'), r"\[network\.cqt\]\.kind must be one of"),
        (("[network.cqt]", "[network.cqs]"), r"network\.cqs is not a known table"),
        (("[machine]", "[diffusion.edm]\nsigma = 1\n[machine]"), r"\[diffusion\.edm\]: sigma"),
        (("[machine]", "[diffusion.ode]\n[machine]"), r"diffusion\.ode is not a known table"),
        (("[machine]", "[machine"), "must be valid TOML"),
    ],
)
def test_what_is_wrong_is_named(written, change, message):
    assert change[0] in BASE
    with pytest.raises(UserError, match=message):
        load_config(written(BASE.replace(*change)), "edm")


def test_a_format_without_a_network(written):
    with pytest.raises(UserError, match=r"no table \[network\.disc\]"):
        load_config(written(BASE), "discdpm")


def test_an_unknown_config():
    with pytest.raises(UserError, match=r"CONFIG=big is neither one of .* nor a file"):
        config_path("big")


def test_pairs_that_fit_and_pairs_that_do_not():
    assert [check_pair(paradigm, None) for paradigm in ("ddpm", "edm", "discdpm")] == ["encodec", "encodec", "disc"]
    assert check_pair("edm", "cqt") == "cqt"
    for paradigm, format_name in (("edm", "disc"), ("discdpm", "encodec"), ("ddpm", "audio"), ("gan", None)):
        with pytest.raises(UserError, match=r"ddpm: .*encodec.*; edm: .*; discdpm: disc"):
            check_pair(paradigm, format_name)


def test_the_key_that_differs(written):
    old = load_config(written(BASE), "edm").model_dump(mode="json")
    new = load_config(written(BASE.replace("batch = 8", "batch = 9")), "edm").model_dump(mode="json")
    assert differing_key(old, old) is None
    assert differing_key(old, new) == "training.batch was 8 and is now 9"
    assert "network.factors" in differing_key(old, {**old, "network": {**old["network"], "factors": [3]}})
    attention = {**old, "network": {**old["network"], "attention": 1}}
    assert differing_key(old, attention) == "network.attention was null and is now 1"


def test_keys_that_an_earlier_run_lacks_had_their_defaults(written):
    new = load_config(written(BASE), "edm").model_dump(mode="json")
    old = {**new, "training": {k: v for k, v in new["training"].items() if k != "curve_augmentation"}}
    assert differing_key(old, new) is None
    new["training"]["curve_augmentation"] = 0.5
    assert differing_key(old, new) == "training.curve_augmentation was 0.0 and is now 0.5"


def test_what_may_differ(written):
    old = load_config(written(BASE), "edm").model_dump(mode="json")
    free = BASE.replace("micro_batch = 4", "micro_batch = 2\ncompile = true").replace("steps = 100", "steps = 200")
    new = load_config(written(free + "checkpoint = true\n[logging]\nlog_every = 3\n"), "edm", "encodec")
    assert differing_key(old, {**new.model_dump(mode="json"), "name": "other"}) is None


def test_overrides_are_checked_like_the_file(written):
    path = written(BASE)
    config = load_config(path, "edm", overrides="training.batch=16 training.learning_rate=1e-3 network.kind=unet")
    assert (config.training.batch, config.training.learning_rate, config.network["kind"]) == (16, 1e-3, "unet")
    for text, message in [
        ("training.batchs=1", "batchs"),
        ("training.batch=many", "batch"),
        ("batch=1", "SET= must name keys"),
        ("training.batch", "SET= must be pairs"),
        ("training.batch=1 training.batch=2", "each key once"),
        ("network.chanels=3", "chanels"),
    ]:
        with pytest.raises(UserError, match=message):
            load_config(path, "edm", overrides=text)
    with pytest.raises(UserError, match="SET= and STEPS= both"):
        load_config(path, "edm", steps=3, overrides="training.steps=4")
