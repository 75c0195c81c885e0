"""`make report`: an HTML page on a dataset with counts, histograms, rejects and clips to listen to."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_specs.controls import NOTES
from data_specs.controls.pitch import note_name
from data_specs.dataset import DatasetInfo
from data_specs.io.files import check_output_file, write_bytes
from data_specs.rates import SAMPLE_RATE
from data_specs.spec import SPLITS
from data_specs.viz.page import Markup, document, element, section, table, tiles
from data_specs.viz.page.charts import Bin, binned, histogram, ranges, shares
from data_specs.viz.page.tracks import Sound, card
from pipeline.midi.sources import TUNES
from pipeline.tools.report_data import FinishedDataset, NoteTable, finished_datasets, notes_of
from pipeline.tools.report_recordings import instrument_histogram, recorded_histograms, recorded_tiles

CLIPS = 12  # clips that can be played on the page
PAGE = "report.html"
LENGTHS_S = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
LEVEL_BINS = 16


def report(data: Path, out: Path | None = None, clips: int = CLIPS) -> Path:
    """Write the HTML page and return its path.

    Args:
        data: the parent folder of datasets, or one of them.
        out: path of the page; None for `report.html` in `data`.
        clips: largest number of clips that can be played on the page, taken from train and valid in turn.

    Raises:
        UserError: there is no finished dataset, one is damaged, the codec is another one now, or the page cannot be
            written.
    """
    formats = finished_datasets(data)
    path = check_output_file(out or data / PAGE)
    largest = max(formats, key=lambda dataset: dataset.clips)
    alike = [dataset for dataset in formats if dataset.info.plan_digest == largest.info.plan_digest]
    info = largest.info
    seconds = info.clip_samples / SAMPLE_RATE
    names = ", ".join(info.spec.instrument_names)
    recorded = bool(info.spec.source.audio)
    if recorded:
        figures, about, charts = tiles(recorded_tiles(largest)), "Frames with sound.", recorded_histograms(largest)
        kind = "recordings, each with the curves measured from it"
    else:
        notes = notes_of(largest)
        figures, about, charts = _figures(largest, notes, seconds), _about(notes), _histograms(largest, notes)
        kind = "one note at a time, each with the exact curves of its controls"
    page = document(
        f"Dataset {_source_name(info)}",
        f"{largest.clips:,} clips of {seconds:g} s: {names}; {kind}.",
        [
            figures,
            section("Formats", "The same clips in each representation.", [_formats(formats)]),
            section("Content", about, [element("div", *charts, class_="columns")]),
            section("Rejects", _yield(largest), [_rejects(largest)]),
            section(
                "Listen",
                "Each clip through every format that was built. Click a picture to play from there; the next sound of "
                "the same clip starts at the position of the last one.",
                _cards(alike, clips),
            ),
        ],
    )
    write_bytes(path, page.encode())
    return path


def _source_name(info: DatasetInfo) -> str:
    """Return the last part of the path of the dataset's source; for the shipped tunes, the name of the spec."""
    source = info.spec.source.midi or info.spec.source.audio
    return info.spec.name if source == TUNES else Path(source).name or info.spec.name


def _figures(dataset: FinishedDataset, notes: NoteTable, seconds: float) -> Markup:
    hours = dataset.clips * seconds / 3600
    return tiles(
        [
            (f"{dataset.clips:,}", "clips"),
            (f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:,.1f} min", "of audio"),
            (f"{len(set(dataset.table.get('source_digest', []))):,}", "songs"),
            (f"{len(notes.velocity) / max(1, notes.clips):.1f}", "notes a clip"),
        ]
    )


def _formats(formats: Sequence[FinishedDataset]) -> Markup:
    head = ("format", "shape of a clip", "type", "train", "valid", "shards", "size", "bytes a clip")
    rows = []
    for dataset in formats:
        data, splits = dataset.features[0], dataset.info.splits
        rows.append(
            (
                dataset.info.label,
                " × ".join(map(str, data.shape)),
                data.dtype,
                *(f"{splits[split].clips:,}" for split in SPLITS),
                f"{len(dataset.shards):,}",
                _size(dataset.size),
                _size(dataset.size / max(1, dataset.clips)),
            )
        )
    return table(head, rows, numbers=range(3, len(head)))


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _about(notes: NoteTable) -> str:
    counted = f"{len(notes.velocity):,} notes of {notes.clips:,} clips"
    if notes.exact:
        return f"{counted}."
    return f"{counted}, from the control curves: without the plan of this dataset, octaves are not known."


def _histograms(dataset: FinishedDataset, notes: NoteTable) -> list[Markup]:
    clip = dataset.info.spec.clip
    levels = np.asarray(dataset.table.get("level_dbfs", []), float)
    low, high = (np.floor(levels.min()), np.ceil(levels.max())) if levels.size else (-60.0, 0.0)
    width = max(1.0, np.ceil((high - low) / LEVEL_BINS))  # integer dB
    db = np.arange(np.floor(low / width) * width, high + width + 1e-9, width).tolist()
    return [
        _pitches(notes, clip.lowest_pitch, clip.highest_pitch),
        ranges(
            "Velocity", "of notes, as sent to the synthesizer", notes.velocity, [float(v) for v in range(0, 129, 8)], 4
        ),
        ranges("Note length", "seconds", notes.samples / SAMPLE_RATE, list(LENGTHS_S), 2),
        instrument_histogram(dataset, "Instrument"),
        _shapes(dataset),
        ranges("Level", "dBFS, of clips", levels, db, 4),
    ]


def _shapes(dataset: FinishedDataset) -> Markup:
    """Return a histogram of the modulation frequencies; with expression, of the families of velocity curves instead."""
    if "expression" in dataset.table:
        families = Counter(map(_family, dataset.table["expression"]))
        return histogram("Velocity curve", "clips", [Bin(families[name], name, name) for name in sorted(families)])
    modulation = dataset.info.spec.modulation
    hz = np.geomspace(modulation.lowest_hz, modulation.highest_hz, 19).tolist()
    values = dataset.table.get("modulation_hz", [])
    return ranges("Modulation", "Hz, of the sine that scales velocities", values, hz, 6)


def _family(expression: object) -> str:
    """Return the family of velocity curve in a value of the column `expression` of clips.parquet, or "unknown"."""
    try:
        return str(json.loads(str(expression))["velocity"]["family"])
    except (ValueError, KeyError, TypeError):
        return "unknown"


def _pitches(notes: NoteTable, lowest: int, highest: int) -> Markup:
    if notes.exact:
        bins = [
            Bin(count, note_name(pitch) if pitch % 12 == 0 else "", note_name(pitch))
            for pitch, count in zip(
                range(lowest, highest + 1), binned(notes.pitch, list(range(lowest, highest + 2))), strict=True
            )
        ]
        return histogram("Pitch", "of notes", bins)
    counts = binned(notes.pitch, list(range(13)))
    return histogram("Pitch class", "of notes", [Bin(c, NOTES[k], NOTES[k]) for k, c in enumerate(counts)])


def _yield(dataset: FinishedDataset) -> str:
    plan = dataset.plan()
    planned = sum(split.planned for split in dataset.info.splits.values())
    kept = f"{dataset.clips:,} of {planned:,} planned clips were stored"
    if plan is None:
        return f"{kept}. Files, tracks, windows and clips left out, by reason."
    possible = sum(plan.counts[split] for split in SPLITS)
    sources, left_out = (
        ("files with sound", "Files and events")
        if plan.recorded
        else ("songs with melodies", "Files, tracks, windows and clips")
    )
    return f"{plan.sources:,} {sources} give up to {possible:,} clips; {kept}. {left_out} left out, by reason."


def _rejects(dataset: FinishedDataset) -> Markup:
    found = sorted(dataset.rejects.items(), key=lambda pair: -pair[1]["count"])
    if not found:
        return element("p", "Nothing.")
    # promise: escaped-3
    examples = [(reason, str(entry["examples"][0])) for reason, entry in found if entry["examples"]]
    bars = shares([(reason, entry["count"]) for reason, entry in found])
    listed = table(("reason", "for example"), examples)
    folded = [element("details", element("summary", "An example of each"), listed)] if examples else []
    return element("div", bars, *folded)


def _cards(formats: Sequence[FinishedDataset], clips: int) -> list[Markup]:
    found = []
    for number in range(clips):
        split, index = SPLITS[number % len(SPLITS)], number  # neighbours in the plan have different instruments
        if all(index < dataset.info.splits[split].clips for dataset in formats):
            found.append(_card(formats, split, index))
    return found


def _card(formats: Sequence[FinishedDataset], split: str, index: int) -> Markup:
    records = [dataset.record(split, index) for dataset in formats]
    first, arrays = formats[0], records[0]
    clip_id = arrays["id"].tobytes().decode("ascii", "backslashreplace")
    row = _row(first, clip_id)
    facts = [
        split,
        *([f"{row['notes']} notes"] if "notes" in row else []),
        *([f"{row['seconds']:.2f} s of sound, group {row['group']!s:.20}"] if "group" in row else []),
        *([f"modulated at {row['modulation_hz']:.2g} Hz"] if "modulation_hz" in row else []),
        *([f"velocity: {_family(row['expression'])}"] if "expression" in row else []),
        # promise: escaped-2
        f"from {row.get('source', 'an unknown source')}",
    ]
    sounds = [
        Sound(_sound_name(dataset.info), dataset.sound(record["data"]))
        for dataset, record in zip(formats, records, strict=True)
        if record["id"].tobytes() == arrays["id"].tobytes()
    ]
    title = f"{row.get('instrument', 'clip')} {clip_id[:6]}"
    return card(title, facts, sounds, arrays, first.info.hop, first.info.spec.instrument_names)


def _sound_name(info: DatasetInfo) -> str:
    if info.format != "audio":
        return info.label
    return "recorded" if info.spec.source.audio else "rendered"


def _row(dataset: FinishedDataset, clip_id: str) -> dict[str, object]:
    ids = dataset.table.get("id", [])
    if clip_id not in ids:
        return {}
    position = ids.index(clip_id)
    return {name: values[position] for name, values in dataset.table.items()}
