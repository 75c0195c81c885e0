"""Analysis of audio: pitch and frame descriptors."""
