"""Labels and groups of recordings, from folders and metadata.csv."""

import pytest

from data_specs.errors import UserError
from data_specs.spec import load_spec
from pipeline.recordings.catalog import list_recordings, read_catalog, with_labels
from pipeline.rejects import Rejects


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return str(folder)


def test_labels_are_the_subfolders(tmp_path):
    folder = touch(tmp_path, "oboe/a.wav", "oboe/deep/b.FLAC", "violin/c.mp3", "d.ogg", "readme.txt")
    rejects = Rejects()
    names = [file.name for file in list_recordings(folder, rejects)]
    assert names == ["d.ogg", "oboe/a.wav", "oboe/deep/b.FLAC", "violin/c.mp3"]
    assert rejects.counts == {"not an audio file name": 1}
    catalog = read_catalog(folder)
    assert [catalog.label(name) for name in names] == ["unlabelled", "oboe", "oboe", "violin"]
    assert catalog.group("d.ogg", "digest") == "digest"


def test_metadata_names_labels_and_groups(tmp_path):
    folder = touch(tmp_path, "x/a.wav", "x/b.wav")
    (tmp_path / "metadata.csv").write_text("file_name,label,group\nx/a.wav,flute,session 1\nx/b.wav,,session 1\n")
    catalog = read_catalog(folder)
    assert [catalog.label(name) for name in ("x/a.wav", "x/b.wav")] == ["flute", "x"]
    assert {catalog.group(name, name) for name in ("x/a.wav", "x/b.wav")} == {"session 1"}
    rejects = Rejects()
    assert len(list_recordings(folder, rejects)) == 2
    assert not rejects.total


def test_the_spec_takes_the_labels_of_the_folder(tmp_path):
    folder = touch(tmp_path, "b/a.wav", "a/a.wav")
    spec = load_spec("recordings")
    found = with_labels(spec.model_copy(update={"source": spec.source.model_copy(update={"audio": folder})}))
    assert found.instrument_names == ("a", "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [("name\nx\n", "must have the column file_name"), ('file_name\n"x', "must be CSV")],
)
def test_bad_metadata_is_refused(tmp_path, content, message):
    (tmp_path / "metadata.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        read_catalog(str(tmp_path))


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no \.wav"):
        list_recordings(touch(tmp_path, "a.txt"), Rejects())
    with pytest.raises(UserError, match="must be a folder"):
        list_recordings(str(tmp_path / "none"), Rejects())
