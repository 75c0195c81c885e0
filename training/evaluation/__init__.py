"""Evaluation: distance of generated to real audio (FAD), and adherence to controls."""
