"""MIDI songs and plans made on the spot, small enough to build whole datasets from."""

import pytest

from bench.dask_site import DaskSite
from pipeline.midi.reader import read_song
from pipeline.plan.planning import make_plan
from tests.pipeline.made_songs import part_of, small_shards, song_bytes, write_songs


@pytest.fixture(scope="session")
def midi_folder(tmp_path_factory):
    """A folder of 24 songs, one of them broken and one there twice."""
    folder = tmp_path_factory.mktemp("midi")
    write_songs(folder)
    (folder / "again.mid").write_bytes(song_bytes(5))
    (folder / "broken.mid").write_bytes(b"<html>not a song</html>")
    return folder


@pytest.fixture(scope="session")
def small_spec():
    """The sample spec with few clips and shards of 4."""
    return small_shards(train=10, valid=3)


@pytest.fixture(scope="session")
def small_plan(midi_folder, small_spec, tmp_path_factory):
    """The plan that `midi_folder` gives under `small_spec`."""
    index = tmp_path_factory.mktemp("index")
    files = [(str(path.relative_to(midi_folder)), path.read_bytes()) for path in sorted(midi_folder.rglob("*.mid"))]
    part = part_of(files, small_spec, index, lambda content: read_song(content, small_spec.limits))
    return make_plan(small_spec, [part.path], index)


@pytest.fixture(scope="session")
def dask_cluster(tmp_path_factory):
    """A scheduler and two workers as separate processes."""
    with DaskSite(tmp_path_factory.mktemp("dask")) as site:
        yield site
