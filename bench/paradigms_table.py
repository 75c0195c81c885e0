"""Tables of the comparison of paradigms, and the published tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_specs.io.files import write_bytes
from training.evaluation.paper_results import SETTING_41, SETTING_42, TABLE_41, TABLE_42
from training.evaluation.tables import Column, markdown

EMBEDDERS = ("pvt-net", "musicnn-msd", "musicnn-mtt")


COLUMNS = (
    Column("row", "run"),
    Column("parameters", "parameters", lambda x: f"{x / 1e6:.2f} M"),
    Column("core-seconds", "core_seconds", "{:.0f}"),
    Column("steps", "steps"),
    Column("clips seen", "clips"),
    Column("sampler steps", "choice.steps"),
    Column("guidance", "choice.guidance"),
    *(Column(f"FAD {name}", f"fad.{name}.train.value", "{:.2f}") for name in EMBEDDERS),
    *(Column(f"real against real {name}", f"fad.{name}.real.value", "{:.2f}") for name in EMBEDDERS),
    Column("N", "reported"),
    Column("chroma ↑", "adherence.chroma", "{:.3f}"),
    Column("crepe chroma ↑", "judged.crepe_chroma", "{:.3f}"),
    Column("onsets ↑", "adherence.onsets", "{:.3f}"),
    Column("velocity rank ↑", "adherence.velocity_rank", "{:.3f}"),
    Column("instrument ↑", "adherence.instrument", "{:.3f}"),
    Column("sampling, core-seconds a clip", "sampling_seconds_a_clip", "{:.2f}"),
    Column("memory in training, MB", "peak_memory_mb", "{:.0f}"),
)


def write(out: Path, done: Mapping[str, Any], names: Sequence[str]) -> str:
    """Write paradigms.md to `out` and return its content: the rows of `names` in `done`, and published tables.

    Names without a row in `done` are listed as not scored.
    """
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
