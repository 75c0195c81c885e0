"""Embedders for the Frechet audio distance (FAD)."""
