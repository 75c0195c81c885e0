"""The reader returns what was written, cuts data and controls together, and refuses what is damaged."""

import shutil

import numpy as np
import pytest
import torch

from data_specs.errors import UserError
from data_specs.records import RecordLayout
from training.data.dataset import Dataset


@pytest.fixture
def copied(encodec_data, tmp_path):
    """A dataset folder that the test may damage."""
    return shutil.copytree(encodec_data[0], tmp_path / "PVT-encodec")


def first_shard(folder):
    return sorted((folder / "train").iterdir())[0]


@pytest.mark.parametrize("in_memory", [False, True])
def test_clips_are_what_was_written(encodec_data, in_memory):
    folder, written = encodec_data
    for split in ("train", "valid"):
        dataset = Dataset(folder, split, in_memory=in_memory)
        assert len(dataset) == len(written[split])
        for clip, expected in zip(dataset, written[split], strict=True):
            assert clip["id"] == expected["id"]
            for name in ("data", "velocity", "chroma", "instruments"):
                assert np.array_equal(clip[name].numpy(), expected[name])
                assert clip[name].shape == expected[name].shape


@pytest.mark.parametrize(("format_name", "dtype"), [("disc", torch.int16), ("cqt", torch.float32)])
def test_other_formats(make_dataset, tmp_path, format_name, dtype):
    folder, written = make_dataset(tmp_path, format_name, {"train": 3, "valid": 1}, shard_clips=2)
    dataset = Dataset(tmp_path, format_name=format_name)
    batch = dataset.gather(np.array([2, 0]), dataset.empty(2, frames=100), starts=np.array([7, 0]))
    assert batch["data"].dtype == dtype
    assert np.array_equal(batch["data"][0].numpy(), written["train"][2]["data"][..., 7:107])
    assert np.array_equal(batch["instruments"][1].numpy(), written["train"][0]["instruments"][:, :100])
    assert Dataset(folder).folder == dataset.folder


def test_gather_cuts_data_and_controls_together(encodec_data):
    folder, written = encodec_data
    dataset = Dataset(folder)
    indices, starts = np.array([12, 3, 3, 0]), np.array([0, 449, 450, 17])
    assert dataset.crop_frames(2) == 150
    batch = dataset.gather(indices, dataset.empty(4, 150), starts)
    for row, (index, start) in enumerate(zip(indices, starts, strict=True)):
        for name, tensor in batch.items():
            assert np.array_equal(tensor[row].numpy(), written["train"][index][name][..., start : start + 150])


def test_gather_reuses_what_it_is_given(encodec_data):
    dataset = Dataset(encodec_data[0])
    out = dataset.empty(2)
    addresses = {name: tensor.data_ptr() for name, tensor in out.items()}
    assert dataset.gather(np.array([1, 5]), out) is out
    assert {name: tensor.data_ptr() for name, tensor in out.items()} == addresses
    assert torch.equal(out["data"][1], dataset[5]["data"])


def test_tensors_that_are_part_of_wider_ones_are_refused(encodec_data):
    """Bytes would go into a copy, and the tensor stay as it was."""
    data = Dataset(encodec_data[0])
    out = data.empty(2)
    wider = torch.zeros(2, 128, 700)
    with pytest.raises(ValueError, match="must be contiguous in its last axes"):
        data.gather(np.arange(2), out | {"data": wider[..., :600]})
    assert not wider.any()


def test_indices_from_the_end_and_outside(encodec_data):
    dataset = Dataset(encodec_data[0])
    assert dataset[-1]["id"] == dataset[12]["id"]
    for outside in (13, -14):
        with pytest.raises(IndexError, match="13 train clips"):
            dataset[outside]


def test_a_clip_does_not_change_the_shard(encodec_data):
    dataset = Dataset(encodec_data[0])
    dataset[0]["data"].zero_()
    assert dataset[0]["data"].any()


def test_tensorflow_reads_the_same(encodec_data):
    pytest.importorskip("tensorflow")
    from data_specs.tf_data import tf_dataset

    folder, _ = encodec_data
    for ours, theirs in zip(Dataset(folder), tf_dataset(folder).as_numpy_iterator(), strict=True):
        assert ours["id"] == theirs["id"].decode()
        assert np.array_equal(ours["data"].numpy(), theirs["data"])
        assert np.array_equal(ours["instruments"].numpy(), theirs["instruments"])


@pytest.mark.parametrize("place", [0, 9, 40, 5000, -1])
def test_an_altered_record_is_named_when_it_is_read(copied, place):
    path = first_shard(copied)
    content = bytearray(path.read_bytes())
    size = len(content) // 5
    content[3 * size + place % size] ^= 1
    path.write_bytes(content)
    dataset = Dataset(copied)
    dataset.gather(np.array([0, 1, 2, 4]))
    for _ in range(2):  # a record that failed is checked again
        with pytest.raises(UserError, match="record 3"):
            dataset.gather(np.array([1, 3]))
    with pytest.raises(UserError, match=path.name):
        dataset[3]
    Dataset(copied, verify=False)[3]


def test_a_record_is_checked_once(encodec_data, monkeypatch):
    dataset = Dataset(encodec_data[0])
    calls = []
    check = RecordLayout.check
    monkeypatch.setattr(RecordLayout, "check", lambda *args: (calls.append(1), check(*args)))
    for _ in range(3):
        dataset.gather(np.arange(13))
    assert len(calls) == 13


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("keep", [0, 1000])
def test_a_truncated_shard_is_refused_at_once(copied, keep, in_memory):
    path = first_shard(copied)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=rf"{path.name} must have \d+ bytes, got {keep}"):
        Dataset(copied, in_memory=in_memory)


def test_a_missing_shard_is_refused_at_once(copied):
    first_shard(copied).unlink()
    with pytest.raises(UserError, match="is missing"):
        Dataset(copied)


def test_an_unfinished_or_foreign_folder(copied, tmp_path):
    with pytest.raises(UserError, match="no dataset at"):
        Dataset(tmp_path / "nowhere")
    with pytest.raises(UserError, match="must have the format disc, got encodec"):
        Dataset(copied, format_name="disc")
    with pytest.raises(UserError, match="train or valid"):
        Dataset(copied, "test")
    (copied / "dataset.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        Dataset(tmp_path, format_name="encodec")


def test_shapes_that_do_not_fit(copied):
    shapes = copied / "shapes.txt"
    shapes.write_text(shapes.read_text().replace("chroma float32 600", "chroma float32 599"))
    with pytest.raises(UserError, match="must have the same number of frames"):
        Dataset(copied)


@pytest.mark.parametrize("seconds", [0, 0.001, 9])
def test_crops_that_do_not_fit(encodec_data, seconds):
    with pytest.raises(UserError, match="between a frame and 8, the length"):
        Dataset(encodec_data[0]).crop_frames(seconds)


def test_an_empty_split(make_dataset, tmp_path):
    folder, _ = make_dataset(tmp_path, "encodec", {"train": 2, "valid": 0})
    assert len(Dataset(folder, "valid")) == 0
    assert list(Dataset(folder, "valid")) == []


def test_a_spawned_data_loader_reads_the_same_clips(encodec_data):
    dataset = Dataset(encodec_data[0])
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    for index, clip in enumerate(loader):
        assert torch.equal(clip["data"], dataset[index]["data"])
        assert clip["id"] == dataset[index]["id"]
