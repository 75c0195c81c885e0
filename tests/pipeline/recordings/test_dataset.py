"""Datasets of recordings: content, rejects, splits by group, growth, byte-identical resume, report and validation."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from pipeline.cli import main
from tests.pipeline.recordings.conftest import melody, write_recordings
from training.data.dataset import Dataset


def build(folder, out, *options):
    return main(["dataset", "--audio", str(folder), "--out", str(out), "--workers", "1", *options])


def content(out, format_name="audio"):
    folder = out / f"PVT-{format_name}"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.tfrecord"))}


@pytest.fixture(scope="module")
def built(recordings, tmp_path_factory):
    out = tmp_path_factory.mktemp("built")
    assert build(recordings, out, "--format", "audio,encodec") == 0
    return out


def test_every_file_is_a_clip_or_a_counted_reject(built):
    manifest = json.loads((built / "PVT-audio" / "dataset.json").read_text())
    assert sum(split["clips"] for split in manifest["splits"].values()) == 11
    assert manifest["rejects"] == {
        "clipped event": 1,
        "duplicate file": 1,
        "event too short": 1,
        "not an audio file name": 1,
        "not audio": 1,
        "silent recording": 1,
        "truncated file": 1,
    }
    assert [one["name"] for one in manifest["spec"]["instruments"]] == ["oboe", "unlabelled", "voice"]


def test_a_clip_is_the_recording_with_measured_controls(built):
    table = pq.read_table(built / "PVT-audio" / "clips.parquet").to_pylist()
    for split in ("train", "valid"):
        data = Dataset(built, split, format_name="audio")
        rows = [row for row in table if row["split"] == split]
        for index, row in enumerate(rows):
            clip = data[index]
            assert clip["data"].shape == (1, 96_000)
            last = round(row["seconds"] * 24_000)
            assert not clip["data"][0, last:].any()
            assert int(clip["instruments"][:, 0].argmax()) == data.info.spec.instrument_names.index(row["instrument"])
            rest = slice(last // data.info.hop + 4, None)
            assert not clip["loudness"][rest].any()
            assert not clip["pitch"][rest].any()
            assert (clip["centroid"][rest] == -1).all()
            voiced = clip["pitch"][clip["pitch"] > 0] * 85 + 23
            assert ((voiced > 56) & (voiced < 82)).float().mean() > 0.9


def test_validation_and_report_accept_it(built, capsys):
    assert main(["validate", "--data", str(built)]) == 0
    assert main(["report", "--data", str(built), "--out", str(built / "report.html")]) == 0
    page = (built / "report.html").read_text()
    for text in ("of sound without padding", "Loudness", "Noisiness", "oboe", "files with sound"):
        assert text in page
    assert ">1600<" in page  # Hz, of the centroid
    assert "e+" not in page.partition("<h2>Listen")[0]


def test_a_grown_and_repaired_dataset_has_the_same_shards(recordings, built, tmp_path):
    assert build(recordings, tmp_path, "--format", "audio", "--clips", "4:1") == 0
    folder = tmp_path / "PVT-audio"
    next((folder / "train").glob("*.tfrecord")).unlink()
    (folder / "dataset.json").rename(folder / "dataset.json.old")  # as a killed build leaves it
    assert build(recordings, tmp_path, "--format", "audio") == 0
    assert content(tmp_path) == content(built)
    assert (folder / "dataset.json").read_bytes() == (built / "PVT-audio" / "dataset.json").read_bytes()


def test_a_group_is_in_one_split(tmp_path):
    folder = tmp_path / "takes"
    folder.mkdir()
    lines = ["file_name,group"]
    for seed in range(9):
        soundfile.write(folder / f"{seed}.wav", melody(seed), 44_100)
        lines.append(f"{seed}.wav,group {seed // 3}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    assert build(folder, tmp_path / "out", "--format", "audio") == 0
    table = pq.read_table(tmp_path / "out" / "PVT-audio" / "clips.parquet").to_pylist()
    sides = {(row["group"], row["split"]) for row in table}
    assert sorted(split for _, split in sides) == ["train", "train", "valid"]


def test_copies_in_another_group_do_not_leak(tmp_path):
    folder = tmp_path / "takes"
    folder.mkdir()
    lines = ["file_name,group"]
    for seed in range(9):
        soundfile.write(folder / f"{seed}.wav", melody(seed), 44_100)
        soundfile.write(folder / f"{seed}-copy.flac", 0.5 * melody(seed, 24_000), 24_000)
        lines += [f"{seed}.wav,group {seed // 3}", f"{seed}-copy.flac,copies"]
    (folder / "metadata.csv").write_text("\n".join(lines))
    assert build(folder, tmp_path / "out", "--format", "audio") == 0
    rejects = json.loads((tmp_path / "out" / "PVT-audio" / "rejects.json").read_text())
    assert rejects["event similar to one in train"]["count"] >= 2


def test_measured_controls_of_rendered_clips(tmp_path):
    spec = (Path("data_specs/sample.toml").read_text()).replace(
        "clips = {", 'controls = ["velocity", "chroma", "loudness", "centroid", "instruments"]\nclips = {'
    )
    (tmp_path / "measured.toml").write_text(spec)
    options = ["--spec", str(tmp_path / "measured.toml"), "--format", "audio", "--clips", "8:2", "--workers", "1"]
    assert main(["dataset", *options, "--out", str(tmp_path / "out")]) == 0
    assert main(["validate", "--data", str(tmp_path / "out")]) == 0
    clip = Dataset(tmp_path / "out", "train", format_name="audio")[0]
    sounding = clip["velocity"] > 0
    assert (clip["loudness"][sounding] > 0).all()
    assert np.isfinite(clip["centroid"].numpy()).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--spec", "sample"], "--audio needs a spec of recordings"),
        (["--soundfont", "a.sf2"], "--audio needs a spec of recordings"),
    ],
)
def test_options_of_the_other_source_are_refused(recordings, tmp_path, options, message, capsys):
    assert build(recordings, tmp_path, *options) == 2
    assert message in capsys.readouterr().err


def test_controls_that_recordings_do_not_tell_are_refused(tmp_path, capsys):
    spec = Path("data_specs/recordings.toml").read_text().replace('"pitch"', '"velocity"')
    (tmp_path / "own.toml").write_text(spec)
    assert build(write_recordings(tmp_path / "r"), tmp_path / "o", "--spec", str(tmp_path / "own.toml")) == 2
    assert "controls of recordings must be among" in capsys.readouterr().err
