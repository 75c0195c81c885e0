"""The vocabulary that dataset pipeline and trainer share: specs, records, representations, controls."""
