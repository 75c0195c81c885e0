"""The report against the dataset it is about: counts, histograms, and clips that sound as they are stored."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from data_specs.errors import UserError
from pipeline.build.build import build
from pipeline.build.job import Request
from pipeline.cli import main
from pipeline.cluster.workers import RemoteWorkers
from pipeline.plan.plan import Plan
from pipeline.tools.report import report
from pipeline.tools.report_data import finished_datasets, notes_of

HOSTILE = """<hostile onload="alert(1)" a='b'>&amp;"""


@pytest.fixture(scope="module")
def data(small_spec, midi_folder, dask_cluster, tmp_path_factory):
    """PVT-audio and PVT-cqt of 10 + 3 clips."""
    out = tmp_path_factory.mktemp("report") / "data"
    source = small_spec.source.model_copy(update={"midi": str(midi_folder)})
    request = Request(
        spec=small_spec.model_copy(update={"source": source}),
        formats=("audio", "cqt"),
        out=out,
        index=out / "index",
        workers=RemoteWorkers(dask_cluster.address),
        dry_run=False,
        force=False,
        accept_fewer=False,
        accept_device=False,
        subset=None,
    )
    assert build(request) == 0
    return out


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.text, self.tags = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    def titles(self):
        return [attributes["title"] for _, attributes in self.tags if "title" in attributes]


@pytest.fixture(scope="module")
def page(data):
    assert main(["report", "--data", str(data)]) == 0
    return Page((data / "report.html").read_text())


def test_page_counts_what_is_there(data, page):
    assert (data / "report.html").is_file()
    assert page.text[page.text.index("13") :][:2] == ["13", "clips"]
    audio = finished_datasets(data)[0]
    assert str(len(set(audio.table["source_digest"]))) in page.text
    for reason, count in audio.info.rejects.items():
        assert page.text[page.text.index(reason) + 1] == f"{count:,}"
    assert any("broken.mid" in text for text in page.text)  # the example of what was left out


def test_histograms_are_of_the_notes_that_were_played(data, page):
    audio = finished_datasets(data)[0]
    plan = Plan.open(next((data / "index").glob("plan-*")))
    notes = np.concatenate(
        [clip.notes for split, count in (("train", 10), ("valid", 3)) for clip in plan.clips(split, 0, count)]
    )
    found = notes_of(audio)
    assert found.exact
    assert sorted(found.pitch) == sorted(notes[:, 2])
    assert sorted(found.velocity) == sorted(notes[:, 3])
    assert sorted(found.samples) == sorted(notes[:, 1] - notes[:, 0])
    assert f"C4: {(notes[:, 2] == 60).sum()}" in page.titles()
    assert f"64 to 72: {((notes[:, 3] >= 64) & (notes[:, 3] < 72)).sum()}" in page.titles()
    assert {f"{name}: {audio.table['instrument'].count(name)}" for name in audio.info.spec.instrument_names} <= set(
        page.titles()
    )


def test_without_the_plan_notes_are_read_off_the_curves(data, tmp_path):
    shutil.copytree(data / "PVT-cqt", tmp_path / "PVT-cqt")
    (cqt,) = finished_datasets(tmp_path)
    heard, played = notes_of(cqt), notes_of(finished_datasets(data)[1])
    assert not heard.exact
    # Every note lasts two frames at least, so only repeated notes of one loudness can run together.
    assert 0.9 * len(played.pitch) <= len(heard.pitch) <= len(played.pitch)
    assert set(heard.pitch) == set(played.pitch % 12)
    assert set(heard.velocity) == set(played.velocity)
    assert heard.samples.sum() == pytest.approx(played.samples.sum(), rel=0.02)
    text = " ".join(Page(report(tmp_path / "PVT-cqt", tmp_path / "page.html", clips=1).read_text()).text)
    assert "Pitch class" in text
    assert "octaves are not known" in text


def test_clips_sound_as_they_are_stored(data, page):
    audio, cqt = finished_datasets(data)
    sounds = [attributes for tag, attributes in page.tags if tag == "audio"]
    assert [one["aria-label"] for one in sounds[:2]] == ["rendered", "cqt"]
    assert len(sounds) == 2 * (5 + 1)  # train 0, 2, .. 8 and valid 1
    for one, stored in zip(sounds[:2], (audio, cqt), strict=True):
        heard, rate = soundfile.read(io.BytesIO(base64.b64decode(one["src"].split(",")[1])), dtype="float32")
        expected = stored.sound(stored.record("train", 0)["data"])
        assert rate == 24_000
        assert heard.shape == (192_000,)
        gain = np.abs(heard).max() / np.abs(expected).max()
        assert np.abs(heard - gain * expected).max() < 1e-3
    assert sum(audio.record("train", 0)["id"].tobytes().decode()[:6] in text for text in page.text) == 1


def test_page_needs_nothing_from_elsewhere(data, page):
    written = re.sub(r"data:[a-z/]+;base64,[A-Za-z0-9+/=]+", "", (data / "report.html").read_text())
    assert not re.search(r"https?:|@import|url\(|fetch|XMLHttp", written)
    assert str(data) not in written  # no paths of the machine


def test_names_that_come_from_files_are_text(data, tmp_path):
    """A song, a reject and a key of another program's file may be called anything."""
    folder = tmp_path / "data" / "PVT-audio"
    shutil.copytree(data / "PVT-audio", folder)
    clips = pq.read_table(folder / "clips.parquet")
    column = clips.schema.get_field_index("source")
    hostile = pa.array([HOSTILE] * len(clips), clips.schema.field("source").type)
    pq.write_table(clips.set_column(column, clips.schema.field("source"), hostile), folder / "clips.parquet")
    rejects = {f"reason {HOSTILE}": {"count": 3, "examples": [f"file {HOSTILE}"]}}
    (folder / "rejects.json").write_text(json.dumps(rejects))
    page = Page(report(folder.parent, tmp_path / "page.html").read_text())
    assert "hostile" not in {tag for tag, _ in page.tags}
    text = "".join(page.text)
    assert f"from {HOSTILE}" in text
    assert f"reason {HOSTILE}" in text
    assert f"file {HOSTILE}" in text


def test_faults_are_one_sentence(data, tmp_path, capsys):
    assert main(["report", "--data", str(tmp_path / "none")]) == 2
    assert "there is no finished dataset" in capsys.readouterr().err
    broken = tmp_path / "PVT-cqt"
    shutil.copytree(data / "PVT-cqt", broken)
    shard = next((broken / "train").glob("*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-40_000])
    with pytest.raises(UserError, match=r"cut off|is damaged|fails its CRC"):
        report(tmp_path, tmp_path / "page.html", clips=1)
    assert not (tmp_path / "page.html").exists()
