"""The whole command on a real PVT-audio and untrained models: what it says is checked, not how well they do."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_specs.errors import UserError
from pipeline.cli import main as pipeline
from tests.training.one_device import OneDevice
from training.checkpoint import write_snapshot
from training.cli import main as training
from training.config import load_config
from training.data.dataset import Dataset
from training.evaluation.adherence import measure_names
from training.evaluation.embedders.classifier import PvtNet
from training.evaluation.evaluate import Options, check_reference, evaluate, model_controls
from training.evaluation.evaluator import ReferenceSet
from training.evaluation.timing import inference_time
from training.metadata import DatasetMetadata
from training.model import TrainedModel, build_model, load_model

CONFIG = """
[training]
steps = 10
batch = 4
[network.encodec]
kind = "unet"
channels = 4
skip = 1
factors = [2]
[network.disc]
kind = "unet"
channels = 4
factors = [2]
code_embedding = 2
[network.cqt]
kind = "unet"
channels = 2
factors = [2]
"""


@pytest.fixture(scope="module")
def pvt_audio(tmp_path_factory):
    """A PVT-audio of 24 and 8 clips, made by the pipeline itself."""
    out = tmp_path_factory.mktemp("data")
    assert pipeline(["dataset", "--format", "audio", "--clips", "24:8", "--out", str(out), "--workers", "1"]) == 0
    return out


@pytest.fixture(scope="module")
def snapshots(make_dataset, tmp_path_factory):
    """Untrained models of three frameworks: {format: snapshot file}."""
    folder = tmp_path_factory.mktemp("runs")
    config = folder / "small.toml"
    config.write_text(CONFIG)
    paths = {}
    for paradigm, format_name in (("edm", "encodec"), ("discdpm", "disc"), ("ddpm", "cqt")):
        data = Dataset(make_dataset(folder, format_name, {"train": 2, "valid": 2})[0])
        run = build_model(load_config(str(config), paradigm, format_name), DatasetMetadata.of(data.info, data.features))
        paths[format_name] = folder / format_name / "snapshot.safetensors"
        write_snapshot(paths[format_name], run.network.state_dict(), run.metadata())
    return paths


@pytest.fixture(scope="module")
def found(pvt_audio, snapshots):
    options = Options(data=pvt_audio, clips=10, seconds=2, sampler_steps=2, published=True)
    return evaluate([snapshots["encodec"], snapshots["disc"]], options)


def test_rows_hold_everything_the_tables_show(found):
    encodec, disc = found.rows
    assert (encodec["paradigm"], encodec["format"], disc["paradigm"]) == ("edm", "encodec", "discdpm")
    for row in found.rows:
        score = row["fad"]["pvt-net"]["train"]
        assert (score["clips"], score["reference_clips"], score["frames_per_clip"]) == (10, 24, 2)
        assert score["value"] > row["ceiling"]["fad"]["pvt-net"]["train"]["value"] > 0
        assert set(row["adherence"]) == set(row["ceiling"]["adherence"]) == set(measure_names())
        assert row["anchors"]["ceiling"]["chroma"] > row["anchors"]["floor"]["chroma"] + 0.4
        assert row["samples"]["clips"] == 10
        assert row["inference"]["64x8"]["extrapolated"]
        assert row["inference"]["64x8"]["seconds"] > row["inference"]["8x4"]["seconds"]
    assert encodec["samples"]["evaluations"] == 3  # two steps of Heun's method, the last of first order
    assert encodec["inference"]["8x4"]["evaluations"] == 18
    assert found.reference["train_clips"] == 24
    assert [clip["id"] for clip in found.clips["encodec/snapshot.safetensors"]] == [f"{i:05d}" for i in range(10)]


def test_missing_weights_leave_a_reason_and_the_rest(found):
    for row in found.rows:
        assert "set PVT_VGGISH" in row["fad"]["vggish"]["missing"]


def test_the_same_seed_gives_the_same_figures_in_another_batch_size(found, pvt_audio, snapshots, monkeypatch):
    monkeypatch.setattr("training.evaluation.evaluator.BATCH", 3)
    options = Options(data=pvt_audio, clips=10, seconds=2, sampler_steps=2)
    again = evaluate([snapshots["disc"]], options).rows[0]
    first = found.rows[1]
    assert again["fad"]["pvt-net"]["train"]["value"] == pytest.approx(
        first["fad"]["pvt-net"]["train"]["value"], rel=0.02
    )
    assert again["adherence"]["instrument"] == pytest.approx(first["adherence"]["instrument"], abs=0.1)


def test_tensors_of_an_evaluation_are_on_one_device(pvt_audio, snapshots):
    options = Options(data=pvt_audio, clips=2, seconds=2, reference=4, sampler_steps=2, device="meta")
    with OneDevice():
        rows = evaluate([snapshots["encodec"], snapshots["disc"]], options).rows
    assert [row["device"] for row in rows] == ["meta", "meta"]


def test_features_left_free_are_not_told_and_still_judged(pvt_audio, snapshots, monkeypatch):
    told = []

    sample_controls = TrainedModel.sample_controls

    def remember(model, controls, *arguments, **options):
        told.append(model.data.layout.split(controls))
        return sample_controls(model, controls, *arguments, **options)

    monkeypatch.setattr(TrainedModel, "sample_controls", remember)
    options = Options(data=pvt_audio, clips=4, seconds=2, sampler_steps=1, unconditioned=("velocity", "chroma"))
    row = evaluate([snapshots["encodec"]], options).rows[0]
    assert told
    for features in told:
        assert (features["velocity"] == -1).all()
        assert (features["chroma"] == -1).all()
        assert (features["instruments"] >= 0).all()
    assert row["samples"]["free"] == ["velocity", "chroma"]
    assert "velocity_rank" in row["adherence"]


def test_the_command_writes_all_files(pvt_audio, snapshots, tmp_path, capsys):
    arguments = ["--run", str(snapshots["encodec"]), "--data", str(pvt_audio), "--clips", "4", "--seconds", "2"]
    arguments += ["--sampler-steps", "1", "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert training(["evaluate", *arguments]) == 0
    assert "Frechet audio distance" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "evaluation.json").read_text())["rows"]
    assert rows[0]["format"] == "encodec"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "evaluation.json",
        "evaluation.md",
        "evaluation.csv",
        "clips.json",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--clips", "1"], "clips must be an integer >= 2, got 1"),
        (["--clips", "x"], "--clips must be an integer >= 1"),
        (["--preset", "table43"], "--preset must be one of table41, table42, curves; got 'table43'"),
        (["--preset", "curves"], "--clips must be left out with --preset curves"),
        (["--seconds", "9"], "--seconds 9 must be at most 8"),
        (["--data", "/nowhere"], "there is no dataset at /nowhere"),
        (["--run", "/nowhere"], "there is no snapshot in /nowhere"),
        (["--classifier", "/nowhere"], "cannot be read"),
        (
            ["--free", "velocity,tempo"],
            "noisiness, instruments, got tempo",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(pvt_audio, snapshots, capsys, changes, message):
    arguments = ["--run", str(snapshots["encodec"]), "--data", str(pvt_audio), "--clips", "4", *changes]
    assert training(["evaluate", *arguments, "--device", "cpu"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert message in error[0]


def test_a_model_must_know_the_instruments_of_the_dataset(pvt_audio, snapshots):
    reference = ReferenceSet.open(pvt_audio, "train", 48_000, None)
    run = load_model(snapshots["encodec"])
    for known in (("violin", "trumpet", "piano"), ("organ", "violin", "trumpet", "piano")):
        check_reference(of_instruments(run, known), reference, Path("run"))
    with pytest.raises(
        UserError, match=r"run must have all instruments of .*, got organ, violin, trumpet without piano"
    ):
        check_reference(of_instruments(run, ("organ", "violin", "trumpet")), reference, Path("run"))


def of_instruments(model: TrainedModel, names: tuple[str, ...]) -> TrainedModel:
    controls = {**model.data.controls, "instruments": (len(names), *model.data.controls["instruments"][1:])}
    return replace(model, data=model.data.model_copy(update={"instruments": names, "controls": controls}))


def test_rows_of_instruments_are_matched_by_name(snapshots):
    """Frames: violin, piano, unconditioned; the model knows more instruments, in another order."""
    model = of_instruments(load_model(snapshots["encodec"]), ("organ", "trumpet", "violin", "piano"))
    flat = torch.zeros(1, 3)
    rows = torch.tensor([[[0.0, 1, -1], [1, 0, -1], [0, 0, -1]]])  # piano, violin, trumpet
    batch = {"velocity": flat, "chroma": flat, "instruments": rows}
    controls = model_controls(model, batch, 960, hop=320, labels=("piano", "violin", "trumpet"))
    expected = torch.tensor([[[0.0, 0, -1], [0, 0, -1], [1, 0, -1], [0, 1, -1]]])
    assert torch.equal(model.data.layout.split(controls)["instruments"], expected)


def test_labels_unknown_to_the_classifier_are_left_unmeasured_and_reported(pvt_audio, snapshots, net, tmp_path, capsys):
    PvtNet(net.network, ("piano", "violin", "oboe")).save(tmp_path / "other.safetensors")
    arguments = ["--run", str(snapshots["encodec"]), "--data", str(pvt_audio), "--clips", "4", "--seconds", "2"]
    arguments += ["--sampler-steps", "1", "--device", "cpu", "--classifier", str(tmp_path / "other.safetensors")]
    assert training(["evaluate", *arguments, "--out", str(tmp_path / "out")]) == 0
    note = "Adherence to instruments is not measured: the classifier does not know trumpet"
    assert note in capsys.readouterr().out
    row = json.loads((tmp_path / "out" / "evaluation.json").read_text())["rows"][0]
    assert row["adherence"]["instrument"] is None
    assert row["anchors"]["ceiling"]["instrument"] is None
    assert row["adherence"]["chroma"] is not None
    assert row["fad"]["pvt-net"]["train"]["value"] > 0
    assert note in row["notes"][0]


def test_controls_are_looked_up_at_each_frames_sample(snapshots):
    run = load_model(snapshots["cqt"])
    rng = np.random.default_rng(0)
    batch = {
        "velocity": torch.from_numpy(rng.random((2, 150), dtype=np.float32)),
        "chroma": torch.from_numpy(rng.random((2, 150), dtype=np.float32)),
        "instruments": torch.from_numpy(rng.random((2, 3, 150), dtype=np.float32)),
    }
    found = run.data.layout.split(model_controls(run, batch, 48_000, hop=320, labels=run.data.instruments))
    for frame in range(481):
        at = min(frame * 100 // 320, 149)
        assert torch.equal(found["velocity"][:, 0, frame], batch["velocity"][:, at])
        assert torch.equal(found["instruments"][..., frame], batch["instruments"][..., at])


def test_extrapolated_time_counts_evaluations_and_clips(snapshots, monkeypatch):
    """With a clock that ticks a second at each network evaluation, the reckoning is exact."""
    run = load_model(snapshots["encodec"])
    now = [0.0]
    run.network.register_forward_hook(lambda *call: now.__setitem__(0, now[0] + 1))
    monkeypatch.setattr("training.evaluation.timing.time.perf_counter", lambda: now[0])
    assert inference_time(run, 8, 2)["seconds"] == pytest.approx(run.paradigm.evaluations())
    found = inference_time(run, 64, 2)
    assert found["seconds"] == pytest.approx(8 * run.paradigm.evaluations())
    assert found["extrapolated"]
