"""State of a MIDI channel over time: its program, and whether it plays drums.

Channel 10 plays drums. Other ways to select drums are

- Roland GS: system exclusive "use for rhythm part" (address 40 1x 15), which also makes channel 10 melodic;
- Yamaha XG: bank select MSB 127 or 126 with a program change, or system exclusive "part mode" (address 08 nn 07);
  an XG channel 10 with another MSB is melodic;
- General MIDI 2: bank select MSB 120 with a program change, and MSB 121 for melodic.

GS uses bank select for variations of melodic sounds, so the rules on MSBs do not apply after a GS reset. Resets restore
drum channels and banks. They keep programs, because files place them beside their program changes in any order.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from data_specs.arrays import Int64

DRUM_CHANNEL = 9
DRUM_BANKS, MELODIC_BANK = (120, 126, 127), 121
BANK_MSB = 0  # controller
ALL_OFF = frozenset((120, 123, 124, 125, 126, 127))  # controllers that end all notes

PROGRAM, BANK, RHYTHM, RESET = "program", "bank", "rhythm", "reset"


class Change(NamedTuple):
    """A change of channel state.

    Attributes:
        kind: PROGRAM, BANK, RHYTHM or RESET.
        channel: 0..15, or -1 for all channels.
        value: of PROGRAM the program, of BANK the bank select MSB, of RHYTHM 1 for drums and 0 for none, of RESET the
            mode after it: gm, gs or xg.
    """

    kind: str
    channel: int
    value: int | str


def exclusive_changes(data: bytes) -> list[Change]:
    """Return the changes of channel state by a system exclusive event, at most one; an empty list for most events.

    Args:
        data: bytes of the event after the status F0 and the length.
    """
    if data[:1] == b"\x41" and data[2:4] == b"\x42\x12" and len(data) >= 9:  # Roland, GS, data set
        address, values = data[4:7], data[7:].rstrip(b"\xf7")[:-1]  # without the checksum
        if address in (b"\x40\x00\x7f", b"\x00\x00\x7f"):
            return [Change(RESET, -1, "gs")]
        at = 0x15 - address[2]
        if address[0] == 0x40 and address[1] >> 4 == 1 and 0 <= at < len(values):
            part = address[1] & 0x0F
            channel = DRUM_CHANNEL if part == 0 else part - (part < 10)
            return [Change(RHYTHM, channel, int(values[at] > 0))]
    elif data[:1] == b"\x43" and data[2:3] == b"\x4c" and len(data) >= 7:  # Yamaha, XG
        address = data[3:6]
        if address in (b"\x00\x00\x7e", b"\x00\x00\x7f"):
            return [Change(RESET, -1, "xg")]
        if address[0] == 8 and address[1] < 16 and address[2] == 7:
            return [Change(RHYTHM, address[1], int(data[6] > 0))]
    elif data[:1] == b"\x7e" and data[2:3] == b"\x09" and data[3:4] in (b"\x01", b"\x03"):
        return [Change(RESET, -1, "gm")]
    return []


def state_timeline(channel: int, changes: Iterable[tuple[int, Change]]) -> tuple[Int64, Int64, Int64]:
    """Return the state of one channel before and after each of n changes.

    Args:
        channel: 0..15.
        changes: (position in the time order of the file, change of this channel), sorted by position.

    Returns:
        Three arrays int64 [n + 1]: positions, and program and drum flag (0 or 1) from each position on. The first
        position is -1, before all changes.
    """
    program, bank, mode = 0, None, ""
    rhythm = drums = channel == DRUM_CHANNEL
    rows: list[tuple[int, int, bool]] = [(-1, program, drums)]
    for position, (kind, _, value) in changes:
        if kind == BANK:
            bank = value
        elif kind == RHYTHM:
            rhythm = drums = bool(value)
        elif kind == RESET:
            bank, mode = None, str(value)
            rhythm = drums = channel == DRUM_CHANNEL
        else:
            program, drums = int(value), rhythm
            if mode != "gs" and bank is not None:
                if bank in DRUM_BANKS:
                    drums = True
                elif bank == MELODIC_BANK or (mode == "xg" and channel == DRUM_CHANNEL):
                    drums = False
        rows.append((position, program, drums))
    positions, programs, flags = zip(*rows, strict=True)
    return np.array(positions, np.int64), np.array(programs, np.int64), np.array(flags, np.int64)
