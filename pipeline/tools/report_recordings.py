"""Parts of the report on a dataset of recordings, which has measured controls and labels instead of notes."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain, islice

import numpy as np

from data_specs.arrays import AnyFloat, Float32
from data_specs.controls import CONTROLS, INSTRUMENTS, PITCH
from data_specs.controls.measured import CENTROID_SPAN, QUIETEST_DB
from data_specs.controls.pitch import PITCH_ORIGIN, PITCH_SPAN
from data_specs.viz.figures import INSTRUMENT_COLOURS
from data_specs.viz.page import Markup
from data_specs.viz.page.charts import Bin, histogram, ranges
from pipeline.tools.report_data import FinishedDataset

MOST_CLIPS = 2000  # clips whose frames are counted
BINS = 20
CENTROID_HZ = (100, 140, 200, 280, 400, 560, 800, 1100, 1600, 2200, 3200, 4500, 6400, 9000, 12_000)
LENGTHS_S = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 15.0, 30.0)


def recorded_histograms(dataset: FinishedDataset) -> list[Markup]:
    """Return histograms of the labels, lengths and levels of clips, and of each control but the instruments.

    A control is counted at its frames above 0, in the first `MOST_CLIPS` clips.

    Raises:
        UserError: clips.parquet or a shard is missing or damaged.
    """
    rows = dataset.table
    levels = np.asarray(rows.get("level_dbfs", []), float)
    return [
        instrument_histogram(dataset, "Label"),
        ranges("Length", "seconds of sound, of clips", rows.get("seconds", []), list(LENGTHS_S), 2),
        ranges("Level", "dBFS, of clips", levels, np.arange(-70.0, 1.0, 5.0).tolist(), 4),
        *(ranges(name.capitalize(), *_in_units(name, values), 4) for name, values in _frames(dataset).items()),
    ]


def instrument_histogram(dataset: FinishedDataset, title: str) -> Markup:
    """Return a histogram of the number of clips of each instrument, which in recordings is a label."""
    clips = Counter(dataset.table.get("instrument", []))
    bins = [
        Bin(clips[name], name, name, INSTRUMENT_COLOURS[k % len(INSTRUMENT_COLOURS)])
        for k, name in enumerate(dataset.info.spec.instrument_names)
    ]
    return histogram(title, "clips", bins)


def recorded_tiles(dataset: FinishedDataset) -> list[tuple[str, str]]:
    """Return the figures at the head of the report as texts (figure, its meaning): clips, minutes, files and groups."""
    rows = dataset.table
    seconds = float(np.sum(rows.get("seconds", [])))
    return [
        (f"{dataset.clips:,}", "clips"),
        (f"{seconds / 60:,.1f} min", "of sound without padding"),
        (f"{len(set(rows.get('source_digest', []))):,}", "files"),
        (f"{len(set(rows.get('group', []))):,}", "groups"),
    ]


def _frames(dataset: FinishedDataset) -> dict[str, Float32]:
    """Return the values above 0 of each control but the instruments, by name, from the first `MOST_CLIPS` clips."""
    names = [feature.name for feature in dataset.features if feature.name in CONTROLS and feature.name != INSTRUMENTS]
    found: dict[str, list[Float32]] = {name: [] for name in names}
    for arrays in islice(chain.from_iterable(map(dataset.records, dataset.shards)), MOST_CLIPS):
        for name in names:
            values = arrays[name]
            found[name].append(values[values > 0])
    return {name: np.concatenate([np.zeros(0, np.float32), *values]) for name, values in found.items()}


def _in_units(name: str, values: Float32) -> tuple[str, AnyFloat, Sequence[float]]:
    """Return the subtitle, values and bin edges of the histogram of a control, in its physical unit if it has one.

    `values` are those of the stored control, 0..1.
    """
    if name == PITCH:
        pitches = values * PITCH_SPAN + PITCH_ORIGIN
        return "MIDI note number, of frames", pitches, np.arange(24.0, 109.0, 4.0).tolist()
    if name == "loudness":
        return "dB, A-weighted, of frames", (values - 1) * QUIETEST_DB, np.arange(-80.0, 1.0, 5.0).tolist()
    if name == "centroid":
        return "Hz, of frames", 20 * 2 ** (values * CENTROID_SPAN / 12), CENTROID_HZ
    return f"{CONTROLS[name].unit}, of frames", values, np.linspace(0, 1, BINS + 1).tolist()
