"""Sampling of audio that follows control curves."""
