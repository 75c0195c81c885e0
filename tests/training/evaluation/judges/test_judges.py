"""External judges against the outputs of their own packages (`make_references.py`), and the download of weights.

Networks are compared with random weights; with the published ones where `make judges` has fetched them.
"""

import hashlib
import struct
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from data_specs.errors import UserError
from data_specs.io.download import cache_folder
from tests.training.evaluation.judges.signals import melody, random_weights
from training.evaluation.embedders.musicnn import FILES, LENGTH, Musicnn, VggTagger
from training.evaluation.judges.basic_pitch import BasicPitch
from training.evaluation.judges.crepe import Crepe, CrepeNetwork
from training.evaluation.judges.tf_checkpoint import MAGIC, read_checkpoint
from training.evaluation.judges.wheels import FOLDER, Wheel, fetch, judge_file

REFERENCES = np.load(Path(__file__).with_name("references.npz"))


def fetched(name: str) -> Path:
    path = cache_folder() / FOLDER / name
    if not path.is_file():
        pytest.skip("make judges has not been run")
    return path


def tagger_shapes() -> dict[str, tuple[int, ...]]:
    shapes = {}
    for number, size in enumerate((1, 128, 128, 128, 128, 128)):
        layer = "batch_normalization" + (f"_{number}" if number else "")
        shapes |= {f"{layer}/{key}": (size,) for key in ("beta", "gamma", "moving_mean", "moving_variance")}
        if number:
            shapes |= {
                f"{number}CNN/kernel": (3, 3, 1 if number == 1 else 128, 128),
                f"{number}CNN/bias": (128,),
            }
    return shapes


def tagger() -> VggTagger:
    network = VggTagger("musicnn-msd")
    network.load_tensorflow({key: torch.from_numpy(value) for key, value in random_weights(tagger_shapes()).items()})
    return network


def musicnn_patch(judge: Musicnn) -> torch.Tensor:
    return judge.log_mel(torch.from_numpy(melody(16_000))[None])[:, :LENGTH]


def test_the_log_mel_of_musicnn_is_that_of_librosa():
    found = Musicnn("musicnn-msd", tagger()).log_mel(torch.from_numpy(melody(16_000))[None])[0, ::5]
    np.testing.assert_allclose(found, REFERENCES["log_mel"], atol=2e-3)


def test_the_tagger_computes_what_tensorflow_computes():
    judge = Musicnn("musicnn-msd", tagger())
    found = judge.network(musicnn_patch(judge)).numpy()
    scale = np.abs(REFERENCES["vgg_random"]).max()
    np.testing.assert_allclose(found / scale, REFERENCES["vgg_random"] / scale, atol=1e-4)


@pytest.mark.parametrize("name", FILES)
def test_published_weights_of_musicnn_give_the_packages_output(name):
    judge = Musicnn.load(name, fetched(FILES[name]))
    key = FILES[name].removeprefix("musicnn-").removesuffix(".safetensors")
    found, expected = judge.network(musicnn_patch(judge)).numpy(), REFERENCES[key]
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_an_embedding_a_second_from_the_third_on():
    embedded = Musicnn("musicnn-msd", tagger()).embed(torch.from_numpy(melody(24_000))[None, None])
    assert embedded.shape == (1, 2, 256)
    assert bool(embedded.isfinite().all())


def test_musicnn_refuses_clips_under_three_seconds():
    with pytest.raises(UserError, match="3 s or more"):
        Musicnn("musicnn-msd", tagger()).embed(torch.zeros(1, 1, 48_000))


def crepe_frames() -> torch.Tensor:
    wave = torch.nn.functional.pad(torch.from_numpy(melody(16_000)), (512, 512))
    return wave.unfold(0, 1024, 160)[::20]


def random_crepe() -> Crepe:
    network = CrepeNetwork()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items() if value.ndim}
    weights = {key: torch.from_numpy(value) for key, value in random_weights(shapes).items()}
    network.load_state_dict(weights, strict=False)
    return Crepe(network)


def test_crepe_computes_what_torchcrepe_computes():
    found = random_crepe().probabilities(crepe_frames()).numpy()
    np.testing.assert_allclose(found, REFERENCES["crepe_random"], atol=1e-5)


def test_published_weights_of_crepe_give_the_packages_output():
    found = Crepe.load(fetched("crepe-tiny.safetensors")).probabilities(crepe_frames()).numpy()
    np.testing.assert_allclose(found, REFERENCES["crepe"], atol=1e-5)


def test_crepe_tracks_a_melody_within_a_fifth_of_a_semitone():
    midi, voiced = Crepe.load(fetched("crepe-tiny.safetensors")).track(torch.from_numpy(melody(24_000))[None, None])
    for second, hertz in ((0.6, 220.0), (1.5, 261.63), (2.4, 329.63), (3.4, 440.0)):
        assert bool(voiced[0, int(second * 100)])
        assert float(midi[0, int(second * 100)]) == pytest.approx(69 + 12 * np.log2(hertz / 440), abs=0.2)


def test_basic_pitch_finds_the_onsets_of_a_melody():
    judge = BasicPitch.load(fetched("basic-pitch.onnx"))
    np.testing.assert_allclose(judge.onsets(melody(24_000)), (0.2, 1.1, 2.0, 3.0), atol=0.03)
    assert all(np.abs(REFERENCES["basic_pitch_starts"] - start).min() < 0.03 for start in (0.2, 1.1, 2.0, 3.0))


def test_onset_probabilities_of_basic_pitch_are_the_packages():
    _, found = BasicPitch.load(fetched("basic-pitch.onnx")).onset_curve(melody(24_000))
    expected = REFERENCES["basic_pitch_onset"]
    assert np.corrcoef(found[: len(expected)], expected)[0, 1] > 0.99


def checkpoint(tensors: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """A TensorFlow checkpoint of one block, written as its format is documented."""

    def varint(value: int) -> bytes:
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    def block(entries: list[tuple[bytes, bytes]]) -> bytes:
        body, last = b"", b""
        for key, value in entries:
            shared = len([1 for a, b in zip(last, key, strict=False) if a == b]) if key[:1] == last[:1] else 0
            while key[:shared] != last[:shared]:
                shared -= 1
            body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
            last = key
        return body + struct.pack("<II", 0, 1)

    data, entries = b"", [(b"", b"\x08\x01")]
    for name in sorted(tensors):
        value = tensors[name].astype("<f4")
        shape = b"".join(b"\x12" + varint(len(dim)) + dim for dim in (b"\x08" + varint(size) for size in value.shape))
        entry = (
            b"\x08\x01\x12" + varint(len(shape)) + shape + b"\x20" + varint(len(data)) + b"\x28" + varint(value.nbytes)
        )
        entries.append((name.encode(), entry + b"\x35\0\0\0\0"))
        data += value.tobytes()
    first = block(entries)
    handle = varint(0) + varint(len(first))
    second = block([(b"z", handle)])
    footer = varint(0) + varint(0) + varint(len(first) + 5) + varint(len(second))
    return first + b"\0" * 5 + second + b"\0" * 5 + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC), data


def test_a_checkpoint_is_read_without_tensorflow():
    weights = random_weights(tagger_shapes())
    found = read_checkpoint(*checkpoint(weights))
    assert found.keys() == weights.keys()
    assert all(np.array_equal(found[key], weights[key]) for key in weights)


@pytest.mark.parametrize("damage", [lambda i, d: (i[:-1], d), lambda i, d: (i, d[:-4]), lambda i, d: (i[40:], d)])
def test_a_damaged_checkpoint_is_refused(damage):
    with pytest.raises(ValueError, match="TensorFlow checkpoint"):
        read_checkpoint(*damage(*checkpoint({"a/b": np.ones((3, 2))})))


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index on this machine with one wheel; returns the wheel's path."""
    folder = tmp_path / "index" / "small-judge"
    folder.mkdir(parents=True)
    path = folder / "small_judge-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("small_judge/weights.bin", b"weights")
        archive.writestr(
            "small_judge-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small-judge\nVersion: 1.0\n"
        )
        archive.writestr(
            "small_judge-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("small_judge-1.0.dist-info/RECORD", "")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "index")
    handler.log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield path
    server.shutdown()


def small_wheel(digest: str) -> Wheel:
    return Wheel(
        "small-judge",
        "1.0",
        digest,
        ("a.bin",),
        "MIT",
        lambda archive: {"a.bin": archive.read("small_judge/weights.bin")},
    )


def test_weights_come_from_a_verified_wheel(index, tmp_path):
    wheel = small_wheel(hashlib.sha256(index.read_bytes()).hexdigest())
    (path,) = fetch(wheel, tmp_path / "cache")
    assert path.read_bytes() == b"weights"
    assert [one.name for one in (tmp_path / "cache").iterdir()] == ["a.bin"]
    index.unlink()
    assert fetch(wheel, tmp_path / "cache") == [path]  # nothing is fetched again


def test_a_wheel_of_another_digest_is_refused_and_leaves_nothing(index, tmp_path):
    with pytest.raises(UserError, match="must have SHA-256"):
        fetch(small_wheel("0" * 64), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_missing_package_is_named(index, tmp_path):
    index.unlink()
    with pytest.raises(UserError, match=r"small-judge 1\.0 cannot be downloaded \(No matching dist") as caught:
        fetch(small_wheel("0" * 64), tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_weights_that_were_not_fetched_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("PVT_AUDIO_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="make judges"):
        judge_file("crepe-tiny.safetensors")
