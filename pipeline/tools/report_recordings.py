"""Content of the report on a dataset of recordings: measured controls and labels instead of notes."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from data_specs.controls import CONTROLS, INSTRUMENTS, PITCH
from data_specs.controls.measured import CENTROID_SPAN, QUIETEST_DB
from data_specs.controls.pitch import PITCH_ORIGIN, PITCH_SPAN
from data_specs.viz.figures import INSTRUMENT_COLOURS
from data_specs.viz.page import Markup
from data_specs.viz.page.charts import Bin, histogram, ranges
from pipeline.tools.report_data import FinishedDataset

MOST_CLIPS = 2000  # whose frames are counted
BINS = 20
CENTROID_HZ = (100, 140, 200, 280, 400, 560, 800, 1100, 1600, 2200, 3200, 4500, 6400, 9000, 12_000)
LENGTHS_S = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 15.0, 30.0)


def recorded_histograms(dataset: FinishedDataset) -> list[Markup]:
    """Return histograms of labels, lengths, levels, and the controls at the frames with sound."""
    rows = dataset.table
    labels = Counter(rows.get("instrument", []))
    named = [
        Bin(labels[name], name, name, INSTRUMENT_COLOURS[k % len(INSTRUMENT_COLOURS)])
        for k, name in enumerate(dataset.info.spec.instrument_names)
    ]
    levels = np.asarray(rows.get("level_dbfs", []), float)
    return [
        histogram("Label", "clips", named),
        ranges("Length", "seconds of sound, of clips", rows.get("seconds", []), list(LENGTHS_S), 2),
        ranges("Level", "dBFS, of clips", levels, np.arange(-70.0, 1.0, 5.0).tolist(), 4),
        *(_control(name, values) for name, values in _frames(dataset).items()),
    ]


def recorded_tiles(dataset: FinishedDataset) -> list[tuple[str, str]]:
    """Return figures and what they count."""
    rows = dataset.table
    seconds = float(np.sum(rows.get("seconds", [])))
    return [
        (f"{dataset.clips:,}", "clips"),
        (f"{seconds / 60:,.1f} min", "of sound without padding"),
        (f"{len(set(rows.get('source_digest', []))):,}", "files"),
        (f"{len(set(rows.get('group', []))):,}", "groups"),
    ]


def _frames(dataset: FinishedDataset) -> dict[str, NDArray[np.float32]]:
    """Values of each measured control at frames where it is defined, of the first clips."""
    names = [feature.name for feature in dataset.features if feature.name in CONTROLS and feature.name != INSTRUMENTS]
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    shards = [shard for split in dataset.info.splits.values() for shard in split.shards]
    for arrays in islice((arrays for shard in shards for arrays in dataset.records(shard)), MOST_CLIPS):
        for name in names:
            values = arrays[name]
            found[name].append(values[values > 0])
    return {name: np.concatenate([np.zeros(0, np.float32), *values]) for name, values in found.items()}


def _control(name: str, values: NDArray[np.float32]) -> Markup:
    scaled, unit, edges = _in_units(name, values)
    return ranges(name.capitalize(), f"{unit}, of frames", scaled, edges, 4)


def _in_units(name: str, values: NDArray[np.float32]) -> tuple[NDArray[np.floating], str, Sequence[float]]:
    if name == PITCH:
        return values * PITCH_SPAN + PITCH_ORIGIN, "MIDI note number", np.arange(24.0, 109.0, 4.0).tolist()
    if name == "loudness":
        return (values - 1) * QUIETEST_DB, "dB, A-weighted", np.arange(-80.0, 1.0, 5.0).tolist()
    if name == "centroid":
        return 20 * 2 ** (values * CENTROID_SPAN / 12), "Hz", CENTROID_HZ
    return values, CONTROLS[name].unit, np.linspace(0, 1, BINS + 1).tolist()
