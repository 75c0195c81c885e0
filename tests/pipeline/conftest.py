"""MIDI songs and plans made on the spot, small enough to build whole datasets from."""

import pytest

from bench.dask_site import DaskSite
from data_specs.spec import Clips, load_spec
from pipeline.index import index_part
from pipeline.midi import read_song
from pipeline.planning import make_plan
from tests.pipeline.made_songs import song_bytes


@pytest.fixture(scope="session")
def midi_folder(tmp_path_factory):
    """A folder of 24 songs, one of them broken and one there twice."""
    folder = tmp_path_factory.mktemp("midi")
    for seed in range(24):
        path = folder / f"album-{seed % 3}" / f"song-{seed:02d}.mid"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(song_bytes(seed))
    (folder / "again.mid").write_bytes(song_bytes(5))
    (folder / "broken.mid").write_bytes(b"<html>not a song</html>")
    return folder


@pytest.fixture(scope="session")
def small_spec():
    """The sample spec with few clips and shards of 4."""
    spec = load_spec("sample").with_clips(Clips(train=10, valid=3))
    formats = {
        name: spec.format(name).model_copy(update={"shard_clips": 4, "chunk_clips": 2})
        for name in ("audio", "cqt", "encodec", "disc")
    }
    source = spec.source.model_copy(update={"key_shifts": (0,), "clips_per_song": 4})
    return spec.model_copy(update={"formats": spec.formats.model_copy(update=formats), "source": source})


@pytest.fixture(scope="session")
def small_plan(midi_folder, small_spec, tmp_path_factory):
    """The plan that `midi_folder` gives under `small_spec`."""
    index = tmp_path_factory.mktemp("index")
    files = [(str(path.relative_to(midi_folder)), path.read_bytes()) for path in sorted(midi_folder.rglob("*.mid"))]
    part = index_part(files, small_spec, index, lambda content: read_song(content, small_spec.limits))
    return make_plan(small_spec, [part.path], index)


@pytest.fixture(scope="session")
def dask_cluster(tmp_path_factory):
    """A scheduler and two workers as separate processes."""
    with DaskSite(tmp_path_factory.mktemp("dask")) as site:
        yield site
