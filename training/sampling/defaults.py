"""Defaults of sampling, in a module that does not import torch, for command lines."""

from typing import Final

DEFAULT_GUIDANCE = 2.0  # measured: docs/results/guidance.md
DEFAULT_EDM_SAMPLER: Final = "ipndm"  # measured: docs/results/samplers.md
DEFAULT_EDM_STEPS = 18
