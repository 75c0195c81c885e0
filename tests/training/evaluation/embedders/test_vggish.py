import http.server
import pickle
import threading

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from data_specs.errors import UserError
from training.evaluation.embedders import vggish
from training.evaluation.embedders.vggish import PATCHES, Vggish, resample


def log_mel_by_definition(audio: np.ndarray) -> np.ndarray:
    """VGGish's input written from its description, one frame and one band at a time, float64: [F, 64]."""

    def mel(f):
        return 1127.0 * np.log(1.0 + f / 700.0)

    edges = np.linspace(mel(125.0), mel(7500.0), 66)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    rows = []
    for start in range(0, len(audio) - 400 + 1, 160):
        frame = np.concatenate([audio[start : start + 400] * window, np.zeros(112)])
        magnitude = np.abs(np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(512)) / 512) @ frame)
        row = []
        for band in range(64):
            low, centre, high = edges[band : band + 3]
            total = 0.0
            for k in range(1, 257):
                at = mel(k * 16000 / 512)
                if low < at < high:
                    weight = (at - low) / (centre - low) if at <= centre else (high - at) / (high - centre)
                    total += weight * magnitude[k]
            row.append(np.log(total + 0.01))
        rows.append(row)
    return np.array(rows)


def test_front_end_agrees_with_its_definition(clips):
    audio = resample(clips.audio[:1, :, :24_000])[0, 0]
    found = PATCHES.spectrum(audio[None, None])[0].numpy()
    expected = log_mel_by_definition(audio.double().numpy())
    assert found.shape == expected.shape == (98, 64)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_clip_gives_one_example_for_each_096_seconds():
    assert [PATCHES.count(seconds * 16_000) for seconds in (0, 1, 2, 4, 8)] == [0, 1, 2, 4, 8]


def test_resampler_agrees_with_an_independent_polyphase_filter():
    rng = np.random.default_rng(0)
    audio = rng.standard_normal(24_000)
    time = np.arange(-120, 121) / 48_000
    window = np.sinc(2 * 8000 * time) * np.kaiser(241, vggish.KAISER_BETA)
    expected = resample_poly(audio, 2, 3, window=window / window.sum())
    found = resample(torch.from_numpy(audio)[None, None])[0, 0].numpy()
    assert found.shape == expected.shape == (16_000,)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_resampler_keeps_what_the_bands_see_and_removes_what_would_fold_into_them():
    time = np.arange(48_000) / 24_000
    for hertz, gain in ((100, 1.0), (3000, 1.0), (7400, 1.0), (8600, 0.0), (11_000, 0.0)):
        tone = torch.from_numpy(np.sin(2 * np.pi * hertz * time)).float()[None, None]
        middle = resample(tone)[0, 0, 4000:-4000]
        assert float(middle.square().mean().sqrt() * 2**0.5) == pytest.approx(gain, abs=2e-3), hertz


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file in the layout of the published one, with weights of our own."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vggish") / "weights.pth"
    shapes = {
        f"features.{i}": s
        for i, s in zip(
            (0, 3, 6, 8, 11, 13), ((64, 1), (128, 64), (256, 128), (256, 256), (512, 256), (512, 512)), strict=True
        )
    }
    state = {}
    for name, (out, into) in shapes.items():
        state[f"{name}.weight"] = torch.randn(out, into, 3, 3) * (2 / (9 * into)) ** 0.5
        state[f"{name}.bias"] = torch.randn(out) * 0.1
    for index, (out, into) in {0: (4096, 12288), 2: (4096, 4096), 4: (128, 4096)}.items():
        state[f"embeddings.{index}.weight"] = torch.empty(out, into).normal_() * (2 / into) ** 0.5
        state[f"embeddings.{index}.bias"] = torch.randn(out) * 0.1
    torch.save(state, path)
    return path


def test_a_published_layout_loads_and_computes_the_network(weights, clips):
    net = Vggish.load(str(weights))
    found = net.embed(clips.audio[:1, :, :48_000])
    assert found.shape == (1, 2, 128)
    assert (found < 0).any(), "the last activation must not be applied"
    # The first example again, layer by layer, with the flattening of TensorFlow (height, width, channel).
    state = torch.load(weights, weights_only=True)
    maps = PATCHES(resample(clips.audio[:1, :, :48_000]))[0, :1, None]
    for layer, pool in ((0, 1), (3, 1), (6, 0), (8, 1), (11, 0), (13, 1)):
        maps = torch.conv2d(maps, state[f"features.{layer}.weight"], state[f"features.{layer}.bias"], padding=1).clamp(
            min=0
        )
        if pool:
            maps = maps.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    vector = torch.stack([maps[0, :, h, w] for h in range(6) for w in range(4)]).flatten()
    for layer in (0, 2, 4):
        vector = state[f"embeddings.{layer}.weight"] @ vector + state[f"embeddings.{layer}.bias"]
        vector = vector if layer == 4 else vector.clamp(min=0)
    torch.testing.assert_close(found[0, 0], vector, rtol=1e-3, atol=1e-3)


def test_weights_come_from_the_variable(weights, monkeypatch):
    monkeypatch.setenv(vggish.VARIABLE, str(weights))
    assert vggish.weights_file() == weights
    monkeypatch.setenv(vggish.VARIABLE, "/nowhere/vggish.pth")
    with pytest.raises(UserError, match=r"not at /nowhere/vggish.pth; set PVT_VGGISH"):
        vggish.weights_file()


def test_a_download_with_a_wrong_digest_is_refused(tmp_path, monkeypatch):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"wrong")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PVT_AUDIO_CACHE", str(tmp_path))
    try:
        with pytest.raises(UserError, match="10086976 was expected"):
            vggish.weights_file(f"http://127.0.0.1:{server.server_port}/{vggish.FILE}")
    finally:
        server.shutdown()
        server.server_close()
    assert not (tmp_path / vggish.FILE).exists()


def test_other_files_are_refused_and_no_code_in_them_runs(tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    contents = {
        "pickle.pth": pickle.dumps(Evil()),
        "text.pth": b"not a checkpoint",
        "empty.pth": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "short.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    torch.save({"evil": Evil()}, tmp_path / "evil.pth")
    for path in sorted(tmp_path.glob("*.pth")):
        with pytest.raises(UserError, match=r"must be vggish-10086976\.pth with the weights"):
            Vggish.load(str(path))
    assert not marker.exists()


def test_clips_that_are_too_short_are_refused():
    with pytest.raises(UserError, match=r"must last 0\.98 s or more"):
        PATCHES(resample(torch.zeros(1, 1, 12_000)))
