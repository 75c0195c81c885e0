"""ONNX graphs equal the model in onnxruntime; the player without torch follows curves; cards state what is loaded."""

import importlib.util
import json
import wave
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from data_specs.controls.curve_files import read_curves
from training.cli import main
from training.diffusion import PerClipNoise, build_paradigm
from training.model import load_model
from training.runs import shipped_model
from training.sampling.curve_sources import shipped_curves

PLAYER = Path(__file__).parents[3] / "examples" / "play_onnx.py"


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    assert main(["export", "--to", "onnx", "--out", str(folder / "model.onnx")]) == 0
    return folder / "model.onnx", folder / "model.decoder.onnx"


@pytest.fixture(scope="module")
def player():
    spec = importlib.util.spec_from_file_location("play_onnx", PLAYER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


def metadata(path):
    return json.loads(session(path).get_modelmeta().custom_metadata_map["pvt"])


@pytest.mark.parametrize(("batch", "blocks"), [(1, 75), (3, 10), (2, 25)])
def test_the_denoiser_graph_equals_the_model_at_any_batch_and_length(model, graphs, batch, blocks):
    frames = blocks * metadata(graphs[0])["frame_multiple"]
    generator = torch.Generator().manual_seed(frames)
    x = torch.randn(batch, 128, frames, generator=generator)
    sigma = torch.rand(batch, generator=generator) + 0.05
    controls = torch.rand(batch, model.data.layout.total, frames, generator=generator)
    with torch.no_grad():
        expected = model.paradigm.denoise(model.network, x, sigma, controls).numpy()
    inputs = {"x": x.numpy(), "sigma": sigma.numpy(), "controls": controls.numpy()}
    (found,) = session(graphs[0]).run(None, inputs)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_decoder_graph_gives_the_magnitudes_of_the_codec(model, graphs):
    x = 0.3 * torch.randn(2, 128, 40, generator=torch.Generator().manual_seed(0))
    (found,) = session(graphs[1]).run(None, {"x": x.numpy()})
    expected = model.representation.codec.magnitudes(model.scaling.from_model(x)).numpy()
    assert found.shape == expected.shape == (2, 40, len(metadata(graphs[1])["window"]) // 2 + 1)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


@pytest.mark.parametrize("name", ["swell", "relay"])
def test_the_player_reads_curves_as_the_project_does(model, graphs, player, name):
    path = shipped_curves()[name]
    expected = model.stack_curves([read_curves(path)], 192_000)
    found = player.control_rows(json.loads(path.read_text()), metadata(graphs[0]), 600)
    np.testing.assert_allclose(found, expected.numpy(), atol=0.005)  # the project rounds velocities to 1/127


def test_the_player_samples_as_the_project_does(model, graphs, player, monkeypatch):
    controls = model.stack_curves([read_curves(shipped_curves()["swell"])], 192_000)[..., :80]
    noise = PerClipNoise(3, [0], "sample")
    drawn = noise.normal((128, 80)).double().numpy()

    class Draws:
        def standard_normal(self, shape):
            assert shape == drawn.shape
            return drawn

    monkeypatch.setattr(player.np.random, "default_rng", lambda seed: Draws())
    edm = build_paradigm("edm", {}, model.data.layout)
    options = edm.options({"sampler": "heun", "steps": 4})
    facts = {**metadata(graphs[0]), "sampling": options.model_dump(mode="json")}
    found = player.sample(session(graphs[0]), facts, controls.numpy(), steps=4, guidance=2.0)
    noise = PerClipNoise(3, [0], "sample")
    expected = edm.sample(model.network, (128, 80), controls, noise, options, guidance=2.0)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-3)


def test_the_player_samples_consistency_models_as_the_project_does(model, graphs, player, monkeypatch):
    """The network of an EDM and of a student have the same graph."""
    controls = model.stack_curves([read_curves(shipped_curves()["swell"])], 192_000)[..., :80]
    student = model.paradigm
    noise = PerClipNoise(3, [0], "sample")

    class Draws:
        def standard_normal(self, shape):
            return noise.normal(shape[1:]).double().numpy()

    monkeypatch.setattr(player.np.random, "default_rng", lambda seed: Draws())
    options = student.options({"steps": 3})
    facts = {**metadata(graphs[0]), "sampling": options.model_dump(mode="json")}
    found = player.sample_consistency(session(graphs[0]), facts, controls.numpy())
    expected = student.sample(model.network, (128, 80), controls, PerClipNoise(3, [0], "sample"), options)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-3)


def test_the_player_plays_a_few_step_model_at_the_weight_of_its_graph(graphs, player, tmp_path, monkeypatch, capsys):
    assert metadata(graphs[0])["guidance"] == 2
    curves = shipped_curves()["swell"]
    command = ["play_onnx.py", str(graphs[0]), str(curves), str(tmp_path / "a.wav"), "--seconds", "1"]
    monkeypatch.setattr("sys.argv", [*command, "--guidance", "2"])
    player.main()
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getnframes() == 24_000
    monkeypatch.setattr("sys.argv", [*command, "--guidance", "3"])
    with pytest.raises(SystemExit):
        player.main()
    assert "--guidance must be left out or 2, the weight in this graph, got 3" in capsys.readouterr().err


def test_the_player_reconstructs_audio_of_the_given_magnitudes(player):
    window = np.hanning(1280)
    time = np.arange(320 * 60) / 24_000
    audio = np.sin(2 * np.pi * 440 * time) + 0.5 * np.sin(2 * np.pi * 880 * time)
    magnitudes = np.abs(player.stft(audio, window, 320))
    again = np.abs(player.stft(player.reconstruct(magnitudes, window, 320), window, 320))
    error = np.linalg.norm(again - magnitudes) / np.linalg.norm(magnitudes)
    assert error < 0.1


def test_a_wav_has_a_peak_of_minus_one_dbfs(player, tmp_path):
    player.write_wav(tmp_path / "a.wav", np.array([0.1, -0.2, 0.05]), 24_000)
    with wave.open(str(tmp_path / "a.wav")) as file:
        samples = np.frombuffer(file.readframes(3), "<i2")
    assert np.abs(samples).max() == round(32767 * 10 ** (-1 / 20))


def test_export_without_run_is_the_default_model_and_out_must_fit(tmp_path, capsys):
    assert main(["export", "--out", str(tmp_path / "a.safetensors")]) == 0
    assert load_model(tmp_path / "a.safetensors").step == load_model(shipped_model()).step
    assert main(["export", "edm", "--to", "onnx", "--out", str(tmp_path / "a.safetensors")]) == 2
    assert "must end in .onnx" in capsys.readouterr().err
    assert main(["export", "--to", "gguf"]) == 2
    assert "--to must be one of safetensors, onnx, resumable; got 'gguf'" in capsys.readouterr().err
    assert main(["export", str(shipped_model()), str(tmp_path / "b.safetensors")]) == 0  # the former form
    former, now = (load_model(tmp_path / name).network.state_dict() for name in ("b.safetensors", "a.safetensors"))
    assert all(torch.equal(former[name], now[name]) for name in now)


def test_a_card_states_digests_controls_and_figures(tmp_path, model, capsys):
    row = {"run": "a", "label": "a", "paradigm": "edm", "format": "encodec", "parameters": 5_000_000}
    evaluation = {"reference": {}, "rows": [row]}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    out = tmp_path / "README.md"
    assert main(["card", "--evaluation", str(tmp_path), "--out", str(out)]) == 0
    text = out.read_text()
    assert text.startswith("---\nlicense: mit\n")
    for fact in (model.data.digest, model.data.codec_digest, "velocity (1)", "instruments (3)", "5.0 M"):
        assert fact in text
    (tmp_path / "evaluation.json").write_text("{}")
    assert main(["card", "--evaluation", str(tmp_path)]) == 2
    assert "must be written by make evaluate" in capsys.readouterr().err
    assert main(["card", "--evaluation", str(tmp_path / "none")]) == 2
    assert "--evaluation must be" in capsys.readouterr().err
