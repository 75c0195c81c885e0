"""Sampling: what is asked for is what is made, in any batch; files, demo and the command line around it."""

import html
import io
import json
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
from training import checkpoint
from training.cli import main
from training.conditioning import ControlLayout
from training.config import load_config
from training.data.dataset import Dataset
from training.data.loader import control_layout
from training.model import DatasetMetadata, build, load_model
from training.networks import parameter_count
from training.sampling.commands import parse_guidance, run_paths
from training.sampling.curve_sources import control_sets, shipped_curves
from training.sampling.outputs import write_free_grid, write_samples
from training.sampling.sampling import (
    SamplingConfig,
    affordable_steps,
    batch_size,
    control_rows,
    evaluation_bytes,
    sample,
    sample_controls,
    sample_count,
)
from training.sampling.sweep import Sweep

CONFIG = """
[training]
steps = 10
batch = 4
[diffusion.discdpm]
steps = 4
[network.encodec]
kind = "unet"
channels = 8
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
        run = build(load_config(str(config_file), paradigm, format_name), DatasetMetadata.of(data.info, data.features))
        generator = torch.Generator().manual_seed(1)
        for weight in run.network.parameters():  # layers that begin at zero would hide the controls
            weight.data.add_(0.1 * torch.randn(weight.shape, generator=generator))
        path = parent / f"{paradigm}-{format_name}.safetensors"
        checkpoint.write_snapshot(path, run.network.state_dict(), run.facts())
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
    controls = control_rows(run, [CURVES], 24_000).repeat(5, 1, 1)
    settings = SamplingConfig(steps=2, seed=7)
    whole = sample_controls(run, controls, 24_000, settings=settings, batch=5)
    for batch in (1, 2):
        parts = sample_controls(run, controls, 24_000, settings=settings, batch=batch)
        if run.scaling is None:
            share = float((parts - whole).abs().amax((1, 2)).lt(1e-3).double().mean())
            assert share >= 0.8  # a tie of two codes may fall to the other side, and is then heard
        else:
            assert (parts - whole).abs().max() < 1e-3
    alone = sample_controls(run, controls[3:4], 24_000, settings=settings, indices=[3])
    assert (alone[0] - whole[3]).abs().max() < 1e-3 or run.scaling is None


def test_samples_follow_the_controls_they_were_given(run):
    controls = control_rows(run, [CURVES, CURVES.without("velocity"), CURVES], 24_000)
    assert controls.shape == (3, 5, 75)
    assert (controls[1, 0] == -1).all()
    audio = sample_controls(run, controls, 24_000, settings=SamplingConfig(steps=2), indices=[0, 0, 0])
    assert (audio[0] - audio[2]).abs().max() < 1e-3
    assert (audio[0] - audio[1]).abs().max() > 1e-2


def test_a_loaded_model_counts_its_parameters(run):
    trained = build(run.config, run.data).network
    assert parameter_count(run.network) == parameter_count(trained) > 1000


def test_several_curves_come_in_order_with_n_samples_each(run):
    audio = sample(run, [CURVES, CURVES.without("chroma")], seconds=1, n=2, settings=SamplingConfig(steps=2))
    first = sample(run, CURVES, seconds=1, n=2, settings=SamplingConfig(steps=2))
    assert audio.shape == (4, 1, 24_000)
    assert (audio[:2] - first).abs().max() < 1e-3


def test_guidance_changes_a_sample_and_weight_one_does_not(run):
    plain = run.sample(CURVES, seconds=1, n=1, steps=2)
    assert torch.equal(plain, run.sample(CURVES, seconds=1, n=1, steps=2, guidance={"chroma": 1.0}))
    assert not torch.equal(plain, run.sample(CURVES, seconds=1, n=1, steps=2, guidance={"chroma": 3.0}))
    assert not torch.equal(plain, run.sample(CURVES, seconds=1, n=1, steps=2, guidance=2.0))


def test_seconds_are_whole_frames(run, snapshots):
    assert sample_count(run, None) == 192_000
    assert sample_count(run, 4) == 96_000
    assert sample_count(run, 301 / 75) == 301 * 320
    cqt = load_model(snapshots["edm", "cqt"])
    assert sample_count(cqt, 1 / 240 * 100) == 10_000
    for seconds in (0, 0.001, 1.005, -1):
        with pytest.raises(UserError, match=r"must be a multiple of this model's frame of 320/24000 s"):
            sample_count(run, seconds)


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
    with pytest.raises(UserError, match="the data was made with ffffffffffff; put that codec back"):
        stranger.sample(CURVES, seconds=1, steps=1)


def test_batches_are_sized_to_memory(run, monkeypatch):
    controls = control_rows(run, [CURVES] * 6, 24_000)
    short = evaluation_bytes(run, controls[:1], 24_000)
    long = evaluation_bytes(run, control_rows(run, [CURVES], 96_000), 96_000)
    assert 3.5 * short < long < 4.5 * short
    monkeypatch.setattr("training.sampling.sampling._free_bytes", lambda: 7 * short)
    assert batch_size(run, controls, 24_000, SamplingConfig()) == 3
    assert batch_size(run, controls, 24_000, SamplingConfig(guidance=2.0)) == 1
    monkeypatch.setattr("training.sampling.sampling._free_bytes", lambda: 0)
    assert batch_size(run, controls, 24_000, SamplingConfig()) == 1


def test_slow_samplers_take_few_steps_where_none_were_asked_for(run, snapshots):
    assert affordable_steps(run) is None
    assert affordable_steps(load_model(snapshots["ddpm", "encodec"])) == 50


def test_files_of_a_set_hold_what_was_made(run, data, tmp_path):
    (chosen,) = control_sets(f"{data}:valid:1")
    settings = SamplingConfig(steps=2, seed=5)
    files = write_samples(run, chosen, tmp_path, seconds=1, n=2, settings=settings)
    folder = tmp_path / chosen.name
    assert sorted(path.name for path in folder.iterdir()) == [
        "5-00.png", "5-00.wav", "5-01.png", "5-01.wav", "controls.json", "real.wav",
    ]  # fmt: skip
    audio, rate = soundfile.read(files[1], dtype="float32")
    expected = sample(run, chosen.curves.cropped(24_000), seconds=1, n=2, settings=settings)
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


def test_the_grid_frees_one_feature_at_a_time_from_one_noise(run, tmp_path):
    from training.sampling.curve_sources import ControlSet

    chosen = ControlSet("drawn", CURVES)
    write_free_grid(run, chosen, tmp_path, seconds=1, settings=SamplingConfig(steps=2))
    sounds = {path.stem: soundfile.read(path, dtype="float32")[0] for path in (tmp_path / "drawn").glob("*.wav")}
    assert set(sounds) == {"0-all", "0-velocity-free", "0-chroma-free", "0-instruments-free"}
    plain = sample(run, CURVES.without("chroma"), seconds=1, n=1, settings=SamplingConfig(steps=2))[0, 0].clamp(-1, 1)
    assert np.abs(sounds["0-chroma-free"] - plain.numpy()).max() < 1e-3
    assert np.abs(sounds["0-chroma-free"] - sounds["0-all"]).max() > 1e-2


def test_shipped_curves_suit_a_clip_of_eight_seconds(run):
    names = shipped_curves()
    assert len(names) == 3
    for one in control_sets(""):
        assert not one.curves.notices
        assert control_rows(run, [one.curves], 192_000).shape == (1, 5, 600)
    (chosen,) = control_sets(next(iter(names)))
    assert chosen.real is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "is not known and no such file exists"),
        ("swell,swell", "names 'swell' twice"),
        (",", "names nothing"),
        ("DATA:valid:2", "there is no 2"),
        ("DATA:valid:1-0", "are not a range"),
        ("DATA:test:0", "there is no split 'test'"),
        ("DATA", "is no curve file"),
        ("gone:valid:0", "there is no dataset"),
    ],
)
def test_controls_that_name_nothing_are_refused(data, text, message):
    with pytest.raises(UserError, match=message):
        control_sets(text.replace("DATA", str(data)))


def test_clips_of_any_format_give_their_curves(data):
    (named,) = control_sets(f"{data}:valid:0", "cqt")
    (found,) = control_sets(f"{data.parent}:valid:0", "encodec")
    (other,) = control_sets(f"{data.parent}:valid:0", "cqt")
    assert named.curves == found.curves != other.curves
    assert named.real_label.startswith("through encodec")
    assert other.real_label == "through cqt"
    assert named.real.shape == other.real.shape == (1, 192_000)


def test_guidance_and_sweeps_are_read():
    assert parse_guidance("2") == 2.0
    assert parse_guidance("velocity=1.5, chroma=3") == {"velocity": 1.5, "chroma": 3.0}
    for text in ("", "x", "nan", "-1", "velocity", "velocity=", "velocity=1,velocity=2", "=2", "1,2"):
        with pytest.raises(UserError, match="GUIDANCE="):
            parse_guidance(text)
    churn = Sweep.parse("S_churn=0,10,40")
    assert (churn.option, churn.values) == ("s_churn", (0, 10, 40))
    assert churn.settings(10, SamplingConfig(steps=3)).options == {"s_churn": 10}
    assert Sweep.parse("steps=9,18").settings(9, SamplingConfig()).steps == 9
    for text in ("steps", "steps=9", "steps=9,9", "=1,2", "steps=a,b"):
        with pytest.raises(UserError, match="is no sweep"):
            Sweep.parse(text)


def test_runs_are_found_by_name_or_paradigm():
    assert [str(path) for path in run_paths("a, b", None, None, "tiny")] == ["a", "b"]
    assert [str(path) for path in run_paths(None, "discdpm", None, "tiny")] == ["runs/discdpm-disc-tiny"]
    with pytest.raises(UserError, match="PARADIGM"):
        run_paths(None, "gan", None, "tiny")


def test_sample_and_demo_commands(snapshots, data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawn.csv").write_text("time,velocity,chroma\n0,0.3,0.4\n1,0.8,\n")
    edm, disc = snapshots["edm", "encodec"], snapshots["discdpm", "disc"]
    common = ["--seconds", "1", "--sampler-steps", "2", "--controls", f"drawn.csv,{data}:valid:0"]
    assert main(["sample", "--run", str(edm), "--clips", "1", "--grid", *common]) == 0
    said = capsys.readouterr().out
    assert "3 network evaluations, guidance 1, seed 0" in said
    assert "chroma 0.4 taken as 4/11 (E)" in said
    written = [line for line in said.splitlines() if line.endswith((".wav", ".png"))]
    assert len(written) == 4
    assert all((tmp_path / line).stat().st_size > 1000 for line in written)

    assert main(["demo", "--run", f"{edm},{disc}", *common]) == 0
    page = (tmp_path / capsys.readouterr().out.strip()).read_text()
    assert f'<td class="number">{parameter_count(load_model(edm).network) / 1e6:.2f} M</td>' in page
    assert page.count("<audio") == 2 * 2 + 1  # two runs on two sets of controls, one of them with its real clip
    assert "through encodec" in page

    for arguments, message in [
        (["--clips", "0"], "--clips must be"),
        (["--seconds", "1e9"], "--seconds 1e9"),
        (["--guidance", "pitch=2"], "no control feature 'pitch'"),
        (["--s-churn", "lots"], "s_churn"),
        (["--seed", "-1"], "--seed must be"),
    ]:
        assert main(["sample", "--run", str(edm), *common, *arguments]) == 2
        assert message in capsys.readouterr().err


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
    write_samples(run, chosen, tmp_path, seconds=8, n=1, settings=SamplingConfig(steps=1))
    value = json.loads((tmp_path / "swell" / "controls.json").read_text())
    assert value == json.loads(shipped_curves()["swell"].read_text())
    assert io.BytesIO((tmp_path / "swell" / "0-00.png").read_bytes()).read(4) == b"\x89PNG"
