"""`python -m training codec fit`, from its arguments to its file."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from data_specs.codecs import load_codec
from data_specs.codecs.phaseless import PhaselessCodec
from data_specs.codecs.pvt import PvtCodec
from data_specs.spec import load_spec
from training.cli import main
from training.codec import methods

CODECS = {"phaseless": PhaselessCodec, "pvt": PvtCodec}


class Clips:
    """Half-second clips in place of a dataset folder."""

    def __init__(self, folder: Path, split: str, *, format_name: str) -> None:
        assert (split, format_name) == ("train", "audio")

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(index)
        t = np.arange(38 * 320) / 24_000
        return {"data": torch.from_numpy(0.3 * np.sin(2 * np.pi * 300 * 2 ** rng.random() * t)).half()[None]}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, method in list(methods.METHODS.items()):
        sized = partial(method, channels=16, codebooks=2, bins=16, frames=1000, iterations=4)
        monkeypatch.setitem(methods.METHODS, kind, sized)
    monkeypatch.setattr("training.data.dataset.Dataset", Clips)


@pytest.mark.parametrize("kind", ["phaseless", "pvt"])
def test_writes_a_codec_that_loads(kind: str, small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "horn.safetensors"
    fit = ["codec", "fit", "--kind", kind, "--data", str(tmp_path)]
    assert main([*fit, "--out", str(out)]) == 0
    codec = load_codec(str(out))
    assert isinstance(codec, CODECS[kind])
    assert (codec.name, codec.channels, codec.max_codebooks, codec.bins) == ("horn", 16, 2, 16)
    assert f"fitted on 40 clips, sha256 {codec.digest}" in capsys.readouterr().out
    assert main([*fit, "--out", str(tmp_path / "b.safetensors"), "--name", "horn"]) == 0
    assert (tmp_path / "b.safetensors").read_bytes() == out.read_bytes()


def test_fewer_clips_on_demand(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["codec", "fit", "--out", str(tmp_path / "a.safetensors"), "--clips", "20"]) == 0
    assert "fitted on 20 clips" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "codec.pt"], "must end in .safetensors"),
        (["--out", "codec.safetensors", "--clips", "0"], "--clips must be an integer >= 1, got '0'"),
        (["--out", "codec.safetensors", "--kind", "opus"], "--kind must be one of pvt, phaseless; got 'opus'"),
        (["--out", "codec.safetensors", "--data", "nowhere"], "nowhere"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["codec", "fit", *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "of_codes"), [("phaseless", 2.0), ("pvt", 7.0)])
def test_from_rendered_melodies(tmp_path: Path, kind: str, of_codes: float) -> None:
    """The whole way with the real sizes: a PVT-audio dataset of the project's tunes, then a codec fitted on it.

    The spectrum comes back from both, `of_codes` dB apart or less; the wave itself from the kind that keeps phases.
    """
    from pipeline.cli import main as pipeline

    assert pipeline(["dataset", "--format", "audio", "--clips", "60:6", "--out", str(tmp_path), "--workers", "1"]) == 0
    fit = ["codec", "fit", "--data", str(tmp_path), "--kind", kind, "--out", str(tmp_path / "tunes.safetensors")]
    assert main(fit) == 0
    from training.codec.measures import log_mel_distance, si_sdr
    from training.data.dataset import Dataset

    codec = load_codec(str(tmp_path / "tunes.safetensors"))
    clips = Dataset(tmp_path, "valid", format_name="audio")
    assert clips.info.spec.name == load_spec("sample").name
    for index in range(len(clips)):
        audio = clips[index]["data"]
        assert isinstance(audio, torch.Tensor)
        latents = codec.encode(audio[None])
        for way, least, most in (
            (latents, 20, 1.0),
            (codec.dequantize(codec.quantize(latents, 16)), 10, of_codes),
        ):
            decoded = codec.decode(way)
            assert log_mel_distance(decoded, audio[None]) < most
            assert kind == "phaseless" or si_sdr(decoded, audio[None]) > least
