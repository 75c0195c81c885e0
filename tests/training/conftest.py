"""Small synthetic datasets, written through the same modules as real ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from data_specs.codecs.mdct import sine_window
from data_specs.codecs.weights import write_weights
from data_specs.dataset import MANIFEST, SHAPES, DatasetInfo, Shard, Split, clip_features, folder_name, shard_name
from data_specs.io.files import file_sha256, write_bytes, write_json
from data_specs.records import encode_example, frame
from data_specs.representations import representation
from data_specs.representations.base import Statistics
from data_specs.spec import CodecSpec, load_spec

SHAPES_OF = {"encodec": (128, 600), "disc": (16, 600), "cqt": (2, 216, 1921), "audio": (1, 192_000)}
FRAMES = {"audio": 600}  # of the controls, where data has another number
HOPS = {"encodec": 320, "disc": 320, "cqt": 100, "audio": 320}


def write_dataset(
    parent: Path, format_name: str, clips: dict[str, int], shard_clips: int = 5, seed: int = 0
) -> tuple[Path, dict[str, list[dict[str, np.ndarray | str]]]]:
    """Write PVT-<format> below `parent`; returns its folder and what was written, per split and clip."""
    rng = np.random.default_rng(seed)
    codec = parent / "codec.safetensors"
    if not codec.exists():
        write_weights(codec, "pvt", *_codec_tensors())
    spec = load_spec("sample")
    spec = spec.model_copy(update={"codec": CodecSpec(name=str(codec))})
    transform = representation(format_name, str(codec)).digest
    folder = parent / folder_name(format_name)
    shape = SHAPES_OF[format_name]
    features = clip_features(shape, spec.format(format_name).dtype, FRAMES.get(format_name, shape[-1]), 3)
    written: dict[str, list[dict[str, np.ndarray | str]]] = {}
    splits = {}
    for split, count in clips.items():
        written[split] = [_clip(rng, features, format_name) for _ in range(count)]
        shards = []
        total = -(-count // shard_clips)
        for number in range(total):
            path = folder / shard_name(format_name, split, number, total)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = written[split][number * shard_clips : (number + 1) * shard_clips]
            with open(path, "wb") as file:
                for clip in part:
                    file.write(
                        frame(
                            encode_example(
                                {k: v.encode() if isinstance(v, str) else v.tobytes() for k, v in clip.items()}
                            )
                        )
                    )
            file_name = str(path.relative_to(folder))
            size = path.stat().st_size
            shards.append(Shard(file=file_name, clips=len(part), bytes=size, sha256=file_sha256(path)))
        splits[split] = Split(planned=count, clips=count, shards=tuple(shards))
    statistics = None
    if format_name not in ("disc", "audio"):
        train = np.stack([np.asarray(clip["data"], np.float64) for clip in written["train"]])
        axes = (0, 2) if format_name == "encodec" else (0, 1, 3)
        count = int(np.prod([train.shape[axis] for axis in axes]))
        total_, squares = train.sum(axes, keepdims=True)[0], np.square(train).sum(axes, keepdims=True)[0]
        statistics = Statistics(count, total_ * (format_name != "cqt"), squares).to_json()
    info = DatasetInfo(
        format_version=1,
        format=format_name,
        label=format_name,
        hop=HOPS[format_name],
        clip_samples=192_000,
        spec=spec,
        plan_digest="0" * 64,
        format_digest=f"{seed:064d}",
        format_key={"transform": transform},
        versions={},
        devices=("cpu",),
        splits=splits,
        statistics=statistics,
        rejects={},
        licences={},
    )
    write_bytes(folder / SHAPES, "".join(f"{feature}\n" for feature in features).encode())
    write_json(folder / MANIFEST, info.model_dump(mode="json"))
    return folder, written


def _codec_tensors() -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A codec of the real one's sizes with random directions and codebooks."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(320, 128, generator=generator))[0]
    codebooks = 0.1 * torch.randn(16, 1024, 128, generator=generator)
    codebooks[:, 0] = 0
    tensors = {"window": sine_window().float(), "weight": torch.ones(320), "basis": basis, "codebooks": codebooks}
    return tensors, {"power": "1.0", "name": "test"}


def _clip(rng: np.random.Generator, features, format_name: str) -> dict[str, np.ndarray | str]:
    """A clip whose data depends on its controls, so that there is something to learn."""
    clip: dict[str, np.ndarray | str] = {"id": rng.bytes(8).hex()}
    data, velocity = features[:2]
    level = np.repeat(rng.random(4), -(-velocity.shape[0] // 4))[: velocity.shape[0]].astype(np.float32)
    clip["velocity"] = level
    clip["chroma"] = (np.round(level * 11) / 11).astype(np.float32)
    clip["instruments"] = np.eye(3, dtype=np.float32)[:, [rng.integers(3)]].repeat(velocity.shape[0], axis=1)
    if format_name == "disc":
        clip["data"] = rng.integers(0, 1024, data.shape).astype("<i2")
    elif format_name == "audio":
        hertz, t = 220 * 2 ** rng.random(), np.arange(data.shape[-1]) / 24_000
        tone = sum(np.sin(2 * np.pi * hertz * k * t) / k for k in (1, 2, 3))
        noise = 0.01 * rng.standard_normal(data.shape)
        clip["data"] = (0.2 * level.repeat(320) * tone + noise).astype("<f4")
    else:
        clip["data"] = (level * 3 + 1 + 0.1 * rng.standard_normal(data.shape)).astype("<f4")
    return clip


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., tuple[Path, dict[str, list[dict[str, np.ndarray | str]]]]]:
    """`write_dataset`, for tests that need a dataset of their own."""
    return write_dataset


@pytest.fixture(scope="session")
def encodec_data(tmp_path_factory: pytest.TempPathFactory):
    """(folder, clips written) of a small encodec dataset; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("data"), "encodec", {"train": 13, "valid": 4})
