"""`python -m training codec train`: the loop of the diffusion models, from a PVT-audio dataset to a codec's file."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data_specs.codecs import load_codec
from data_specs.errors import UserError
from training import trainer
from training.cli import main
from training.codec.assembly import build_codec, load_codec_run
from training.codec.config import load_codec_config
from training.codec.fit import fit, write
from training.codec.methods import METHODS
from training.codec.task import CodecObjective, CodecTask
from training.data.dataset import Dataset
from training.log import read_log
from training.model import load_model
from training.trainer import train

ROOT = Path(__file__).parents[3]
CONFIG = """
{begin}
[training]
steps = 12
batch = 4
seconds = 0.3
learning_rate = 2e-3
warmup_steps = 2
ema_decay = 0.9
max_skipped = 3
[logging]
log_every = 1
valid_every = 6
valid_clips = 1
listen_every = 12
listen_clips = 1
checkpoint_every = 4
[network]
{network}
[quantizer]
codebooks = 3
bins = 16
share = 0.6
frames = 200
iterations = 4
{quantizer}
[loss]
{loss}
stft_windows = [512, 128]
mel_window = 512
mel_bands = 20
"""
WAVEFORM = "stft = 1.0\nmel = 1.0\nwaveform = 1.0"
CODEC_KINDS = {
    "lapped": {"network": 'kind = "lapped"\nwidth = 8\nblocks = 1', "loss": WAVEFORM, "quantizer": ""},
    "magnitudes": {
        "network": 'kind = "magnitudes"\nwidth = 8\nblocks = 1',
        "loss": "magnitude = 1.0\nmel = 1.0",
        "quantizer": "start_step = 1",
    },
    "seanet": {
        "network": 'kind = "seanet"\nfilters = 2\nchannels = 8',
        "loss": f"{WAVEFORM}\nadversarial = 0.1\nfeature_matching = 0.1",
        "quantizer": "start_step = 5",
        "more": "[discriminator]\nwindows = [256]\nfilters = 2\nstart_step = 3",
    },
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads split sums, so bits are only compared between equal numbers of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(make_dataset, tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"), "audio", {"train": 9, "valid": 2})[0]


@pytest.fixture(scope="module")
def configs(data, tmp_path_factory):
    """Config files by kind of network, with the codecs that they begin as."""
    folder, begin = tmp_path_factory.mktemp("configs"), {"seanet": ""}
    clips = Dataset(data, format_name="audio")
    for network, kind, more in (("lapped", "pvt", {}), ("magnitudes", "phaseless", {"size": 512})):
        method = METHODS[kind](channels=12, codebooks=3, bins=16, frames=1000, iterations=4, **more)
        tensors = fit(lambda: (clips[index]["data"][None] for index in range(4)), method, 4)
        write(folder / f"{kind}.safetensors", tensors, method, kind)
        begin[network] = f'begin = "{folder / kind}.safetensors"'
    files = {}
    for kind, parts in CODEC_KINDS.items():
        files[kind] = folder / f"{kind}.toml"
        files[kind].write_text(CONFIG.format(**{"more": "", **parts}, begin=begin[kind]) + parts.get("more", ""))
    return files


@pytest.fixture(scope="module")
def whole(data, configs, tmp_path_factory):
    """Folders of runs that were never interrupted, by kind; each made when it is first asked for."""
    made = {}

    def run(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("runs") / kind
            assert command(kind, data, configs, made[kind]) == 0
        return made[kind]

    return run


def command(kind, data, configs, run, *more):
    return main(["codec", "train", "--data", str(data), "--config", str(configs[kind]), "--run", str(run), *more])


def losses(run, key="loss"):
    return {line["step"]: line[key] for line in read_log(run) if key in line}


def stop_at(monkeypatch, step):
    backward = trainer.backward

    def stopping(task, objective, batch, world):
        if int(batch.positions[0]) // task.config.training.batch + 1 == step:
            monkeypatch.setattr(trainer, "backward", backward)
            os.kill(os.getpid(), signal.SIGTERM)
        return backward(task, objective, batch, world)

    monkeypatch.setattr(trainer, "backward", stopping)


@pytest.mark.parametrize("kind", CODEC_KINDS)
def test_log_checkpoints_sounds_and_a_codec(kind, whole):
    run = whole(kind)
    assert list(losses(run)) == list(range(1, 13))
    valid = losses(run, "valid_loss")
    assert list(valid) == [0, 6, 12]
    assert list(losses(run, "latents_si_sdr")) == list(losses(run, "train_seconds")) == [0, 6, 12]
    assert list(losses(run, "codes_log_mel")) == ([0, 6, 12] if kind == "lapped" else [6, 12])
    heard = run / "listen" / "step-00000012"
    names = {f"{name}-0.wav" for name in ("original", "latents", "codes")} | {"clip-0.png"}
    assert {path.name for path in heard.iterdir()} == names
    codec = load_codec(str(run / "codec.safetensors"))
    assert (codec.name, codec.max_codebooks, codec.bins) == (kind, 3, 16)
    audio = torch.rand(1, 1, 3200) - 0.5
    averaged = load_codec_run(run).codec()
    assert torch.equal(codec.decode(codec.encode(audio)), averaged.decode(averaged.encode(audio)))


@pytest.mark.parametrize(("kind", "steps"), [("lapped", [7]), ("magnitudes", [5]), ("seanet", [3, 9])])
def test_stopped_and_continued_is_bit_identical(kind, steps, whole, data, configs, tmp_path, monkeypatch):
    for step in steps:  # the seanet's codebooks come before step 5: it stops before and after
        stop_at(monkeypatch, step)
        assert command(kind, data, configs, tmp_path) == 0
        assert step <= max(losses(tmp_path)) < 12
        assert not (tmp_path / "codec.safetensors").exists()
    assert command(kind, data, configs, tmp_path) == 0
    assert losses(tmp_path) == losses(whole(kind))
    for key in ("valid_loss", "latents_log_mel", "codes_si_sdr"):
        assert losses(tmp_path, key) == losses(whole(kind), key)
    assert (tmp_path / "codec.safetensors").read_bytes() == (whole(kind) / "codec.safetensors").read_bytes()


@pytest.mark.parametrize("kind", CODEC_KINDS)
def test_step_0_is_the_closed_form_and_gradients_reach_everything(kind, configs):
    config = load_codec_config(str(configs[kind]))
    network, _ = build_codec(config)
    audio = 0.3 * torch.randn(2, 1, 320 * 20, generator=torch.Generator().manual_seed(0))
    if config.begin is not None:
        closed, codec = load_codec(config.begin), network.codec
        torch.testing.assert_close(codec.encode(audio), closed.encode(audio), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            codec.decode(closed.encode(audio)), closed.decode(closed.encode(audio)), atol=1e-4, rtol=1e-3
        )
    if not network.quantizer.initialized:
        latents = network.codec.encode(audio).detach()
        books = float(latents.std()) * torch.randn(3, 16, network.codec.channels)
        books[:, 0] = 0
        network.quantizer.initialize(books)
    for parameter in network.parameters():  # the last layers begin at zero, which nothing gets past
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    if network.discriminator is not None:  # within both margins the two sides of its hinge loss cancel out in biases
        with torch.no_grad():
            for parameter in network.discriminator.parameters():
                parameter *= 4
    CodecObjective(network, config)(audio, 3, config.adversarial).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_loss_falls(data, configs, tmp_path):
    assert command("lapped", data, configs, tmp_path, "--steps", "40") == 0
    valid = losses(tmp_path, "valid_loss")
    assert valid[40] < 0.95 * valid[0]
    nearer = losses(tmp_path, "codes_log_mel")
    assert nearer[40] < nearer[0]


def test_micro_batches_change_only_rounding(whole, data, configs, tmp_path):
    assert command("seanet", data, configs, tmp_path, "--steps", "8", "--micro-batch", "3") == 0
    expected = {step: loss for step, loss in losses(whole("seanet")).items() if step <= 4}
    assert {step: loss for step, loss in losses(tmp_path).items() if step <= 4} == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_two_ranks_share_a_batch_and_a_discriminator(whole, data, configs, tmp_path):
    options = ["--data", str(data), "--config", str(configs["seanet"]), "--run", str(tmp_path), "--device", "cpu"]
    command = [sys.executable, "-m", "training", "codec", "train", *options, "--gpus", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path) == pytest.approx(losses(whole("seanet")), rel=1e-3)


def test_codebooks_are_drawn_from_all(configs, data):
    task = CodecTask(load_codec_config(str(configs["seanet"])), Dataset(data, format_name="audio"))
    drawn = [task.codebooks_at(step) for step in range(1, 401)]
    assert not any(drawn[:4])  # before start_step
    assert set(drawn) == {0, 1, 2, 3}
    assert drawn.count(0) == pytest.approx(160, abs=40)
    assert drawn.count(3) == pytest.approx(80, abs=30)


def test_exported_with_codebooks_fitted_anew(whole, data, tmp_path, capsys):
    run = whole("seanet")
    assert main(["codec", "export", str(run), str(tmp_path / "a.safetensors"), "--name", "sea"]) == 0
    assert main(["codec", "export", str(run), str(tmp_path / "b.safetensors"), "--data", str(data)]) == 0
    plain, anew = (load_codec(str(tmp_path / name)) for name in ("a.safetensors", "b.safetensors"))
    assert plain.name == "sea"
    assert f"seanet after 12 steps, sha256 {anew.digest}" in capsys.readouterr().out
    audio = 0.3 * torch.randn(1, 1, 32_000, generator=torch.Generator().manual_seed(0))
    latents = plain.encode(audio)
    assert torch.equal(latents, anew.encode(audio))
    assert not torch.equal(plain.dequantize(plain.quantize(latents, 3)), anew.dequantize(anew.quantize(latents, 3)))


def test_kmeans_gives_the_first_codebooks(data, configs, tmp_path, monkeypatch):
    """Before step 5 the latents of clips to come are fitted, for the trained and the averaged network alike."""
    config = load_codec_config(str(configs["seanet"]), steps=4)
    train(tmp_path, data, config, "cpu", CodecTask)
    with pytest.raises(UserError, match="must reach step 5 for fitted codebooks, got 4 steps"):
        load_codec_run(tmp_path).write(tmp_path / "early.safetensors", "early")
    seen = []
    initialize = type(load_codec_run(tmp_path).network.quantizer).initialize
    monkeypatch.setattr(
        "training.codec.quantizer.TrainedQuantizer.initialize",
        lambda self, books: (seen.append(books), initialize(self, books)),
    )
    train(tmp_path, data, load_codec_config(str(configs["seanet"]), steps=5), "cpu", CodecTask)
    assert len(seen) == 2
    assert torch.equal(*seen)
    assert not seen[0][:, 0].any()
    assert all(len(book.unique(dim=0)) == 16 for book in seen[0])


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        ("lapped", ("kind = ", "sort = "), "one of lapped, magnitudes, seanet"),
        ("lapped", ("width = 8", "width = 0"), r"\[network\]: width"),
        ("lapped", ("width = 8", "power = 0.3"), "which the initial codec determines"),
        ("lapped", ("begin", "#"), 'set begin = "pvt"'),
        ("lapped", ("pvt.safe", "phaseless.safe"), "must name a codec of kind pvt, got .* of kind phaseless"),
        ("lapped", ("pvt.safe", "nowhere.safe"), "there is no file"),
        ("lapped", ("bins = 16", "bins = 32"), "got 3 of 32"),
        ("lapped", ("waveform = 1.0", "magnitude = 1.0"), "must be 0 for lapped"),
        ("lapped", (WAVEFORM, ""), "must have a positive weight"),
        ("magnitudes", ("magnitude = 1.0", "waveform = 1.0"), "loss.waveform must be 0 for magnitudes"),
        ("magnitudes", ("magnitude = 1.0\nmel = 1.0", ""), "must have a positive weight"),
        ("seanet", ("start_step = 5", ""), "set quantizer.start_step"),
        ("seanet", ("frames = 200", "frames = 8"), "fit on more audio"),
        ("seanet", ("[training]", "[training]\ncontrol_dropout = 0.1"), "control_dropout"),
        ("seanet", ("seconds = 0.3", "seconds = 9"), "training.seconds must be between a frame and"),
        ("seanet", ("[loss]", "[los"), "must be valid TOML"),
    ],
)
def test_configs_that_do_not_fit_are_one_sentence(kind, change, sentence, data, configs, tmp_path, capsys):
    text = configs[kind].read_text()
    assert change[0] in text
    (tmp_path / "wrong.toml").write_text(text.replace(*change, 1))
    assert command("wrong", data, {"wrong": tmp_path / "wrong.toml"}, tmp_path / "run") == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    assert re.search(sentence, said)


def test_other_configs_data_and_arguments_are_refused(whole, data, configs, tmp_path, capsys, make_dataset):
    def refused(*arguments):
        assert main([str(argument) for argument in ("codec", *arguments)]) == 2
        return capsys.readouterr().err

    run = whole("seanet")
    other = tmp_path / "other.toml"
    other.write_text(configs["seanet"].read_text().replace("mel = 1.0", "mel = 2.0"))
    assert "loss.mel was 1.0 and is now 2.0" in refused("train", "--data", data, "--config", other, "--run", run)
    assert "must end in .safetensors" in refused("train", "--data", data, "--out", "codec.pt")
    assert "--steps must be" in refused("train", "--data", data, "--config", configs["seanet"], "--steps", "0")
    early = refused("train", "--data", data, "--config", configs["seanet"], "--steps", "4", "--run", tmp_path / "run")
    assert "--steps must be at least quantizer.start_step = 5" in early
    assert not (tmp_path / "run").exists()
    assert "neither one of frame, magnitudes, seanet" in refused("train", "--data", data, "--config", "framed")
    assert "must end in .safetensors" in refused("export", run, "codec.pt")
    assert "there is no snapshot in" in refused("export", tmp_path, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="paradigm"):
        load_model(run)


def test_a_run_of_a_diffusion_model_is_no_codecs(tmp_path, capsys):
    from training.checkpoint import write_snapshot

    write_snapshot(tmp_path / "model.safetensors", {"a": torch.zeros(1)}, {"config": {}})
    assert main(["codec", "export", str(tmp_path / "model.safetensors"), str(tmp_path / "a.safetensors")]) == 2
    assert "must be a run of `codec train`" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["frame", "magnitudes", "seanet"])
def test_shipped_configs_load(name):
    config = load_codec_config(name, steps=7)
    assert (config.name, config.format, config.training.steps) == (name, "audio", 7)
    if config.begin is None or load_begin(config.begin):
        network, _ = build_codec(config)
        assert network.codec.channels == 128
        assert network.quantizer.entries.shape == (16, 1023, 128)


def load_begin(name):
    """Whether the codec that a config begins as comes with the project."""
    from data_specs.codecs import missing_weights

    return not missing_weights(name)
