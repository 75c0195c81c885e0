"""A dataset folder through its life: begun, killed, continued, grown, finished, refused."""

import pytest

from data_specs.errors import UserError
from pipeline.build.folder import BuildFolder
from pipeline.build.shards import Receipt, ShardSubset, shard_tasks

KEY = {"format": "disc", "plan": {"seed": 0, "clip": {"seconds": 8}}, "soundfont": "a"}


def make_shard(folder: BuildFolder, task, content: bytes = b"shard", machine: str = "here"):
    import hashlib

    path = folder.path / task.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    folder.write_receipt(
        Receipt(
            split=task.split,
            number=task.number,
            start=task.start,
            stop=task.stop,
            clips=task.stop - task.start,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            machine=machine,
            levels_dbfs={},
            faults=(),
            statistics=None,
        )
    )


@pytest.fixture
def folder(tmp_path):
    folder = BuildFolder(tmp_path, "disc")
    folder.open(KEY)
    return folder


def test_tasks_cover_every_position_once_in_shards_that_do_not_move():
    small, large = shard_tasks("disc", "train", 25, 10), shard_tasks("disc", "train", 47, 10)
    assert [(t.start, t.stop) for t in small] == [(0, 10), (10, 20), (20, 25)]
    assert [(t.start, t.stop) for t in large[:2]] == [(t.start, t.stop) for t in small[:2]]
    assert shard_tasks("disc", "train", 0, 10) == []
    assert small[0].file == "train/PVT-disc-train-00000-of-00003.tfrecord"


def test_only_shards_without_receipt_or_with_another_content_are_missing(folder):
    tasks = shard_tasks("disc", "train", 50, 10)
    for task in tasks[:4]:
        make_shard(folder, task)
    (folder.path / tasks[1].file).write_bytes(b"shorter")  # wrong size
    (folder.path / tasks[2].file).write_bytes(b"shorD")  # same size, one byte differs
    (folder.path / tasks[3].file).unlink()
    assert [task.number for task in folder.missing(tasks, "here", False)] == [1, 2, 3, 4]


def test_growing_renames_full_shards_and_rebuilds_the_partial_last_one(folder):
    for task in shard_tasks("disc", "train", 25, 10):
        make_shard(folder, task)
    grown = shard_tasks("disc", "train", 40, 10)
    assert [task.number for task in folder.missing(grown, "here", False)] == [2, 3]
    names = {path.name for path in (folder.path / "train").iterdir()}
    assert {task.file.removeprefix("train/") for task in grown[:2]} < names
    # a kill between two renames: the next run finds one shard under each name
    (folder.path / grown[1].file).rename(folder.path / "train/PVT-disc-train-00001-of-00003.tfrecord")
    assert [task.number for task in folder.missing(grown, "here", False)] == [2, 3]


def test_finishing_leaves_exactly_the_present_shards_and_the_manifest(folder):
    old = shard_tasks("disc", "train", 25, 10)
    for task in old:
        make_shard(folder, task)
    grown = shard_tasks("disc", "train", 40, 10)
    for task in folder.missing(grown, "here", False):
        make_shard(folder, task, b"new")
    folder.finish({"format_key": KEY}, "data int16 16 600\n", grown)
    assert {path.name for path in (folder.path / "train").iterdir()} == {task.file[6:] for task in grown}
    assert folder.manifest.is_file()
    folder.open(KEY)  # growing again takes the manifest away, and keeps it
    assert not folder.manifest.exists()
    assert folder.manifest.with_name("dataset.json.old").is_file()


def test_the_manifest_comes_after_everything_else(folder, monkeypatch):
    """A run that ends anywhere before leaves a folder that no reader takes for a dataset."""
    tasks = shard_tasks("disc", "train", 10, 10)
    make_shard(folder, tasks[0])

    def full(path, content):
        raise UserError(f"no space is left to write {path}")

    monkeypatch.setattr("pipeline.build.folder.write_bytes", full)
    with pytest.raises(UserError, match=r"shapes\.txt"):
        folder.finish({"format_key": KEY}, "data int16 16 600\n", tasks)
    assert not folder.manifest.exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"soundfont": "b"}, "soundfont = 'a'"),
        ({"plan": {"seed": 1, "clip": {"seconds": 8}}}, "plan.seed = 0"),
        ({"codebooks": 8}, "codebooks = None"),
    ],
)
def test_another_key_is_refused_by_name(folder, change, named):
    with pytest.raises(UserError, match=named.replace(".", r"\.")) as error:
        folder.check_key({**KEY, **change})
    assert "OUT=" in str(error.value)
    folder.check_key(dict(KEY))


def test_shards_of_another_machine_are_refused_until_accepted(folder):
    tasks = shard_tasks("disc", "train", 20, 10)
    make_shard(folder, tasks[0], machine="elsewhere")
    with pytest.raises(UserError, match="ACCEPT_DEVICE=1"):
        folder.missing(tasks, "here", accept_machine=False)
    assert [task.number for task in folder.missing(tasks, "here", accept_machine=True)] == [1]


def test_a_folder_of_other_files_is_not_taken_over(tmp_path):
    (tmp_path / "PVT-disc").mkdir()
    (tmp_path / "PVT-disc" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="holds files but no dataset"):
        BuildFolder(tmp_path, "disc").check_key(KEY)


def test_damaged_bookkeeping_is_one_sentence(folder):
    folder.key_file.write_bytes(b"\xff{")
    with pytest.raises(UserError, match="damaged"):
        folder.check_key(KEY)


def test_a_folder_is_held_by_one_build_or_by_several_different_shares(folder):
    with folder.lock(), pytest.raises(UserError, match=r"in use by process \d+ on "), folder.lock():
        pass
    with folder.lock(), pytest.raises(UserError, match="in use"), folder.lock(ShardSubset(0, 2)):
        pass
    with folder.lock(ShardSubset(0, 2)), folder.lock(ShardSubset(1, 2)):
        with pytest.raises(UserError, match="SHARDS=1/2"), folder.lock(ShardSubset(1, 2)):
            pass
        with pytest.raises(UserError, match="in use"), folder.lock():
            pass
    with folder.lock():
        pass


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "1/2/3", "0/0", "٣/4"])
def test_a_share_is_i_of_n(text):
    with pytest.raises(UserError, match="SHARDS=0/8"):
        ShardSubset.parse(text)


def test_shares_are_disjoint_and_complete():
    tasks = shard_tasks("disc", "train", 95, 10)
    shares = [[task for task in tasks if ShardSubset.parse(f"{i}/3").holds(task)] for i in range(3)]
    assert sorted((task for share in shares for task in share), key=lambda task: task.number) == tasks
