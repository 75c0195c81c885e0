import numpy as np

from data_specs.analysis.pitch import HOP, track


def test_rendered_notes_are_heard_as_played(clips):
    """At least 97 % of frames away from changes, octaves included."""
    found = track(clips.audio)
    samples = np.arange(found.midi.shape[1]) * HOP
    right = total = 0
    for clip, notes in enumerate(clips.notes):
        for onset, offset, pitch, _ in notes:
            inside = (samples > onset + 1200) & (samples < offset - 600)
            heard = found.voiced[clip].numpy() & (np.abs(found.midi[clip].numpy() - pitch) < 0.5)
            right, total = right + (heard & inside).sum(), total + inside.sum()
    assert total > 5000
    assert right / total > 0.97
