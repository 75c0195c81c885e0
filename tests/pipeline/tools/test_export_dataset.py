"""Exported datasets: what other programs read from them equals the shards."""

import hashlib
import io
import json
import subprocess
import venv

import mido
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from data_specs.controls.curve_files import read_curves
from pipeline.cli import main
from pipeline.plan.plan import Plan
from pipeline.tools.report_data import finished_datasets
from tests.pipeline.tools.test_report import data  # noqa: F401

CONTROLS = ("velocity", "chroma", "instruments")


def export(folder, name, kind, out):
    return main(["export-dataset", "--data", str(folder), "--format", name, "--to", kind, "--out", str(out)])


def stored(folder, name, split):
    """Every record of a split, by id."""
    dataset = next(one for one in finished_datasets(folder) if one.info.format == name)
    clips = [clip for shard in dataset.info.splits[split].shards for clip in dataset.records(shard)]
    return {clip["id"].tobytes().decode(): clip for clip in clips}


@pytest.mark.parametrize("name", ["audio", "cqt"])
def test_parquet_holds_ids_arrays_and_curves_of_the_shards(data, tmp_path, name):  # noqa: F811
    assert export(data, name, "parquet", tmp_path) == 0
    for split, count in (("train", 10), ("valid", 3)):
        rows = pq.read_table(sorted((tmp_path / "data").glob(f"{split}-*.parquet"))).to_pylist()
        clips = stored(data, name, split)
        assert [row["id"] for row in rows] == list(clips)
        assert len(rows) == count
        for row in rows:
            clip = clips[row["id"]]
            for control in CONTROLS:
                np.testing.assert_array_equal(np.array(row[control], np.float32), clip[control])
            if name == "audio":
                audio, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float64")
                assert rate == 24_000
                assert np.abs(audio - clip["data"][0]).max() <= 2**-24
            else:
                np.testing.assert_array_equal(np.array(row["data"], np.float32), clip["data"])
            assert row["source"]
    card = (tmp_path / "README.md").read_text()
    assert "split: validation\n    path: data/valid-*.parquet" in card
    assert "| train | 10 |" in card
    named = {line.split("|")[1].strip() for line in card.splitlines() if line.startswith("| ")}
    assert set(pq.read_schema(next((tmp_path / "data").glob("*.parquet"))).names) & {"data", "audio"} <= named


def test_wav_files_are_exact_curves_read_back_and_midi_has_the_notes_of_the_plan(data, tmp_path):  # noqa: F811
    assert export(data, "audio", "wav", tmp_path) == 0
    plan = Plan.open(next((data / "index").glob("plan-*")))
    planned = {clip.id: clip for clip in plan.clips("train", 0, 10)}
    for name, clip in stored(data, "audio", "train").items():
        audio, _ = soundfile.read(tmp_path / "train" / f"{name}.wav", dtype="float32")
        np.testing.assert_array_equal(audio, clip["data"][0])
        drawn = read_curves(tmp_path / "train" / f"{name}.csv").arrays(
            ("piano", "violin", "trumpet"), 192_000, 600, 320
        )
        for control in CONTROLS:
            np.testing.assert_allclose(drawn[control].reshape(clip[control].shape), clip[control], atol=1e-6)
        now, notes, open_notes = 0, [], {}
        for message in mido.MidiFile(tmp_path / "train" / f"{name}.mid").tracks[0]:
            now += message.time
            if message.type == "note_on":
                open_notes[message.note] = (now, message.velocity)
            elif message.type == "note_off":
                onset, velocity = open_notes.pop(message.note)
                notes.append([onset, now, message.note, velocity])
        assert notes == planned[name].notes.tolist()


def test_an_interrupted_export_is_resumed_and_another_dataset_is_refused(data, tmp_path, capsys):  # noqa: F811
    assert export(data, "audio", "wav", tmp_path) == 0
    files = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".wav", ".csv", ".mid"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    files[4].unlink()
    assert export(data, "audio", "wav", tmp_path) == 0
    assert files[4].read_bytes() == before.pop(files[4])[0]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert export(data, "cqt", "wav", tmp_path) == 2
    assert "holds the export of another dataset" in capsys.readouterr().err
    assert export(data, "audio", "mp3", tmp_path / "other") == 2
    assert "parquet, wav; got 'mp3'" in capsys.readouterr().err


@pytest.mark.slow
def test_hugging_face_datasets_loads_the_parquet_as_it_is(data, tmp_path):  # noqa: F811
    """In an environment of its own, since its requirements differ from this project's."""
    for name in ("audio", "cqt"):
        assert export(data, name, "parquet", tmp_path / name) == 0
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "datasets", "soundfile"]
    if subprocess.run(install, capture_output=True, timeout=1200).returncode:
        pytest.skip("datasets cannot be installed here")
    code = (
        "import io, json, sys, hashlib, soundfile; from datasets import Audio, load_dataset\n"
        "sound = load_dataset(sys.argv[1]); array = load_dataset(sys.argv[2])\n"
        "def digest(values): return hashlib.sha256(values.astype('<f4').tobytes()).hexdigest()\n"
        "arrays = {row['id']: digest(row['data']) for row in array['train'].with_format('numpy')}\n"
        "raw = sound['train'].cast_column('audio', Audio(decode=False))[0]['audio']\n"
        "print(json.dumps({'splits': {k: len(v) for k, v in sound.items()}, 'ids': sound['train']['id'][:],\n"
        "  'arrays': arrays,\n"
        "  'features': sorted(map(str, array['train'].features)), 'rows': len(array['train'][0]['data'][0]),\n"
        "  'length': len(soundfile.read(io.BytesIO(raw['bytes']))[0])}))"
    )
    command = [python, "-c", code, tmp_path / "audio", tmp_path / "cqt"]
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["splits"] == {"train": 10, "validation": 3}
    assert found["ids"] == list(stored(data, "audio", "train"))
    assert (found["rows"], found["length"]) == (216, 192_000)
    exact = {
        name: hashlib.sha256(clip["data"].tobytes()).hexdigest() for name, clip in stored(data, "cqt", "train").items()
    }
    assert found["arrays"] == exact
    assert set(CONTROLS) < set(found["features"])
