"""MIDI files, wherever they lie, to songs: notes as arrays."""
