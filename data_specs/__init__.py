"""The vocabulary that dataset pipeline and trainer share: specs, records, representations, controls."""

__version__ = "0.2.0"  # grows with every change that moves the last bits of stored arrays
