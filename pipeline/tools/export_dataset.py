"""`make export-dataset`: a finished dataset as Parquet for Hugging Face `datasets`, or as WAV, CSV and MIDI files.

A file appears when it is complete, and existing files of clips are kept, so running the same command again resumes an
export. At most `BATCH` clips are in memory.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_specs.arrays import Arrays
from data_specs.controls import CONTROLS
from data_specs.dataset import CLIPS_TABLE, Shard
from data_specs.errors import UserError
from data_specs.io.files import atomic_write, write_bytes, write_json
from data_specs.io.locks import locked
from data_specs.rates import SAMPLE_RATE
from data_specs.spec import SPLITS
from pipeline.plan.plan import Plan, PlannedClip
from pipeline.tools.report_data import FinishedDataset, finished_datasets

BATCH = 50  # clips in a row group of a Parquet file
STAMP = ".export.json"  # identifies the exported dataset, so that a folder never has files of two
TICKS = SAMPLE_RATE // 2  # per quarter note of 0.5 s, so that one tick is one sample
INFO_COLUMNS = (
    "source",
    "source_digest",
    "track",
    "start_tick",
    "instrument",
    "key_shift",
    "octave_shift",
    "expression",
    "level_dbfs",
)
VALUE_TYPES = {"double": "float64", "float": "float32"}  # names of Arrow types that differ in Hugging Face `datasets`
USE = {
    "parquet": 'Load with `datasets.load_dataset("FOLDER")`.',
    "wav": "A clip is `<id>.wav` (float32), `<id>.csv` (curves) and, of rendered datasets, `<id>.mid` (notes).",
}


def export_dataset(data: Path, format_name: str, kind: str, out: Path) -> int:
    """Write the dataset of one format below `data` to the folder `out` and return the exit status, 0.

    README.md in `out` is a dataset card. With `wav`, the format's data are decoded, and MIDI files are written only if
    the plan is beside the dataset.

    Args:
        data: the parent folder of datasets, or one of them.
        format_name: name of the format, such as `audio` or `encodec`.
        kind: `parquet` or `wav`.
        out: folder of the export, new or of the same export.

    Raises:
        UserError: `kind` is another word; there is no such dataset; a shard is damaged; `out` holds other files, is in
            use or cannot be written.
    """
    if kind not in USE:
        raise UserError(f"TO= must be one of {', '.join(USE)}; got {kind!r:.40}")
    found = [dataset for dataset in finished_datasets(data) if dataset.info.format == format_name]
    if not found:
        raise UserError(f"no finished dataset of FORMAT={format_name} below {data}; build it with make dataset")
    dataset = found[0]
    splits = {split: dataset.info.splits[split].shards for split in SPLITS}
    shards = [(split, k, shard) for split in SPLITS for k, shard in enumerate(splits[split]) if shard.clips]
    plan = dataset.plan() if kind == "wav" else None
    with locked(out / ".lock", str(out)):
        _check_stamp(out, {"kind": kind, "format": format_name, "shards": [shard.sha256 for *_, shard in shards]})
        with tqdm(total=dataset.clips, unit="clip", desc=f"{dataset.info.label} to {kind}", disable=None) as bar:
            for split, number, shard in shards:
                if kind == "parquet":
                    name = f"{split}-{number:05d}-of-{len(splits[split]):05d}.parquet"
                    _write_parquet(dataset, split, number, shard, out / "data" / name)
                    bar.update(shard.clips)
                    continue
                planned = _planned(plan, dataset, split, number) if plan else {}
                for clip in dataset.records(shard):
                    _write_clip(dataset, clip, planned.get(_id(clip)), out / split)
                    bar.update()
        write_bytes(out / "README.md", card(dataset, kind).encode())
    print(f"{out}: {dataset.clips} clips")
    return 0


def _check_stamp(out: Path, stamp: dict[str, Any]) -> None:
    path = out / STAMP
    try:
        existing = json.loads(path.read_bytes())
    except FileNotFoundError:
        if any(child.name != ".lock" for child in out.iterdir()):
            raise UserError(f"{out} holds other files; choose another folder with OUT=") from None
        write_json(path, stamp)
        return
    except ValueError:
        existing = None
    if existing != stamp:
        raise UserError(f"{out} holds the export of another dataset; choose another folder with OUT=")


def _rows(dataset: FinishedDataset, split: str, number: int) -> dict[str, dict[str, Any]]:
    """Return the rows of clips.parquet for the clips of one shard, by id."""
    import pyarrow.parquet as pq

    path = dataset.folder / CLIPS_TABLE
    table = pq.read_table(path, filters=[("split", "=", split), ("shard", "=", number)])
    return {row["id"]: row for row in table.to_pylist()}


def _id(clip: Arrays) -> str:
    return clip["id"].tobytes().decode("ascii")


def _write_parquet(dataset: FinishedDataset, split: str, number: int, shard: Shard, path: Path) -> None:
    if path.is_file():
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = parquet_schema(dataset)
    rows = _rows(dataset, split, number)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    with atomic_write(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for position, clip in enumerate(dataset.records(shard), start=1):
            row = rows.get(_id(clip), {})
            for name in schema.names:
                columns[name].append(_parquet_value(dataset, name, clip, row))
            if position % BATCH == 0 or position == shard.clips:
                arrays = [pa.array(values, schema.field(name).type) for name, values in columns.items()]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                columns = {name: [] for name in schema.names}


def _parquet_value(dataset: FinishedDataset, name: str, clip: Arrays, row: dict[str, Any]) -> Any:
    if name == "id":
        return _id(clip)
    if name == "audio":
        return {"bytes": _sound_file(clip["data"][0], "FLAC", "PCM_24"), "path": f"{_id(clip)}.flac"}
    return clip[name].tolist() if name in clip else row.get(name)


def parquet_schema(dataset: FinishedDataset) -> Any:
    """Return the schema of the Parquet files as pyarrow.Schema: id, features, and some columns of clips.parquet.

    Its metadata describe the columns for Hugging Face `datasets`. Data of the format audio are the column `audio`, as
    FLAC.
    """
    import pyarrow as pa

    fields: list[Any] = [pa.field("id", pa.string())]
    features: dict[str, Any] = {"id": {"dtype": "string", "_type": "Value"}}
    for feature in dataset.features:
        if feature.name == "data" and dataset.info.format == "audio":
            fields.append(pa.field("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
            features["audio"] = {"sampling_rate": SAMPLE_RATE, "_type": "Audio"}
            continue
        kind = pa.from_numpy_dtype(feature.stored_dtype)
        described: dict[str, Any] = {"dtype": feature.dtype, "_type": "Value"}
        for size in reversed(feature.shape):
            kind = pa.list_(kind, size)
            described = {"feature": described, "length": size, "_type": "List"}
        fields.append(pa.field(feature.name, kind))
        features[feature.name] = described
    table = dataset.table_schema()
    for name in INFO_COLUMNS:
        if name in table.names:
            fields.append(table.field(name))
            kind = str(table.field(name).type)
            features[name] = {"dtype": VALUE_TYPES.get(kind, kind), "_type": "Value"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=metadata)


def _sound_file(audio: np.ndarray, container: str, subtype: str) -> bytes:
    import soundfile

    content = io.BytesIO()
    soundfile.write(content, audio, SAMPLE_RATE, format=container, subtype=subtype)
    return content.getvalue()


def _planned(plan: Plan, dataset: FinishedDataset, split: str, number: int) -> dict[str, PlannedClip]:
    """Return the planned clips of one shard by id, with those that were rejected for their audio."""
    size = dataset.info.spec.format(dataset.info.format).shard_clips
    start = number * size
    clips = plan.clips(split, start, min(start + size, dataset.info.splits[split].planned))
    return {clip.id: clip for clip in clips}


def _write_clip(dataset: FinishedDataset, clip: Arrays, planned: PlannedClip | None, folder: Path) -> None:
    """Write <id>.wav (float32), <id>.csv and, if the planned clip is known, <id>.mid, except files that exist."""
    files: dict[str, Callable[[], bytes]] = {
        ".wav": lambda: _sound_file(dataset.sound(clip["data"]), "WAV", "FLOAT"),
        ".csv": lambda: curves_csv(dataset, clip),
    }
    if planned is not None:
        files[".mid"] = lambda: midi_file(planned, dataset)
    for suffix, content in files.items():
        if not (path := folder / f"{_id(clip)}{suffix}").is_file():
            write_bytes(path, content())


def curves_csv(dataset: FinishedDataset, clip: Arrays) -> bytes:
    """Return the controls of a clip as a curve file: CSV in UTF-8 with one row per frame.

    The first column is the time in seconds with six decimals; the others are the controls in the order of the record.

    Args:
        dataset: the dataset of the clip.
        clip: arrays of its record by feature; `velocity` tells whether a frame sounds.
    """
    controls = [CONTROLS[feature.name] for feature in dataset.features if feature.name in CONTROLS]
    names = dataset.info.spec.instrument_names
    frames = {control.name: np.atleast_2d(clip[control.name]) for control in controls}
    sounding = clip["velocity"] > 0
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time", *frames])
    for i in range(len(sounding)):
        values = [c.format(c.from_frame(frames[c.name][:, i], bool(sounding[i]), names)) for c in controls]
        writer.writerow([f"{i * dataset.info.hop / SAMPLE_RATE:.6f}", *values])
    return text.getvalue().encode()


def midi_file(clip: PlannedClip, dataset: FinishedDataset) -> bytes:
    """Return the notes of a clip as a MIDI file with one track, in which one tick is one sample at 24 kHz.

    The program is that of the clip's instrument. Expression within notes is not written.
    """
    import mido

    from pipeline.midi.writing import midi_bytes

    instrument = dataset.info.spec.instruments[clip.instrument]
    name = mido.MetaMessage("track_name", name=instrument.name)
    head = [name, mido.Message("program_change", program=instrument.program)]
    return midi_bytes(head, clip.notes.tolist(), TICKS, 1)


def card(dataset: FinishedDataset, kind: str) -> str:
    """Return the dataset card (README.md), with the metadata that Hugging Face reads at its head.

    Args:
        dataset: the dataset.
        kind: `parquet` or `wav`, which decides the described files.
    """
    info = dataset.info
    counts = {split: info.splits[split].clips for split in SPLITS if info.splits[split].clips}
    length = f"{info.clip_samples / SAMPLE_RATE:g} s at {SAMPLE_RATE} Hz"
    of_sound = info.format == "audio"
    files = ["configs:", "- config_name: default", "  data_files:"]
    for split in counts:
        files += [f"  - split: {'validation' if split == 'valid' else split}", f"    path: data/{split}-*.parquet"]
    features = [
        ("audio" if f.name == "data" and of_sound else f.name, f.dtype, " × ".join(map(str, f.shape)))
        for f in dataset.features
    ]
    lines = [
        "---",
        f"pretty_name: {json.dumps(f'{info.spec.name} ({info.label})')}",
        "license: other",
        "tags: [audio, music, control-curves]",
        *(files if kind == "parquet" else ()),
        "---",
        "",
        f"# {info.spec.name}, {info.label}",
        "",
        f"{sum(counts.values())} clips of {length}, one note at a time, with curves of their controls.",
        f"Instruments: {', '.join(info.spec.instrument_names)}.",
        "",
        USE[kind],
        *_table("| split | clips |", "|---|---:|", counts.items()),
        *_table("| feature | type | shape |", "|---|---|---|", features),
        "",
        f"Frames are {info.hop} samples apart.",
        *_table("| part | licence |", "|---|---|", sorted(info.licences.items())),
        *_table("| left out | count |", "|---|---:|", sorted(info.rejects.items())),
        "",
        f"Plan {info.plan_digest}, format digest {info.format_digest}.",
        "",
    ]
    if kind == "parquet" and of_sound:
        lines += ["Audio is 24-bit FLAC: within 2^-24 of the stored float32 samples.", ""]
    return "\n".join(lines)


def _table(head: str, rule: str, rows: Iterable[tuple[object, ...]]) -> list[str]:
    return ["", head, rule, *(f"| {' | '.join(map(str, row))} |" for row in rows)]
