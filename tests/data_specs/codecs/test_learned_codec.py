"""Learned codecs: networks that begin as the closed forms, silence, single clips, and the weights file."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data_specs.codecs import load_codec
from data_specs.codecs.learned import LearnedCodec
from data_specs.codecs.mdct import sine_window
from data_specs.codecs.networks import NETWORKS, network_class
from data_specs.codecs.phaseless import PhaselessCodec
from data_specs.codecs.pvt import PvtCodec
from data_specs.codecs.weights import read_weights, write_weights
from data_specs.errors import UserError

ROOT = Path(__file__).parents[3]
SMALL = {
    "lapped": {"width": 12, "blocks": 2, "channels": 24},
    "magnitudes": {"width": 12, "blocks": 2, "channels": 24, "size": 512},
    "seanet": {"filters": 2, "channels": 24},
}


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def basis(size, channels=24):
    return torch.linalg.qr(torch.randn(size, channels, generator=draws()))[0]


def sound(batch=1, frames=40, seed=1):
    t = torch.arange(frames * 320) / 24_000
    noise = torch.randn(batch, 1, frames * 320, generator=draws(seed))
    return 0.3 * torch.sin(2 * torch.pi * 440 * t) + 0.02 * noise


def codebooks():
    books = 0.1 * torch.randn(3, 16, 24, generator=draws(2))
    books[:, 0] = 0
    return books


def network(kind, trained=True, **options):
    """A small network; `trained`: with weights in its last layers, which begin at zero."""
    chosen = network_class(kind)
    torch.manual_seed(0)
    made = chosen.of(chosen.Options(**{**SMALL[kind], **options}))
    if trained:
        for parameter in made.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return made


def written(path, kind):
    made, options = network(kind), network_class(kind).Options(**SMALL[kind])
    tensors = {f"network.{name}": value for name, value in made.state_dict().items()}
    described = {"name": "mine", "network": kind, "options": options.model_dump(mode="json")}
    write_weights(path, "learned", {**tensors, "codebooks": codebooks()}, described)
    return LearnedCodec(made, codebooks())


@pytest.mark.parametrize("power", [0.35, 1.0])
def test_lapped_begins_as_pvt(power):
    weight = torch.rand(320, generator=draws(3)) + 0.5
    tensors = {"window": sine_window().float(), "weight": weight, "basis": basis(320), "codebooks": codebooks()}
    closed, made = PvtCodec(tensors, power), network("lapped", trained=False, power=power)
    made.begin(tensors)
    audio = sound(2)
    latents = closed.encode(audio)
    torch.testing.assert_close(made.encode(audio), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(made.decode(latents), closed.decode(latents), atol=1e-5, rtol=1e-5)


def test_magnitudes_begin_as_phaseless():
    scale = torch.rand(24, generator=draws(3)) + 0.5
    window = torch.hann_window(512)
    tensors = {"window": window, "scale": scale, "basis": basis(257), "codebooks": codebooks()}
    closed, made = PhaselessCodec(tensors, 0.35), network("magnitudes", trained=False)
    made.begin(tensors)
    audio = sound(2)
    latents = closed.encode(audio)
    torch.testing.assert_close(made.encode(audio), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(made.decode(latents), closed.decode(latents), atol=1e-4, rtol=1e-3)
    # Its frames are centred on blocks of the hop, so the clip is padded by (512 - 320) / 2.
    shifted = torch.nn.functional.pad(audio, (96, 96))
    inner = torch.stft(shifted[:, 0], 512, 320, window=window, center=False, return_complex=True).abs().pow(0.35)
    torch.testing.assert_close(made.compress(audio), inner, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", NETWORKS)
def test_trained_networks_keep_silence_silent(kind):
    codec = LearnedCodec(network(kind), codebooks())
    latents = codec.encode(torch.zeros(1, 1, 3200))
    codes = codec.quantize(latents, 3)
    assert not latents.any()
    assert not codes.any()
    assert not codec.decode(codec.dequantize(codes)).any()


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_clip_is_the_same_in_any_batch(kind):
    codec, audio = LearnedCodec(network(kind), codebooks()), sound(3)
    latents = codec.encode(audio)
    assert latents.shape == (3, 24, 40)
    assert codec.decode(latents).shape == audio.shape
    for index in range(3):
        alone = codec.encode(audio[index : index + 1])
        assert torch.equal(alone[0], latents[index])
        assert torch.equal(codec.decode(alone)[0], codec.decode(latents)[index])


@pytest.mark.parametrize("kind", NETWORKS)
def test_decoding_is_differentiable(kind):
    codec = LearnedCodec(network(kind), codebooks())
    latents = codec.encode(sound()).detach().requires_grad_()
    codec.decode(latents).square().sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", NETWORKS)
def test_weights_file_and_back(kind, tmp_path):
    expected = written(tmp_path / "a.safetensors", kind)
    codec = load_codec(str(tmp_path / "a.safetensors"))
    audio = sound()
    latents = codec.encode(audio)
    assert (codec.name, codec.channels, codec.max_codebooks, codec.bins) == ("mine", 24, 3, 16)
    assert codec.one_scale == (kind == "magnitudes")  # as the codec that it begins as
    assert torch.equal(latents, expected.encode(audio))
    assert torch.equal(codec.quantize(latents, 3), expected.quantize(latents, 3))
    assert torch.equal(codec.decode(latents), expected.decode(latents))
    written(tmp_path / "b.safetensors", kind)
    assert load_codec(str(tmp_path / "b.safetensors")).digest == codec.digest


@pytest.mark.parametrize("kind", NETWORKS)
def test_decoding_needs_neither_training_nor_a_codec_package(kind, tmp_path):
    written(tmp_path / "a.safetensors", kind)
    code = (
        "import sys, torch; from data_specs.codecs import load_codec; codec = load_codec(sys.argv[1]);"
        "codec.decode(codec.dequantize(codec.quantize(codec.encode(torch.rand(1, 1, 3200)), 2)));"
        "print([name for name in ('training', 'encodec', 'librosa', 'tensorflow') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.safetensors")]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"network": "transformer"}, "must be one of lapped, magnitudes, seanet"),
        ({"options": {"width": "wide"}}, "options of the network: width"),
        ({"options": {"width": 13}}, "must be a complete learned codec"),
        ({"options": None}, "options of the network"),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(tmp_path, change, sentence):
    path = tmp_path / "a.safetensors"
    written(path, "lapped")
    tensors, metadata = read_weights(path)
    described = {key: value for key, value in metadata.items() if key not in ("version", "codec")}
    write_weights(path, "learned", tensors, {**described, **change})
    with pytest.raises(UserError, match=sentence) as error:
        load_codec(str(path))
    assert "\n" not in str(error.value)
    write_weights(path, "learned", {"codebooks": codebooks()}, described)
    with pytest.raises(UserError, match="must be a complete learned codec"):
        load_codec(str(path))


def test_it_has_no_name_of_its_own():
    with pytest.raises(UserError, match="CODEC= must be one of"):
        load_codec("learned")


def test_strides_have_to_give_the_hop():
    with pytest.raises(ValueError, match="strides must multiply to 320"):
        network("seanet", strides=(2, 4))
    assert network("seanet", strides=(4, 80)).encode(sound()).shape == (1, 24, 40)
