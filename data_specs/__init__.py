"""The vocabulary that dataset pipeline and trainer share: specs, records, representations, controls."""

__version__ = "0.2.0"
