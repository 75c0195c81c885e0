"""Writing of notes as a MIDI file."""

import io
from collections.abc import Iterable, Sequence

import mido


def midi_bytes(
    head: Iterable[mido.Message | mido.MetaMessage], notes: Iterable[Sequence[int]], ticks_per_quarter: int, form: int
) -> bytes:
    """Return the bytes of a MIDI file of one track, whose notes are on channel 1.

    Args:
        head: messages before the notes, with delta times of 0.
        notes: (onset, offset, pitch, velocity), times in ticks from the start of the file, in any order.
        ticks_per_quarter: ticks per quarter note.
        form: format of the file, 0 or 1.
    """
    events = []
    for onset, offset, pitch, velocity in notes:
        events += [(onset, "note_on", pitch, velocity), (offset, "note_off", pitch, 0)]
    track = mido.MidiTrack(head)
    now = 0
    for tick, kind, pitch, velocity in sorted(events):  # at one tick note_off comes first
        track.append(mido.Message(kind, note=pitch, velocity=velocity, time=tick - now))
        now = tick
    file, content = mido.MidiFile(type=form, ticks_per_beat=ticks_per_quarter), io.BytesIO()
    file.tracks.append(track)
    file.save(file=content)
    return content.getvalue()
