"""Melodies of songs, their windows, and the transposition, modulation and expression of a window in a clip."""
