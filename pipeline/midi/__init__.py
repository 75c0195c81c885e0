"""MIDI files to songs: notes as arrays."""
