"""Checkpoints appear whole, the newest whole one is taken, and nothing in them runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data_specs.errors import UserError
from training import checkpoint
from training.checkpoint import find_snapshot, load_newest, read_snapshot, save, write_half, write_snapshot

ROOT = Path(__file__).parents[2]


def put(run, step, keep=2, size=1000):
    state = {
        "step": step,
        "network": {"w": torch.full((size,), float(step))},
        "optimizer": {"lr": 0.1, "betas": (0.9, 1)},
    }
    return save(run, step, state, {"w": torch.full((size,), step + 0.5)}, {"step": step, "name": "é"}, keep)


def test_what_is_saved_comes_back(tmp_path):
    assert load_newest(tmp_path) is None
    put(tmp_path, 7)
    saved = load_newest(tmp_path)
    assert saved.state["step"] == 7
    assert torch.equal(saved.state["network"]["w"], torch.full((1000,), 7.0))
    assert torch.equal(saved.weights["w"], torch.full((1000,), 7.5))
    assert read_snapshot(find_snapshot(tmp_path))[1] == {"step": 7, "name": "é"}


def test_the_newest_are_kept(tmp_path):
    for step in (9, 10, 100):
        put(tmp_path, step)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000010", "step-00000100"]
    put(tmp_path, 100)  # once more
    assert load_newest(tmp_path).state["step"] == 100


@pytest.mark.parametrize("name", ["state.pt", "snapshot.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("harm", ["truncate", "flip", "remove"])
def test_a_damaged_one_is_named_and_passed_over(tmp_path, capsys, name, harm):
    put(tmp_path, 1)
    path = put(tmp_path, 2) / name
    content = bytearray(path.read_bytes())
    if harm == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "flip":
        content[len(content) // 3] ^= 0xFF
        path.write_bytes(content)
    else:
        path.unlink()
    assert load_newest(tmp_path).state["step"] == 1
    assert "step-00000002 is damaged" in capsys.readouterr().err


def test_none_is_whole(tmp_path):
    (put(tmp_path, 1) / "state.pt").unlink()
    with pytest.raises(UserError, match=r"no checkpoint in .* is intact"):
        load_newest(tmp_path)


def test_snapshots_are_found(tmp_path):
    with pytest.raises(UserError, match="no snapshot in"):
        find_snapshot(tmp_path)
    put(tmp_path, 1)
    folder = put(tmp_path, 2)
    snapshot = folder / "snapshot.safetensors"
    assert find_snapshot(tmp_path) == find_snapshot(folder) == find_snapshot(snapshot) == snapshot
    (folder / "state.pt").unlink()  # not needed for sampling
    assert find_snapshot(tmp_path) == snapshot
    snapshot.write_bytes(b"")
    assert find_snapshot(tmp_path).parent.name == "step-00000001"


def test_what_is_no_snapshot(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    path.write_bytes(b'\x08\x00\x00\x00\x00\x00\x00\x00{"a": 1}')
    with pytest.raises(UserError, match="not a readable snapshot"):
        read_snapshot(path)
    save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="not a snapshot of this version"):
        read_snapshot(path)
    write_snapshot(path, {"w": torch.zeros(2, 3)[:, 1]}, {"a": [1, 2]})
    weights, facts = read_snapshot(path)
    assert facts == {"a": [1, 2]}
    assert weights["w"].shape == (2,)


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


def test_a_malicious_pickle_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = put(tmp_path, 1)
    with open(folder / "state.pt", "wb") as file:
        torch.save({"step": Bomb()}, file)
    manifest = json.loads((folder / "checkpoint.json").read_bytes())
    from data_specs.io.files import file_sha256

    path = folder / "state.pt"
    manifest["files"]["state.pt"] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (folder / "checkpoint.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="holds objects other than tensors and numbers"):
        load_newest(tmp_path)
    assert not (tmp_path / "pwned").exists()


KILLS = """
import os, signal, sys, time
sys.path.insert(0, "tests/training")
from pathlib import Path
from test_checkpoint import check, put
run, delays = Path(sys.argv[1]), [float(delay) for delay in sys.argv[2:]]
for number, delay in enumerate(delays):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        for step in range(1, 100_000):
            put(run / str(number), step)
            os.write(writing, b".")
    done = os.read(reading, 2) + os.read(reading, 1)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    check(run / str(number), at_least=len(done))
"""


def check(run, at_least):
    saved = load_newest(run)
    assert saved.state["step"] >= at_least
    assert torch.equal(saved.weights["w"], torch.full((1000,), saved.state["step"] + 0.5))
    put(run, 100_000)  # clears what the kill left
    assert not list((run / "checkpoints").glob(".*"))
    assert len(list((run / "checkpoints").iterdir())) == 2


def test_kills_while_saving_leave_a_whole_checkpoint(tmp_path):
    delays = [str(0.0013 * kill) for kill in range(20)]
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path), *delays], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_full_disk_keeps_what_stands(tmp_path, monkeypatch):
    put(tmp_path, 1)

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(UserError, match="no space is left"):
        put(tmp_path, 2)
    assert load_newest(tmp_path).state["step"] == 1


def test_a_half_snapshot_is_half_as_large_and_rounds_by_no_more_than_float16(tmp_path):
    weights = {"w": torch.randn(1000), "count": torch.tensor([3, 70_000])}
    write_snapshot(tmp_path / "whole", weights, {"step": 7})
    found, facts = read_snapshot(write_half(tmp_path / "whole", tmp_path / "half"))
    assert facts == {"step": 7}
    assert torch.equal(found["count"], weights["count"])
    assert (found["w"].float() - weights["w"]).abs().div(weights["w"].abs() + 1e-4).max() <= 2**-11
    assert (tmp_path / "half").stat().st_size < 0.6 * (tmp_path / "whole").stat().st_size


def test_weights_beyond_float16_are_refused(tmp_path):
    write_snapshot(tmp_path / "whole", {"w": torch.tensor([1.0, 1e6])}, {})
    with pytest.raises(UserError, match="w exceeds the range of float16"):
        write_half(tmp_path / "whole", tmp_path / "half")
    assert not (tmp_path / "half").exists()
