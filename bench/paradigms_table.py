"""Tables of the comparison of paradigms, the published ones beside them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_specs.io.files import write_bytes
from training.evaluation.paper_results import SETTING_41, SETTING_42, TABLE_41, TABLE_42
from training.evaluation.tables import Column, markdown

EMBEDDERS = ("pvt-net", "musicnn-msd", "musicnn-mtt")


def _digits(count: int) -> Any:
    return lambda x: f"{x:.{count}f}"


COLUMNS = (
    Column("row", "run"),
    Column("parameters", "parameters", lambda x: f"{x / 1e6:.2f} M"),
    Column("core-seconds", "core_seconds", _digits(0)),
    Column("steps", "steps"),
    Column("clips seen", "clips"),
    Column("sampler steps", "choice.steps"),
    Column("guidance", "choice.guidance"),
    *(Column(f"FAD {name}", f"fad.{name}.train.value", _digits(2)) for name in EMBEDDERS),
    *(Column(f"real against real {name}", f"fad.{name}.real.value", _digits(2)) for name in EMBEDDERS),
    Column("N", "reported"),
    Column("chroma ↑", "adherence.chroma", _digits(3)),
    Column("crepe chroma ↑", "judged.crepe_chroma", _digits(3)),
    Column("onsets ↑", "adherence.onsets", _digits(3)),
    Column("velocity rank ↑", "adherence.velocity_rank", _digits(3)),
    Column("instrument ↑", "adherence.instrument", _digits(3)),
    Column("sampling, core-seconds a clip", "sampling_seconds_a_clip", _digits(2)),
    Column("memory in training, MB", "peak_memory_mb", _digits(0)),
)


def write(out: Path, done: Mapping[str, Any], names: Sequence[str]) -> str:
    """Write paradigms.md into `out` from the finished rows; returns the Markdown."""
    rows = [done[f"{name}: row"] for name in names if f"{name}: row" in done]
    missing = [name for name in names if f"{name}: row" not in done]
    text = "# Paradigms and formats at equal core-seconds\n\n" + markdown(rows, COLUMNS)
    if missing:
        text += f"\nNot scored: {', '.join(missing)}.\n"
    for title, published in ((SETTING_41, TABLE_41), (SETTING_42, TABLE_42)):
        columns = [Column("row", "run"), Column("framework", "paradigm"), Column("data", "format")]
        columns += [
            Column("parameters", "parameters", lambda x: f"{x / 1e6:.1f} M"),
            Column("FAD", "fad.vggish.train.value"),
        ]
        text += f"\n## Published, {title}\n\n" + markdown(published, columns)
    write_bytes(out / "paradigms.md", text.encode())
    return text
