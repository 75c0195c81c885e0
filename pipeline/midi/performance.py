"""Reading of a song together with its pitch bend and volume, in a child process."""

import json
import struct
from typing import Any

import numpy as np

from data_specs.spec import Limits
from pipeline.midi import reader, smf
from pipeline.midi.controllers import Controllers, apply_controllers
from pipeline.midi.song import Song
from pipeline.sandbox import Sandbox

_LENGTH = struct.Struct("<I")


def read_performance(content: bytes, limits: Limits) -> tuple[Song, list[Controllers]]:
    """Return the song in a MIDI file, read by the tolerant reader, and the controllers of each track of `song.tracks`.

    Times of controllers are in seconds from the beginning of the song.

    Raises:
        Rejected: as by `pipeline.midi.reader.read_song`.
    """
    reader.check_size(content, limits)
    raw = smf.read_notes(content, smf.index_chunks(content), limits)
    song = reader.sounding_song(raw, limits)
    found = []
    for part in np.unique(reader.until_next_edge(raw).part).tolist():
        ticks, bend, volume = np.array(apply_controllers(raw.moves[part])).T
        seconds = raw.clocks[raw.parts[part].clock](ticks.astype(np.int64))
        seconds[0] = -np.inf
        found.append(Controllers(seconds, bend, volume))
    return song, found


def read_packed(content: bytes, limits: dict[str, Any]) -> bytes:
    """Return the result of `read_performance` as bytes: length of the controllers, controllers as JSON, packed song.

    The length is uint32, little-endian. The first time of each track, -infinity, is left out.

    Args:
        limits: the fields of Limits as JSON values.

    Raises:
        Rejected: as by `read_performance`.
    """
    song, controllers = read_performance(content, Limits(**limits))
    steps = json.dumps([[one.seconds[1:].tolist(), one.bend.tolist(), one.volume.tolist()] for one in controllers])
    return _LENGTH.pack(len(steps)) + steps.encode() + song.pack()


def read_performance_sandboxed(content: bytes, limits: Limits) -> tuple[Song, list[Controllers]]:
    """Run `read_performance` in a child process of bounded time and memory and return its result.

    Raises:
        Rejected: as by `read_performance`; `timeout`, `memory` or `crash` if the child had to be ended twice; `crash`
            if it raised another error.
        UserError: the child process cannot be started.
    """
    parameters = {"limits": limits.model_dump()}
    target = f"{__name__}:{read_packed.__name__}"
    with Sandbox(target, parameters, seconds=limits.seconds, memory_mb=limits.memory_mb) as sandbox:
        packed = sandbox.call(content)
    (length,) = _LENGTH.unpack_from(packed)
    steps = json.loads(packed[_LENGTH.size : _LENGTH.size + length])
    controllers = [
        Controllers(np.array([-np.inf, *seconds]), np.array(bend), np.array(volume)) for seconds, bend, volume in steps
    ]
    return Song.unpack(packed[_LENGTH.size + length :]), controllers
