"""Sources and reading of MIDI files. A song is the notes of one file as arrays."""
