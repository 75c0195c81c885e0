"""The plan: all clips that a dataset may have, in one order per split.

A format takes the first clips of each split. A plan is a folder of `train.parquet`, `valid.parquet` (one row per clip:
origin and notes of its window) and `plan.json`, which is written last. With k instruments, the clip at position p of
its split is played by instrument p mod k, so instruments have equal shares however many clips are taken. Expression may
change the instrument within the clip. A clip of a recording has the instrument that its label names instead.
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

from data_specs.arrays import Bool, Int64
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
    """Return the columns of train.parquet and valid.parquet, two more (label and group) for a spec of recordings."""
    return pa.schema([*SCHEMA, *RECORDED]) if spec.source.audio else SCHEMA


@dataclass(frozen=True)
class PlannedClip:
    """One performance, the same in all formats.

    Attributes:
        id: 16 hexadecimal digits.
        notes: int32 [n, 4]: onset and offset in samples at 24 kHz, multiples of 64; pitch and velocity as played. A
            clip of a recording has none (n = 0).
        instrument: index into the spec's instruments, of the first note if they change within the clip.
        origin: columns of clips.parquet that describe where the clip is from.
        automation: expression inside notes, with an instrument for each note; None if the spec has no expression.
        unplayable: number of notes that their preset cannot play; 0 also if presets were not measured.
        event: offset and length in samples of a recorded clip in the stored audio of its file, else None.
    """

    id: str
    notes: Notes
    instrument: int
    origin: dict[str, Any]
    automation: Automation | None = None
    unplayable: int = 0
    event: tuple[int, int] | None = None

    def record(self) -> dict[str, Any]:
        """Return the columns of the clip's row in clips.parquet that the plan decides: id and origin."""
        return {"id": self.id, **self.origin}


@dataclass(frozen=True)
class Plan:
    """A finished plan in the folder `path`. It is sent to workers, which read the rows that they need.

    `playable` tells what each instrument's preset plays, bool [instruments, 128, 128] by pitch and velocity, or is None
    where presets were not measured. If given, `clips` moves notes by octaves to pitches that their preset plays; notes
    without such a pitch stay.
    """

    path: Path
    digest: str
    counts: dict[str, int]  # number of planned clips by split
    rejects: dict[str, Any]  # rejects of the index and of the plan, as of Rejects.to_json
    sources: int  # number of songs with at least one candidate window
    seed: int
    clip: ClipSpec
    instruments: tuple[Instrument, ...]
    modulation: ModulationSpec
    expression: ExpressionSpec | None
    recorded: bool = False  # whether the clips are from recordings
    playable: Bool | None = field(default=None, compare=False)

    @classmethod
    def open(cls, path: Path) -> "Plan":
        """Open the plan in the folder `path`, with `playable` None. Only plan.json is read.

        Raises:
            UserError: the plan is unfinished, unreadable or of another version.
        """
        try:
            about = json.loads((path / "plan.json").read_text(encoding="utf-8"))
            if about["version"] != PLAN_VERSION:
                raise UserError(
                    f"{path} must be a plan of version {PLAN_VERSION}, got {about['version']}; "
                    "delete that folder and run the same command again"
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
            raise UserError(f"{path} holds no finished plan; run make dataset to make it") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}/plan.json cannot be read ({error!r}); delete {path} and run the same command again"
            ) from error

    def clips(self, split: str, start: int, stop: int) -> list[PlannedClip]:
        """Return the clips at positions `start` to `stop` (exclusive, from 0) of `split`, read from its table.

        Raises:
            IndexError: the range is not within the planned clips of the split.
            UserError: the table of the split is missing or damaged.
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
            raise UserError(f"{path} is missing or damaged ({error}); delete {self.path} and run again") from error
        table = table.slice(start - first * group, stop - start).combine_chunks()
        flat = table["notes"].combine_chunks().flatten().to_numpy()
        bounds = np.concatenate([[0], np.cumsum(np.asarray(pa.compute.list_value_length(table["notes"])))])
        for i, row in enumerate(table.drop(["notes"]).to_pylist()):
            yield row | {"notes": flat[bounds[i] : bounds[i + 1]]}

    def _recorded_clip(self, row: dict[str, Any]) -> PlannedClip:
        offset, length = row["notes"][:2].tolist()
        label = row["label"]
        instrument = [one.name for one in self.instruments].index(label)
        identity = clip_id(row["digest"], row["track"], row["start_tick"], row["key_shift"], label)
        origin = {
            "source": row["source"],
            "source_digest": row["digest"],
            "group": row["group"],
            "instrument": label,
            "start_s": row["start_tick"] / self.clip.sample_rate,
            "seconds": length / self.clip.sample_rate,
        }
        return PlannedClip(identity, np.zeros((0, 4), np.int32), instrument, origin, event=(offset, length))

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
        automation = None
        players: int | Int64 = instrument
        if self.expression is None:
            shape = modulation(self.modulation, self.seed, identity)
            origin |= {"modulation_hz": shape.hz, "modulation_phase": shape.phase}
            notes = with_modulation(notes, shape, self.clip.sample_rate)
        else:
            notes = separate_repeats(notes, self.clip)
            count = len(self.instruments)
            drawn = draw_expression(self.expression, self.seed, identity, notes, instrument, count, self.clip)
            notes, automation = automate(self.expression, drawn, notes, instrument, self.instruments, self.clip)
            origin["expression"] = json.dumps(drawn)
            players = automation.instruments
        origin |= {"notes": len(notes), "fingerprint": f"{row['fingerprint']:016x}"}
        unplayable = 0 if self.playable is None else count_unplayable(self.playable, notes, players)
        return PlannedClip(identity, notes, instrument, origin, automation, unplayable)

    def _playable_pitches(self, instrument: int) -> Bool:
        """Return which pitches a clip that starts on `instrument` may use, bool [128].

        They are in the clips' range and play at one velocity or more. If the spec lets instruments change within clips,
        they do so on all instruments.
        """
        assert self.playable is not None
        relay = self.expression is not None and self.expression.relay.share > 0
        presets = self.playable if relay else self.playable[instrument : instrument + 1]
        pitches: Bool = np.asarray(presets.any(axis=2).all(axis=0))
        pitches[: self.clip.lowest_pitch] = pitches[self.clip.highest_pitch + 1 :] = False
        return pitches


def count_unplayable(playable: Bool, notes: Notes, instrument: int | Int64) -> int:
    """Return the number of notes that their preset cannot play at their velocity.

    Args:
        playable: bool [instruments, 128, 128] by pitch and velocity.
        notes: [n, 4].
        instrument: index of the instrument of all notes, or one for each note [n].
    """
    return int((~playable[instrument, notes[:, PITCH], notes[:, VELOCITY]]).sum())


def clip_id(digest: str, track: int, start_tick: int, key_shift: int, instrument: str) -> str:
    """Return the id of a clip as 16 hexadecimal digits: a BLAKE2b hash of the arguments.

    Args:
        digest: content digest of the song.
        track, start_tick: track and tick of the first note of the window.
        instrument: name of the instrument.
    """
    # promise: id-hangs-source-track
    return blake2b(f"{digest}/{track}/{start_tick}/{key_shift}/{instrument}".encode(), digest_size=8).hexdigest()
