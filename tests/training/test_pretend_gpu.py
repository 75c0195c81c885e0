"""Steps, samples and transforms on PyTorch's `meta` device, which holds shapes alone: reading a value raises."""

import numpy as np
import pytest
import torch

from bench.steps import META, Counts, counted
from data_specs.codecs.mdct import kernel, sine_window
from data_specs.codecs.phaseless import PhaselessCodec
from data_specs.codecs.pvt import PvtCodec
from tests.training.one_device import OneDevice
from training.config import load_config
from training.data.dataset import Dataset
from training.data.loader import BatchBuilder, control_layout
from training.data.resident import ResidentClips
from training.diffusion import CounterNoise
from training.diffusion_task import DiffusionTask
from training.distributed import World
from training.evaluation.embedders.classifier import PATCHES, PatchNetwork

PAIRS = [("edm", "encodec"), ("ddpm", "encodec"), ("discdpm", "disc"), ("edm", "cqt")]


@pytest.fixture(scope="module")
def data(make_dataset, tmp_path_factory):
    """A dataset of each format."""
    folder = tmp_path_factory.mktemp("data")
    return {
        name: Dataset(make_dataset(folder, name, {"train": 3, "valid": 1})[0]) for name in ("encodec", "disc", "cqt")
    }


def task_of(paradigm, format_name, data):
    config = load_config("tiny", paradigm, format_name, overrides="training.batch=2 training.seconds=1")
    return DiffusionTask(config, data[format_name])


@pytest.mark.parametrize(("paradigm", "format_name"), PAIRS)
def test_a_training_step_waits_for_nothing_and_copies_its_batch_alone(paradigm, format_name, data):
    counts, flops = counted(task_of(paradigm, format_name, data), data[format_name], META)
    assert counts.waits == 0
    assert counts.copies <= 3 + (paradigm == "discdpm")  # clips, controls, keys of the noise; probabilities of times
    assert 100 < counts.kernels < 20_000
    assert flops > 1e8


def test_codebooks_share_kernels_where_the_chunk_holds_them(data):
    overrides = "training.batch=2 training.seconds=1 diffusion.chunk_values={}"
    few, many = (
        counted(
            DiffusionTask(load_config("tiny", "discdpm", "disc", overrides=overrides.format(chunk)), data["disc"]),
            data["disc"],
        )
        for chunk in (2**22, 2**18)  # 16 codebooks and one: 2 x 75 x 1024 logits each
    )
    assert few[0].kernels < many[0].kernels / 2


def test_operations_of_the_last_layer_of_codes_are_counted(data):
    task = task_of("discdpm", "disc", data)
    batch, codebooks, frames, classes = 2, 16, 75, 1024
    last = task.network.out.conv.weight.shape[1]
    product = 2 * batch * frames * codebooks * classes * last  # forward; the backward pass has two more
    assert counted(task, data["disc"], META)[1] > 3 * product


@pytest.mark.parametrize(("paradigm", "format_name"), PAIRS)
def test_losses_and_samples_stay_on_one_device(paradigm, format_name, data):
    task, source = task_of(paradigm, format_name, data), data[format_name]
    batch = BatchBuilder(source, task.config.training, 2).train(np.arange(2))
    paradigm = task.model.paradigm
    options = paradigm.options({"steps": 2})
    with torch.no_grad():
        network = task.network.to(META)
        losses = task.losses(task.objective(network), batch, "train", World(0, 1, META))
        noise = CounterNoise(0, range(2), "sample", META)
        shape = tuple(batch.data.shape[1:])
        controls = torch.empty(batch.controls.shape, device=META)
        made = paradigm.sample(network, shape, controls, noise, options, guidance=2.0)
        scaled = task.model.to_model(made if task.model.scaling is None else made.float())
    assert {losses.device, made.device, scaled.device} == {META}
    assert made.shape == batch.data.shape


def test_transforms_and_embedder_stay_on_one_device():
    with torch.no_grad():
        lapped = kernel(sine_window().to(META))
        patches = torch.empty(2, PATCHES.length, PATCHES.spectrum.bands, device=META)
        embedded = PatchNetwork(3).to(META)(patches)
    assert {lapped.device, embedded.device} == {META}


@pytest.mark.parametrize("codec", [PhaselessCodec, PvtCodec])
def test_codecs_stay_on_one_device_and_decode_clips_together(codec):
    own = codec.load(codec.shipped())  # its weights move
    kernels = []
    for clips in (1, 4):
        with torch.no_grad(), OneDevice():
            latents = own.encode(torch.empty(clips, 1, 4_800, device=META))
            assert own.dequantize(own.quantize(latents, 16)).shape == latents.shape
            with Counts(META) as counts:
                assert own.decode(latents).shape == (clips, 1, 4_800)
        assert counts.waits == 0
        kernels.append(counts.kernels)
    assert kernels[1] < 1.5 * kernels[0]


def test_resident_clips_give_the_batches_of_the_loader(data):
    source = data["encodec"]
    training = load_config("tiny", "edm", "encodec", overrides="training.seconds=1 training.span_dropout=0.5").training
    resident = ResidentClips(source, control_layout(source), torch.device("cpu"))
    positions = np.arange(6) + 5
    ours = BatchBuilder(source, training, 6, resident=resident).train(positions)
    theirs = BatchBuilder(source, training, 6).train(positions)
    assert torch.equal(ours.data, theirs.data)
    assert torch.equal(ours.controls, theirs.controls)


def test_counter_noise_has_the_right_distribution_and_depends_on_the_clip_alone():
    noise = CounterNoise(0, range(8), "train", "cpu")
    normal, uniform, integers = noise.normal((40_001,)), noise.uniform((40_000,)), noise.integers(10, (40_000,))
    assert normal.shape == (8, 40_001)
    moments = [normal.mean(), normal.var(), normal.pow(3).mean(), normal.pow(4).mean()]
    for found, expected in zip(moments, (0, 1, 0, 3), strict=True):
        assert abs(float(found) - expected) < 0.05
    assert float(uniform.min()) >= 0
    assert float(uniform.max()) < 1
    assert abs(float(uniform.var()) - 1 / 12) < 1e-3
    assert (torch.bincount(integers.flatten(), minlength=10) / integers.numel() - 0.1).abs().max() < 0.005
    assert torch.corrcoef(normal).fill_diagonal_(0).abs().max() < 0.03  # of clips
    assert abs(float((normal[:, :-1] * normal[:, 1:]).mean())) < 0.01  # of neighbors
    alone = CounterNoise(0, [5], "train", "cpu")
    assert torch.equal(alone.normal((40_001,))[0], normal[5])
    assert torch.equal(alone.uniform((40_000,))[0], uniform[5])


def test_counter_noise_is_splitmix64():
    noise = CounterNoise(0, [0], "train", "cpu")
    noise._keys = torch.tensor([[1234567]])
    upper, lower = noise._halves(3)
    found = [int(high) << 32 | int(low) for high, low in zip(upper[0], lower[0], strict=True)]
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]  # of the reference code
