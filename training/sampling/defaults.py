"""Defaults of sampling, apart so that command lines show them without importing torch."""

DEFAULT_GUIDANCE = 2.0  # measured: docs/results/guidance.md
