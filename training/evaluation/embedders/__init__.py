"""Embedders of the Frechet audio distance."""
