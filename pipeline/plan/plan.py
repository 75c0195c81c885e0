"""The plan: every clip a dataset may have, in one order per split.

Formats take prefixes of it. A plan is a folder of `train.parquet`, `valid.parquet` (one row per clip: origin and notes
of its window) and `plan.json`, which is written last. The clip at position p is played by instrument p mod (number of
instruments), so instruments have equal shares in every prefix.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_specs.controls.automation import Automation
from data_specs.errors import UserError
from data_specs.spec import SPLITS, ClipSpec, ExpressionSpec, Instrument, ModulationSpec, Spec
from data_specs.strict import parse_model
from pipeline.melody.expression import automate, draw_expression, separate_repeats
from pipeline.melody.modulation import modulation, with_modulation
from pipeline.melody.transposition import fold_into_preset, transpose
from pipeline.melody.windows import PITCH, VELOCITY, Notes

PLAN_VERSION = 1
SCHEMA = pa.schema(
    [
        ("digest", pa.string()),
        ("source", pa.string()),
        ("track", pa.int32()),
        ("start_tick", pa.int64()),
        ("key_shift", pa.int32()),
        ("fingerprint", pa.uint64()),
        ("notes", pa.list_(pa.int32())),
    ]
)
RECORDED = (pa.field("label", pa.string()), pa.field("group", pa.string()))  # further columns of recordings


def schema_of(spec: Spec) -> pa.Schema:
    """Return the columns of a plan's tables."""
    return pa.schema([*SCHEMA, *RECORDED]) if spec.source.audio else SCHEMA


@dataclass(frozen=True)
class PlannedClip:
    """One performance, shared by all formats.

    `notes` is int32 [n, 4]: onset, offset (samples at 24 kHz, multiples of 64), pitch, velocity as played.
    `instrument` is an index into the spec's instruments; `automation` is the expression inside notes, if the spec asks
    for any, with an instrument for each note. `unplayable` counts the notes that their preset cannot play. A clip of a
    recording has no notes; `event` is the offset and length of its audio in the store of its file.
    """

    id: str
    notes: Notes
    instrument: int
    origin: dict[str, Any]
    automation: Automation | None = None
    unplayable: int = 0
    event: tuple[int, int] | None = None

    def record(self) -> dict[str, Any]:
        """Return the columns of clips.parquet that the plan decides."""
        return {"id": self.id, **self.origin}


@dataclass(frozen=True)
class Plan:
    """A finished plan in the folder `path`. Small enough to pickle to workers; rows are read on demand.

    `playable` is what each instrument's preset plays, bool [instruments, 128, 128] by pitch and velocity; None if the
    presets are not known. Notes of the planned clips are moved by octaves to pitches that their preset plays.
    """

    path: Path
    digest: str
    counts: dict[str, int]  # planned clips of each split
    rejects: dict[str, Any]  # of the index and of the plan, Rejects.to_json
    sources: int  # songs with at least one candidate window
    seed: int
    clip: ClipSpec
    instruments: tuple[Instrument, ...]
    modulation: ModulationSpec
    expression: ExpressionSpec | None
    recorded: bool = False  # whether its clips are recordings
    playable: NDArray[np.bool_] | None = field(default=None, compare=False)

    @classmethod
    def open(cls, path: Path) -> "Plan":
        """Open the plan in the folder `path`.

        Raises:
            UserError: it is missing, unreadable or of another version.
        """
        try:
            about = json.loads((path / "plan.json").read_text(encoding="utf-8"))
            if about["version"] != PLAN_VERSION:
                raise UserError(
                    f"{path} must be a plan of version {PLAN_VERSION}, got {about['version']}; "
                    "delete that folder and repeat the command that made it"
                )
            expression = about["spec"].get("expression")
            return cls(
                path=path,
                digest=about["digest"],
                counts={split: int(about["clips"][split]) for split in SPLITS},
                rejects=about["rejects"],
                sources=about["sources"],
                seed=about["spec"]["seed"],
                clip=ClipSpec.model_validate(about["spec"]["clip"]),
                instruments=tuple(Instrument.model_validate(value) for value in about["spec"]["instruments"]),
                modulation=ModulationSpec.model_validate(about["spec"].get("modulation", {})),
                expression=expression and parse_model(ExpressionSpec, expression, "plan.json"),
                recorded="recordings" in about["spec"],
            )
        except FileNotFoundError as error:
            raise UserError(f"{path} holds no finished plan; repeat the command that makes it") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}/plan.json cannot be read ({error!r}); delete that folder and repeat") from error

    def clips(self, split: str, start: int, stop: int) -> list[PlannedClip]:
        """Return the clips at positions `start` to `stop` (exclusive) of `split`.

        Raises:
            IndexError: the plan has fewer.
            UserError: the file is damaged.
        """
        if not 0 <= start <= stop <= self.counts[split]:
            raise IndexError(f"{split} has {self.counts[split]} planned clips, asked for {start} to {stop}")
        if start == stop:
            return []
        return [self._clip(start + i, row) for i, row in enumerate(self._rows(split, start, stop))]

    def _rows(self, split: str, start: int, stop: int) -> Iterator[dict[str, Any]]:
        path = self.path / f"{split}.parquet"
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                group = file.metadata.row_group(0).num_rows
                first, last = start // group, (stop - 1) // group
                table = file.read_row_groups(range(first, last + 1), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path} is missing or damaged ({error}); delete {self.path} and repeat") from error
        table = table.slice(start - first * group, stop - start).combine_chunks()
        flat = table["notes"].combine_chunks().flatten().to_numpy()
        bounds = np.concatenate([[0], np.cumsum(np.asarray(pa.compute.list_value_length(table["notes"])))])
        for i, row in enumerate(table.drop(["notes"]).to_pylist()):
            yield row | {"notes": flat[bounds[i] : bounds[i + 1]]}

    def _recorded_clip(self, row: dict[str, Any]) -> PlannedClip:
        offset, length = row["notes"][:2].tolist()
        label = row["label"]
        names = [one.name for one in self.instruments]
        identity = clip_id(row["digest"], row["track"], row["start_tick"], row["key_shift"], label)
        origin = {
            "source": row["source"],
            "source_digest": row["digest"],
            "group": row["group"],
            "instrument": label,
            "start_s": row["start_tick"] / self.clip.sample_rate,
            "seconds": length / self.clip.sample_rate,
        }
        no_notes = np.zeros((0, 4), np.int32)
        return PlannedClip(identity, no_notes, names.index(label), origin, event=(offset, length))

    def _clip(self, position: int, row: dict[str, Any]) -> PlannedClip:
        if self.recorded:
            return self._recorded_clip(row)
        # promise: instruments-equal-shares-prefix
        instrument = position % len(self.instruments)
        name = self.instruments[instrument].name
        identity = clip_id(row["digest"], row["track"], row["start_tick"], row["key_shift"], name)
        notes, octave, folded = transpose(row["notes"].reshape(-1, 4), row["key_shift"], self.clip)
        if self.playable is not None:
            notes, moved, more = fold_into_preset(notes, self._playable_pitches(instrument))
            octave, folded = octave + moved, folded + more
        origin = {
            "source": row["source"],
            "source_digest": row["digest"],
            "track": row["track"],
            "start_tick": row["start_tick"],
            "instrument": name,
            "key_shift": row["key_shift"],
            "octave_shift": octave,
            "folded": folded,
        }
        fingerprint = f"{row['fingerprint']:016x}"
        if self.expression is None:
            shape = modulation(self.modulation, self.seed, identity)
            origin |= {"modulation_hz": shape.hz, "modulation_phase": shape.phase}
            origin |= {"notes": len(notes), "fingerprint": fingerprint}
            notes = with_modulation(notes, shape, self.clip.sample_rate)
            return PlannedClip(identity, notes, instrument, origin, None, self._unplayable(notes, instrument))
        notes = separate_repeats(notes, self.clip)
        players = len(self.instruments)
        drawn = draw_expression(self.expression, self.seed, identity, notes, instrument, players, self.clip)
        struck, automation = automate(self.expression, drawn, notes, instrument, self.instruments, self.clip)
        origin |= {"expression": json.dumps(drawn), "notes": len(notes), "fingerprint": fingerprint}
        unplayable = self._unplayable(struck, automation.instruments)
        return PlannedClip(identity, struck, instrument, origin, automation, unplayable)

    def _playable_pitches(self, instrument: int) -> NDArray[np.bool_]:
        """Return which pitches of the clips' range play at any velocity, bool [128], on all instruments of a clip."""
        assert self.playable is not None
        relay = self.expression is not None and self.expression.relay.share > 0
        presets = self.playable if relay else self.playable[instrument : instrument + 1]
        pitches: NDArray[np.bool_] = np.asarray(presets.any(axis=2).all(axis=0))
        pitches[: self.clip.lowest_pitch] = pitches[self.clip.highest_pitch + 1 :] = False
        return pitches

    def _unplayable(self, notes: Notes, instrument: int | NDArray[np.int64]) -> int:
        return 0 if self.playable is None else count_unplayable(self.playable, notes, instrument)


def count_unplayable(playable: NDArray[np.bool_], notes: Notes, instrument: int | NDArray[np.int64]) -> int:
    """Count the notes [n, 4] that the preset of their instrument, one or [n], cannot play at their velocity.

    `playable` is bool [instruments, 128, 128] by pitch and velocity.
    """
    return int((~playable[instrument, notes[:, PITCH], notes[:, VELOCITY]]).sum())


def clip_id(digest: str, track: int, start_tick: int, key_shift: int, instrument: str) -> str:
    """Return 16 hexadecimal digits: blake2b of source digest, track, start tick, key shift and instrument name."""
    # promise: id-hangs-source-track
    return blake2b(f"{digest}/{track}/{start_tick}/{key_shift}/{instrument}".encode(), digest_size=8).hexdigest()
