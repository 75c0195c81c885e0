"""Batches are functions of (seed, position): ranks, interruptions and threads change nothing."""

import threading

import numpy as np
import pytest
import torch

from data_specs.errors import UserError
from training.config import Training
from training.data.dataset import Dataset
from training.data.loader import BatchBuilder, PrefetchLoader, check_share, control_layout, drop_controls

TRAINING = Training(steps=20, batch=6, seconds=2, seed=5)


def copies(batches):
    return [(b.data.clone(), b.controls.clone(), b.positions.copy()) for b in batches]


@pytest.fixture
def dataset(encodec_data):
    return Dataset(encodec_data[0])


def test_two_ranks_share_what_one_takes(dataset):
    with PrefetchLoader(dataset, TRAINING, iter(range(1, 8))) as one:
        whole = copies(one)
    halves = []
    for rank in (0, 1):
        with PrefetchLoader(dataset, TRAINING, iter(range(1, 8)), rank, 2) as part:
            halves.append(copies(part))
    for step, (data, controls, positions) in enumerate(whole):
        assert positions.tolist() == list(range(6 * step, 6 * step + 6))
        assert torch.equal(data, torch.cat([half[step][0] for half in halves]))
        assert torch.equal(controls, torch.cat([half[step][1] for half in halves]))


def test_a_continued_run_takes_the_same(dataset):
    with PrefetchLoader(dataset, TRAINING, iter(range(1, 10))) as all_:
        whole = copies(all_)
    with PrefetchLoader(dataset, TRAINING, iter(range(4, 10))) as rest:
        for (data, controls, _), (again, controls_again, _) in zip(whole[3:], copies(rest), strict=True):
            assert torch.equal(data, again)
            assert torch.equal(controls, controls_again)


def test_crops_cut_data_and_controls_at_one_place_and_vary(dataset, encodec_data):
    maker = BatchBuilder(dataset, TRAINING.model_copy(update={"control_dropout": 0.0}), 13)
    starts = set()
    for pass_ in range(3):
        batch = maker.train(np.arange(pass_ * 13, pass_ * 13 + 13))
        found = set()
        for data, controls in zip(batch.data.numpy(), batch.controls.numpy(), strict=True):
            for index, clip in enumerate(encodec_data[1]["train"]):
                at = np.flatnonzero(clip["data"][0] == data[0, 0])
                for start in at:
                    if np.array_equal(clip["data"][:, start : start + 150], data):
                        assert np.array_equal(controls[0], clip["velocity"][start : start + 150])
                        assert np.array_equal(controls[2:], clip["instruments"][:, start : start + 150])
                        found.add(index)
                        starts.add(int(start))
        assert found == set(range(13))
    assert len(starts) > 25
    assert max(starts) > 300


def test_valid_batches_stay_the_same_and_keep_their_controls(dataset):
    maker = BatchBuilder(dataset, TRAINING, 4)
    first = maker.valid(np.array([3, 1]))
    data, controls = first.data.clone(), first.controls.clone()
    assert (controls >= 0).all()
    maker.train(np.arange(4))
    again = maker.valid(np.array([3, 1]))
    assert torch.equal(again.data, data)
    assert torch.equal(again.controls, controls)


def dropped(dataset, clips, **changes):
    controls = torch.ones(clips, 5, 64)
    layout = control_layout(dataset)
    drop_controls(controls, layout, np.arange(clips), TRAINING.model_copy(update=changes))
    return {name: rows == -1 for name, rows in layout.split(controls).items()}


def test_features_are_dropped_whole_with_their_share_and_apart(dataset):
    rows = dropped(dataset, 4000)
    assert rows["instruments"].shape == (4000, 3, 64)
    whole = {name: mask.all(dim=(1, 2)) for name, mask in rows.items()}
    for name, mask in rows.items():
        assert torch.equal(whole[name], mask.any(dim=1).any(dim=1))
        assert whole[name].float().mean() == pytest.approx(0.3, abs=0.04)
    both = (whole["velocity"] & whole["chroma"]).float().mean()
    assert both == pytest.approx(0.09, abs=0.03)


def test_spans_are_dropped_of_what_is_left(dataset):
    mask = dropped(dataset, 4000, control_dropout=0.0, span_dropout=0.5)["velocity"][:, 0]
    touched = mask.any(dim=1)
    assert touched.float().mean() == pytest.approx(0.5, abs=0.05)
    edges = (mask[:, 1:] != mask[:, :-1]).sum(dim=1)
    assert edges.max() <= 2  # one span
    assert mask[touched].float().mean() == pytest.approx(1 / 3, abs=0.05)  # between two uniform times
    assert not dropped(dataset, 100, control_dropout=0.0)["velocity"].any()


def test_a_fault_in_the_thread_reaches_the_loop(encodec_data, tmp_path):
    import shutil

    folder = shutil.copytree(encodec_data[0], tmp_path / "PVT-encodec")
    path = sorted((folder / "train").iterdir())[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with (
        pytest.raises(UserError, match=path.name),
        PrefetchLoader(Dataset(folder), TRAINING, iter(range(1, 100))) as batches,
    ):
        for _ in batches:
            pass


def test_batches_that_cannot_be_made(dataset, make_dataset, tmp_path):
    check_share(dataset, TRAINING, 3)
    with pytest.raises(UserError, match="batch must be a multiple of the number of ranks, 4, got 6"):
        check_share(dataset, TRAINING, 4)
    folder, _ = make_dataset(tmp_path, "disc", {"train": 0, "valid": 1})
    with pytest.raises(UserError, match="must have train clips, got none"):
        check_share(Dataset(folder), TRAINING, 1)


def test_no_thread_is_left(dataset):
    with PrefetchLoader(dataset, TRAINING, iter(range(1, 1000))) as batches:
        next(batches)
        assert batches.pop_wait_seconds() > 0
        assert batches.pop_wait_seconds() == 0
    assert "batches" not in {thread.name for thread in threading.enumerate()}
