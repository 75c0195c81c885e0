"""Properties of every fitted codec, and damaged weights files."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from data_specs.codecs import load_codec, missing_weights
from data_specs.codecs.fitted import FittedCodec
from data_specs.codecs.weights import FOLDER, write_weights
from data_specs.errors import UserError
from data_specs.io.files import file_sha256

Phrase = Callable[..., Tensor]
SHIPPED = FOLDER / "pvt.safetensors"


@pytest.fixture(scope="module", params=["pvt", "phaseless"])
def codec(request: pytest.FixtureRequest) -> FittedCodec:
    loaded = load_codec(request.param)
    assert isinstance(loaded, FittedCodec)
    return loaded


def test_codes_lie_in_their_range_and_start_with_the_same_codebooks(codec: FittedCodec, phrase: Phrase) -> None:
    latents = codec.encode(phrase(1.0))
    codes = codec.quantize(latents, 16)
    assert codes.min() >= 0
    assert codes.max() <= 1023
    assert torch.equal(codec.quantize(latents, 4), codes[:, :4])


def test_same_audio_same_codes_in_any_batch(codec: FittedCodec, phrase: Phrase) -> None:
    audio = torch.cat([phrase(2.0) * gain for gain in (1.0, 0.3, 0.01, 0.0)])
    together = codec.quantize(codec.encode(audio), 16)
    alone = torch.cat([codec.quantize(codec.encode(clip), 16) for clip in audio.split(1)])
    assert torch.equal(together, alone)


def test_digital_silence_stays_silent(codec: FittedCodec) -> None:
    codes = codec.quantize(codec.encode(torch.zeros(1, 1, 32_000)), 16)
    assert not codes.any()
    for count in (16, 8, 4, 1):
        assert codec.decode(codec.dequantize(codes[:, :count])).abs().max() < 10 ** (-70 / 20)


def test_entry_zero_is_the_zero_vector_and_no_entry_is_twice_there(codec: FittedCodec) -> None:
    books = load_file(codec.shipped())["codebooks"]
    assert books.shape == (16, 1024, 128)
    assert torch.isfinite(books).all()
    assert not books[:, 0].any()
    assert all(len(torch.unique(book, dim=0)) == 1024 for book in books)


def test_basis_is_orthonormal(codec: FittedCodec) -> None:
    basis = load_file(codec.shipped())["basis"].double()
    torch.testing.assert_close(basis.T @ basis, torch.eye(128, dtype=torch.float64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 37])
def test_any_length_of_whole_frames(codec: FittedCodec, frames: int, phrase: Phrase) -> None:
    audio = phrase()[..., : 320 * frames]
    latents = codec.encode(audio)
    assert latents.shape == (1, 128, frames)
    assert codec.decode(latents).shape == audio.shape


@pytest.mark.parametrize("samples", [0, 319, 24_001])
def test_lengths_off_the_hop(codec: FittedCodec, samples: int) -> None:
    with pytest.raises(UserError, match="frames of 320"):
        codec.encode(torch.zeros(1, 1, samples))


def test_card_describes_the_shipped_file(codec: FittedCodec) -> None:
    shipped = codec.shipped()
    card = shipped.with_suffix(".md").read_text(encoding="utf-8")
    assert re.findall(r"\b[0-9a-f]{64}\b", card) == [file_sha256(shipped)]
    assert codec.digest == file_sha256(shipped)
    assert shipped.stat().st_size <= 12e6


def test_a_copy_elsewhere_is_the_same_codec(codec: FittedCodec, tmp_path: Path) -> None:
    (tmp_path / "copy.safetensors").write_bytes(codec.shipped().read_bytes())
    copy = load_codec(str(tmp_path / "copy.safetensors"))
    assert (copy.digest, copy.name) == (codec.digest, codec.kind)


@pytest.mark.parametrize("name", ["pvt", "phaseless"])
def test_nothing_of_the_encodec_package_is_imported(name: str) -> None:
    script = (
        f"import sys; from data_specs.codecs import load_codec; load_codec({name!r}); "
        "assert 'encodec' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_unknown_names_and_missing_files() -> None:
    with pytest.raises(UserError, match="must be one of pvt, phaseless, encodec_24khz or a weights file; got 'pvd'"):
        load_codec("pvd")
    assert missing_weights("pvt") == ""
    assert "must be one of" in missing_weights("pvd")


def test_files_that_are_not_codecs(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="no codec of this project"):
        load_codec(str(path))
    path.write_bytes(SHIPPED.read_bytes()[:100_000])
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        load_codec(str(path))
    write_weights(path, "unheard", {"a": torch.zeros(2)}, {"name": "x"})
    with pytest.raises(UserError, match=r"the kind of codec in .* must be one of pvt, .*, learned; got 'unheard'"):
        load_codec(str(path))
    save_file({"a": torch.zeros(2)}, path, {"pvt-audio codec": json.dumps({"version": 99, "codec": "pvt"})})
    with pytest.raises(UserError, match="codec version 99"):
        load_codec(str(path))
