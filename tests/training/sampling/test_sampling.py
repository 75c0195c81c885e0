"""Sampling: clips follow their curves and are the same in any batch; files, demo and command line."""

import html
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from data_specs.controls.curve_files import parse_value, read_curves
from data_specs.errors import UserError
from data_specs.level import listening_gain
from training import checkpoint
from training.cli import main
from training.conditioning import ControlLayout
from training.config import load_config
from training.data.dataset import Dataset
from training.data.loader import control_layout
from training.metadata import DatasetMetadata
from training.model import build_model, load_model
from training.networks import parameter_count
from training.options import parse_guidance
from training.sampling.curve_sources import control_sets, shipped_curves
from training.sampling.defaults import DEFAULT_GUIDANCE
from training.sampling.outputs import write_grid, write_samples
from training.sampling.sampling import SamplingConfig, default_steps

CONFIG = """
[training]
steps = 10
batch = 4
[diffusion.discdpm]
steps = 4
[network.encodec]
kind = "unet"
channels = 8
skip = 1
factors = [2, 2]
embedding = 16
controls = { local = { channels = 8 } }
[network.cqt]
kind = "unet"
channels = 4
factors = [2, 2]
embedding = 16
patch = 4
controls = { local = { channels = 4 } }
[network.disc]
kind = "unet"
channels = 8
factors = [2, 2]
embedding = 16
code_embedding = 4
controls = { local = { channels = 8 } }
"""
CURVES = parse_value(
    {"version": 1, "velocity": [[0, 0.2], [1, 0.9]], "chroma": [[0, "E"], [0.5, "G"]], "instruments": "violin"}
)
PAIRS = [("edm", "encodec"), ("ddpm", "encodec"), ("discdpm", "disc"), ("edm", "cqt")]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def snapshots(make_dataset, tmp_path_factory):
    """Snapshots of small networks with random weights, by (paradigm, format), and the datasets they fit."""
    parent = tmp_path_factory.mktemp("sampling")
    config_file = parent / "small.toml"
    config_file.write_text(CONFIG)
    found = {}
    for paradigm, format_name in PAIRS:
        folder = parent / "data" / f"PVT-{format_name}"
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            make_dataset(folder.parent, format_name, {"train": 2, "valid": 2}, shard_clips=2)
        data = Dataset(folder)
        run = build_model(
            load_config(str(config_file), paradigm, format_name), DatasetMetadata.of(data.info, data.features)
        )
        generator = torch.Generator().manual_seed(1)
        for weight in run.network.parameters():  # layers that begin at zero would hide the controls
            weight.data.add_(0.1 * torch.randn(weight.shape, generator=generator))
        path = parent / f"{paradigm}-{format_name}.safetensors"
        checkpoint.write_snapshot(path, run.network.state_dict(), run.metadata())
        found[paradigm, format_name] = path
    return found


@pytest.fixture(scope="module")
def run(snapshots):
    return load_model(snapshots["edm", "encodec"])


@pytest.fixture(scope="module")
def data(snapshots):
    return snapshots["edm", "encodec"].parent / "data" / "PVT-encodec"


def test_a_model_read_back_stacks_controls_as_it_did_in_training(run, data):
    trained_on = control_layout(Dataset(data))
    assert run.data.layout == trained_on
    assert trained_on.rows == (("velocity", 1), ("chroma", 1), ("instruments", 3))
    shuffled = {"instruments": (3, 9), "mood": (2, 9), "chroma": (9,), "velocity": (9,)}
    assert ControlLayout.from_shapes(shuffled).rows == (*trained_on.rows, ("mood", 2))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_paradigm_gives_audio_of_the_length_asked_for(snapshots, pair):
    run = load_model(snapshots[pair])
    audio = run.sample(CURVES, seconds=1, n=2, steps=2, seed=3)
    assert audio.shape == (2, 1, 24_000)
    assert audio.dtype == torch.float32
    assert audio.isfinite().all()
    assert not torch.equal(audio[0], audio[1])
    assert torch.equal(audio, run.sample(CURVES, seconds=1, n=2, steps=2, seed=3))
    assert not torch.equal(audio, run.sample(CURVES, seconds=1, n=2, steps=2, seed=4))


@pytest.mark.parametrize("pair", PAIRS[:3], ids="-".join)
def test_a_sample_equals_itself_in_any_batch(snapshots, pair):
    run = load_model(snapshots[pair])
    controls = run.stack_curves([CURVES], 24_000).repeat(5, 1, 1)
    settings = SamplingConfig(steps=2, seed=7)
    whole = run.sample_controls(controls, 24_000, settings, batch=5)
    tolerance = 1e-3 * max(1.0, float(whole.std()))  # untrained networks exceed full scale
    for batch in (1, 2):
        parts = run.sample_controls(controls, 24_000, settings, batch=batch)
        if run.scaling is None:
            share = float((parts - whole).abs().amax((1, 2)).lt(tolerance).double().mean())
            assert share >= 0.8  # a tie of two codes may fall to the other side, and is then heard
        else:
            assert (parts - whole).abs().max() < tolerance
    alone = run.sample_controls(controls[3:4], 24_000, settings, indices=[3])
    assert (alone[0] - whole[3]).abs().max() < tolerance or run.scaling is None


def test_samples_follow_the_controls_they_were_given(run):
    controls = run.stack_curves([CURVES, CURVES.without("velocity"), CURVES], 24_000)
    assert controls.shape == (3, 5, 75)
    assert (controls[1, 0] == -1).all()
    audio = run.sample_controls(controls, 24_000, SamplingConfig(steps=2), indices=[0, 0, 0])
    assert (audio[0] - audio[2]).abs().max() < 1e-3
    assert (audio[0] - audio[1]).abs().max() > 1e-2


def test_a_loaded_model_counts_its_parameters(run):
    trained = build_model(run.config, run.data).network
    assert parameter_count(run.network) == parameter_count(trained) > 1000


def test_guidance_changes_a_sample_and_weight_one_does_not(run):
    plain = run.sample(CURVES, seconds=1, n=1, steps=2, guidance=1.0)
    assert torch.equal(plain, run.sample(CURVES, seconds=1, n=1, steps=2, guidance={"chroma": 1.0}))
    assert not torch.equal(plain, run.sample(CURVES, seconds=1, n=1, steps=2, guidance={"chroma": 3.0}))
    assert not torch.equal(plain, run.sample(CURVES, seconds=1, n=1, steps=2, guidance=2.0))


def test_seconds_are_rounded_up_to_a_frame(run, snapshots):
    assert run.sample_count(None) == 192_000
    assert run.sample_count(4) == 96_000
    assert run.sample_count(301 / 75) == 301 * 320
    assert run.sample_count(1.005) == 76 * 320
    assert run.sample_count(0.001) == 320
    cqt = load_model(snapshots["edm", "cqt"])
    assert cqt.sample_count(1 / 240 * 100) == 10_000


def test_options_and_curves_that_do_not_fit_are_refused_before_anything_is_computed(run, snapshots):
    with pytest.raises(UserError, match="s_chrun"):
        run.sample(CURVES, seconds=1, s_chrun=3)
    with pytest.raises(UserError, match="s_churn"):
        load_model(snapshots["discdpm", "disc"]).sample(CURVES, seconds=1, s_churn=3)
    with pytest.raises(UserError, match="SECONDS="):
        run.sample({"version": 1, "velocity": [[0, 0.1], [8, 0.2]]}, seconds=4)
    with pytest.raises(UserError, match="got 'flute'"):
        run.sample({"version": 1, "instruments": "flute"}, seconds=1)


def test_another_codec_than_the_data_was_made_with_is_refused(run):
    stranger = replace(run, data=run.data.model_copy(update={"codec_digest": "f" * 64}))
    message = "must be ffffffffffff, that of the codec which made the data, got .*; restore that codec"
    with pytest.raises(UserError, match=message):
        stranger.sample(CURVES, seconds=1, steps=1)


def test_a_batch_that_does_not_fit_is_halved(run, monkeypatch):
    controls = run.stack_curves([CURVES] * 6, 24_000)
    config = SamplingConfig(steps=1, seed=2)
    expected = run.sample_controls(controls, 24_000, config)
    sizes = []

    def small(paradigm, network, shape, controls, noise, *arguments, **options):
        sizes.append(noise.batch)
        if noise.batch > limit:
            raise torch.OutOfMemoryError
        return sample(paradigm, network, shape, controls, noise, *arguments, **options)

    sample = type(run.paradigm).sample
    monkeypatch.setattr(type(run.paradigm), "sample", small)
    limit = 1
    found = run.sample_controls(controls, 24_000, config, batch=6)
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    assert (found - expected).abs().max() < 1e-3
    limit = 0
    with pytest.raises(UserError, match=r"one clip does not fit .*lower SECONDS="):
        run.sample_controls(controls, 24_000, config)


def test_the_progress_bar_ends_at_its_total(run, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, **options):
            self.n, self.total, self.over = 0, options["total"], False
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, count):
            self.n += count
            self.over |= self.n > self.total

    monkeypatch.setattr("training.sampling.sampling.tqdm", Bar)
    controls = run.stack_curves([CURVES] * 3, 24_000)
    run.sample_controls(controls, 24_000, SamplingConfig(steps=4), batch=2)
    assert (bars[0].n, bars[0].total, bars[0].over) == (12, 12, False)


def test_slow_samplers_take_few_steps_by_default_on_a_cpu(run, snapshots):
    cpu = torch.device("cpu")
    assert default_steps(run.paradigm, cpu) is None
    ddpm = load_model(snapshots["ddpm", "encodec"]).paradigm
    assert default_steps(ddpm, cpu) == 50
    assert default_steps(ddpm, torch.device("cuda")) is None


def test_a_model_is_described_in_a_line(run):
    assert re.fullmatch(r"TrainedModel\(edm on encodec, \d\.\d M parameters, step 0, velocity, .*\)", repr(run))


def test_shipped_names_are_curves_in_python(run):
    for name in ("swell", "unsaid"):
        assert run.sample(name, n=1, steps=1).shape == (1, 1, 192_000)


def test_files_of_a_set_hold_what_was_made(run, data, tmp_path):
    (chosen,) = control_sets(f"{data}:valid:1")
    settings = SamplingConfig(steps=2, seed=5)
    files = write_samples(run, chosen, tmp_path, samples=24_000, n=2, config=settings, raw=True)
    folder = tmp_path / chosen.name
    assert sorted(path.name for path in folder.iterdir()) == [
        "5-00.png", "5-00.wav", "5-01.png", "5-01.wav", "controls.json", "real.wav", "sampling.json",
    ]  # fmt: skip
    audio, rate = soundfile.read(files[1], dtype="float32")
    expected = run.sample(chosen.curves.cropped(24_000), seconds=1, n=2, steps=2, seed=5)
    assert rate == 24_000
    assert np.abs(audio - expected[1, 0].clamp(-1, 1).numpy()).max() < 1e-3
    again = read_curves(folder / "controls.json").arrays(run.data.instruments, 24_000, 75, 320)
    clip = Dataset(data, "valid")[1]
    for name, values in again.items():
        assert np.array_equal(values, clip[name].numpy()[..., :75])
    real, _ = soundfile.read(folder / "real.wav", dtype="float32")
    decoded = run.representation.decode(clip["data"][None])[0, 0, :24_000].clamp(-1, 1)
    assert np.abs(real - decoded.numpy()).max() < 1e-3
    assert Image.open(folder / "5-00.png").size[0] > 600


def test_the_grid_leaves_out_one_feature_at_a_time_from_the_same_noise(run, tmp_path):
    from training.sampling.curve_sources import ControlSet

    chosen = ControlSet("drawn", CURVES)
    write_grid(run, chosen, tmp_path, samples=24_000, config=SamplingConfig(steps=2))
    sounds = {path.stem: soundfile.read(path, dtype="float32")[0] for path in (tmp_path / "drawn").glob("*.wav")}
    assert set(sounds) == {"0-all", "0-without-velocity", "0-without-chroma", "0-without-instruments"}
    plain = run.sample(CURVES.without("chroma"), seconds=1, n=1, steps=2)[0, 0].clamp(-1, 1)
    assert np.abs(sounds["0-without-chroma"] - plain.numpy()).max() < 1e-3
    assert np.abs(sounds["0-without-chroma"] - sounds["0-all"]).max() > 1e-2


def test_guidance_is_parsed():
    assert parse_guidance("2") == 2.0
    assert parse_guidance("velocity=1.5, chroma=3") == {"velocity": 1.5, "chroma": 3.0}
    for text in ("", "x", "nan", "-1", "velocity", "velocity=", "velocity=1,velocity=2", "=2", "1,2"):
        with pytest.raises(UserError, match="GUIDANCE="):
            parse_guidance(text)


def test_sample_and_demo_commands(snapshots, data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawn.csv").write_text("time,velocity,chroma\n0,0.3,0.4\n1,0.8,\n")
    edm, disc = snapshots["edm", "encodec"], snapshots["discdpm", "disc"]
    common = ["--seconds", "1", "--sampler-steps", "2", "--controls", f"drawn.csv,{data}:valid:0"]
    assert main(["sample", "--run", str(edm), "--clips", "1", "--grid", *common]) == 0
    said = capsys.readouterr().out
    assert f"2 network evaluations, guidance {DEFAULT_GUIDANCE:g}, seed 0" in said
    assert "chroma 0.4 taken as 4/11 (E)" in said
    written = [line for line in said.splitlines() if line.endswith((".wav", ".png"))]
    assert len(written) == 4
    assert all((tmp_path / line).stat().st_size > 1000 for line in written)

    assert main(["sample", "--run", str(edm), *common, "--clips=1", "--sampler=heun", "--s-churn=5", "--out=a"]) == 0
    record = json.loads(Path("a/drawn/sampling.json").read_text())
    assert [record[key] for key in ("paradigm", "steps", "sampler", "s_churn")] == ["edm", 2, "heun", 5]

    assert main(["demo", "--run", f"{edm},{disc}", *common]) == 0
    page = (tmp_path / capsys.readouterr().out.splitlines()[-1]).read_text()
    assert f'<td class="number">{parameter_count(load_model(edm).network) / 1e6:.2f} M</td>' in page
    assert page.count("<audio") == 2 * 2 + 1  # two runs on two sets of controls, one of them with its real clip
    assert "through encodec" in page

    for arguments, message in [
        (["--clips", "0"], "--clips must be"),
        (["--seconds", "1e9"], "got '1e9'"),
        (["--guidance", "pitch=2"], "no control feature 'pitch'"),
        (["--s-churn", "lots"], "--s-churn must be a number"),
        (["--seed", "-1"], "--seed must be"),
    ]:
        assert main(["sample", "--run", str(edm), *common, *arguments]) == 2
        assert message in capsys.readouterr().err


def test_a_demo_shows_the_first_real_clips_unless_controls_are_given(
    snapshots, make_dataset, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    make_dataset(tmp_path / "data", "audio", {"train": 2, "valid": 3})
    common = ["demo", "--run", str(snapshots["edm", "encodec"]), "--sampler-steps", "1"]
    assert main(common) == 0
    page = Path(capsys.readouterr().out.strip()).read_text()
    shown = len(control_sets("", names=("velocity", "chroma", "instruments")))
    assert page.count("<audio") == shown + 2 * 2  # two clips beside the samples that follow their controls
    assert "rendered" in page
    assert main([*common, "--data", "nowhere"]) == 0
    said = capsys.readouterr().out
    assert "note: no real clips on the page" in said
    assert Path(said.splitlines()[-1]).read_text().count("<audio") == shown


def test_names_of_runs_and_curves_are_text_on_the_page(snapshots, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile = """<hostile onload="alert(1)">&amp;"""
    shutil.copy(snapshots["edm", "encodec"], f"run {hostile}.safetensors")
    shutil.copy(shipped_curves()["swell"], f"curve {hostile}.json")
    given = ["--run", f"run {hostile}.safetensors", "--controls", f"curve {hostile}.json"]
    assert main(["demo", *given, "--sampler-steps", "1", "--out", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert "<hostile" not in page
    assert html.unescape(page).count(f"run {hostile}") >= 2  # among the models, and beside the sound
    assert f"curve {hostile}" in html.unescape(page)


def test_controls_written_for_people_are_json(run, tmp_path):
    (chosen,) = control_sets("swell")
    write_samples(run, chosen, tmp_path, samples=192_000, n=1, config=SamplingConfig(steps=1))
    value = json.loads((tmp_path / "swell" / "controls.json").read_text())
    assert value == json.loads(shipped_curves()["swell"].read_text())
    assert io.BytesIO((tmp_path / "swell" / "0-00.png").read_bytes()).read(4) == b"\x89PNG"


def test_samples_of_other_settings_are_moved_aside(run, tmp_path, capsys):
    (chosen,) = control_sets("swell")
    for n in (2, 2, 1):
        write_samples(run, chosen, tmp_path, samples=192_000, n=n, config=SamplingConfig(steps=1))
    assert sorted(path.name for path in (tmp_path / "swell").glob("*.wav")) == ["0-00.wav"]
    assert len(list((tmp_path / "swell.old-1").glob("*.wav"))) == 2
    assert not (tmp_path / "swell.old-2").exists()
    assert "swell holds other samples; moved to" in capsys.readouterr().out


def test_files_have_listening_level_with_one_gain_for_the_set(run, tmp_path):
    (chosen,) = control_sets("swell")
    config = SamplingConfig(steps=2)
    files = write_samples(run, chosen, tmp_path, samples=192_000, n=2, config=config)
    audio = run.sample("swell", n=2, steps=2)[:, 0].numpy()
    gain = listening_gain(list(audio), 24_000)
    for file, clip in zip(files, audio, strict=True):
        with soundfile.SoundFile(file) as wav:
            assert wav.comment == f"gain {20 * np.log10(gain):+.2f} dB"
            assert np.abs(wav.read(dtype="float32") - np.clip(clip * gain, -1, 1)).max() < 1e-3
    record = json.loads((tmp_path / "swell" / "sampling.json").read_text())
    assert record["gain_db"] == pytest.approx(20 * np.log10(gain), abs=0.01)
