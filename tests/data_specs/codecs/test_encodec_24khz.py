"""EnCodec at 24 kHz through its real loading code, on a weights file made here, against the package's own model."""

import functools
import pickle
import subprocess
import sys
import textwrap
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor

from data_specs.codecs import encodec_24khz, load_codec
from data_specs.codecs.encodec_24khz import Encodec24kHz, untrained
from data_specs.errors import UserError
from data_specs.io.download import CACHE_VARIABLE
from data_specs.io.files import file_sha256


@pytest.fixture(scope="module")
def reference() -> Any:
    """The package's model with random weights and codebooks, untouched by our code."""
    torch.manual_seed(0)
    model = untrained()
    scale = 0.03  # about the spread of the untrained encoder's latents
    for layer in model.quantizer.vq.layers:
        layer._codebook.embed.normal_(0, scale)
        scale *= 0.9
    return model


@pytest.fixture(scope="module")
def weights(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("encodec") / "weights.th"
    torch.save(reference.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def codec(weights: Path) -> Any:
    return load_codec(str(weights))


def noise(batch: int, samples: int) -> Tensor:
    return 0.1 * torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("samples", [24_000, 24_320, 33_600, 67_200])
def test_stretches_of_time_join_without_a_seam(reference: Any, codec: Encodec24kHz, samples: int) -> None:
    """Lengths that end within and at the end of a stretch, in each part of the encoder."""
    audio = noise(2, samples)
    with torch.no_grad():
        expected = reference.encoder(audio)
    found = codec.encode(audio)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    seam = 4800 // 320
    ahead = audio.clone()
    ahead[..., 4800:] = 0  # what comes later is not heard before, across the border of two stretches either
    torch.testing.assert_close(codec.encode(ahead)[..., :seam], found[..., :seam], atol=1e-6, rtol=1e-5)


def test_a_clip_is_the_same_whatever_its_neighbours(codec: Encodec24kHz) -> None:
    """In a batch of one size, as shards are made: the same bits. In another one: the same but for rounding."""
    audio = noise(4, 24_000)
    order = [2, 0, 3, 1]
    together = codec.encode(audio)
    assert torch.equal(codec.encode(audio[order]), together[order])
    alone = torch.cat([codec.encode(clip[None]) for clip in audio])
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=1e-5)


def test_encoding_on_a_cpu_goes_on_when_the_encoder_has_moved(weights: Path) -> None:
    codec = load_codec(str(weights))
    assert isinstance(codec, Encodec24kHz)
    before = codec.encode(noise(1, 24_000))
    codec._encoder.to("meta")  # as to a GPU: its weights are no longer here
    assert torch.equal(codec.encode(noise(1, 24_000)), before)


def test_equals_the_package(reference: Any, codec: Encodec24kHz) -> None:
    audio = noise(1, 24_000)
    with torch.no_grad():
        expected = reference.encoder(audio)
        codes = reference.quantizer.encode(expected, 75, 12.0).transpose(0, 1)
        decoded = reference.decoder(reference.quantizer.decode(codes.transpose(0, 1)))
    latents = codec.encode(audio)
    assert latents.shape == (1, 128, 75)
    torch.testing.assert_close(latents, expected, atol=1e-5, rtol=1e-4)
    found = codec.quantize(latents, 16)
    assert found.shape == (1, 16, 75)
    assert (found == codes).float().mean() > 0.99  # a frame between two entries may fall to either side
    audio_back = codec.decode(codec.dequantize(codes))
    assert audio_back.shape == (1, 1, 24_000)
    torch.testing.assert_close(audio_back, decoded, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_clips_shorter_than_the_kernels(reference: Any, codec: Encodec24kHz, frames: int) -> None:
    audio = noise(1, 320 * frames)
    with torch.no_grad():
        expected = reference.encoder(audio)
    torch.testing.assert_close(codec.encode(audio), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(codec.decode(expected), reference.decoder(expected), atol=1e-5, rtol=1e-4)


def test_short_clips_and_decoding_do_not_depend_on_their_batch(codec: Encodec24kHz) -> None:
    audio = noise(3, 6_400)
    batched = codec.encode(audio)
    for index in range(3):
        single = codec.encode(audio[index : index + 1])
        assert torch.equal(batched[index : index + 1], single)
        assert torch.equal(codec.decode(batched)[index : index + 1], codec.decode(single))


@pytest.mark.parametrize("samples", [1_600, 24_000])
def test_encoding_leaves_its_input(codec: Encodec24kHz, samples: int) -> None:
    audio = noise(1, samples)
    codec.encode(audio)
    assert torch.equal(audio, noise(1, samples))


def test_decoding_is_differentiable_and_leaves_its_input(codec: Encodec24kHz) -> None:
    latents = codec.encode(noise(1, 1_600))
    assert not latents.requires_grad
    latents.requires_grad_()
    before = latents.detach().clone()
    codec.decode(latents).square().sum().backward()
    assert torch.equal(latents.detach(), before)
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0


def test_kinds_and_digest(codec: Encodec24kHz, weights: Path) -> None:
    assert (codec.name, codec.channels, codec.bins, codec.max_codebooks) == ("encodec_24khz", 128, 1024, 32)
    assert codec.digest == file_sha256(weights)
    assert codec.licence == "CC BY-NC 4.0"


@pytest.mark.parametrize("samples", [0, 100, 321])
def test_lengths_off_the_hop(codec: Encodec24kHz, samples: int) -> None:
    with pytest.raises(UserError, match="frames of 320"):
        codec.encode(torch.zeros(1, 1, samples))


def test_download_at_first_use(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published file's way, with the address and the digest of the file made here."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(encodec_24khz, "FILE", weights.name)
    monkeypatch.setattr(encodec_24khz, "SHA256", file_sha256(weights))
    monkeypatch.setattr(encodec_24khz, "BYTES", weights.stat().st_size)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(weights.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("encodec.model.ROOT_URL", f"http://127.0.0.1:{server.server_address[1]}/")
        first = load_codec("encodec_24khz")
        server.shutdown()
    assert first.digest == file_sha256(weights) == load_codec("encodec_24khz").digest  # the second time without server
    (tmp_path / weights.name).write_bytes(weights.read_bytes() + b"\0")
    with pytest.raises(UserError, match="not the published file"):
        load_codec("encodec_24khz")


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr("data_specs.io.download.PAUSE_S", 0)
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as gone:
        port = gone.server_address[1]
    monkeypatch.setattr("encodec.model.ROOT_URL", f"http://127.0.0.1:{port}/")
    with pytest.raises(UserError, match=r"cannot be downloaded .* place it at .*encodec_24khz-d7cc33bc\.th"):
        load_codec("encodec_24khz")


class Malicious:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_weights_file_does_not_run(tmp_path: Path, zipped: bool) -> None:
    trace, bad = tmp_path / "ran", tmp_path / "bad.th"
    if zipped:
        torch.save({"encoder": Malicious(trace)}, bad)
    else:
        bad.write_bytes(pickle.dumps(Malicious(trace), protocol=2))
    with pytest.raises(UserError, match="not a file of EnCodec weights"):
        load_codec(str(bad))
    assert not trace.exists()


def test_other_weights_are_refused(tmp_path: Path) -> None:
    for content in ({"layer": torch.zeros(3)}, torch.zeros(3), [1]):
        torch.save(content, tmp_path / "other.th")
        with pytest.raises(UserError, match="does not hold the weights"):
            load_codec(str(tmp_path / "other.th"))
    (tmp_path / "text.th").write_text("no weights at all")
    with pytest.raises(UserError, match="not a file of EnCodec weights"):
        load_codec(str(tmp_path / "text.th"))


@pytest.mark.parametrize("torchaudio", ["absent", "broken", "present"])
def test_torchaudio_is_never_needed(torchaudio: str, tmp_path: Path) -> None:
    """In a fresh process: the package is imported whether torchaudio is missing, fails to load, or works."""
    if torchaudio == "broken":
        (tmp_path / "torchaudio.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    if torchaudio == "present":
        (tmp_path / "torchaudio.py").write_text("transforms = 'the real one'")
    script = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        if {torchaudio == "absent"}:
            sys.meta_path.insert(0, type("Absent", (), {{"find_spec": staticmethod(
                lambda name, *_: (_ for _ in ()).throw(ImportError(name)) if name == "torchaudio" else None)}}))
        from data_specs.codecs.encodec_24khz import _package
        _package()
        assert "torchaudio" not in sys.modules, "the substitute was not removed"
        import encodec.utils
        if {torchaudio == "present"}:
            assert encodec.utils.torchaudio.transforms == "the real one"
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_without_the_package_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "encodec", None)
    with pytest.raises(UserError, match=r"pip install encodec, or use CODEC=phaseless"):
        untrained()
