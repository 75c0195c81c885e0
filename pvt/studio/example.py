"""The example of the default model: its audio is generated in advance and shipped, for the start of the studio."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from data_specs.arrays import Float32
from pvt.studio.requests import Generation

AUDIO = Path(__file__).parent / "example.flac"
KEY = AUDIO.with_suffix(".json")  # what the audio was generated from


def example_key(digest: str, request: Generation, steps: int) -> dict[str, Any]:
    """Return what determines the audio of a request, as a JSON object.

    Args:
        digest: SHA-256 (hex) of the model's snapshot file.
        request: the request; its `model` and `draft` are left out.
        steps: number of sampler steps, also if the request leaves it to the model.
    """
    return {**request.model_dump(mode="json", exclude={"model", "draft"}), "model": digest, "steps": steps}


def stored_example(digest: str, request: Generation, steps: int) -> Float32 | None:
    """Return the shipped audio of the example, float32 [N], if its key is that of the request; else None.

    Args:
        digest: SHA-256 (hex) of the model's snapshot file.
        request: the request.
        steps: number of sampler steps.
    """
    import soundfile

    if json.loads(KEY.read_bytes()) != example_key(digest, request, steps):
        return None
    return np.asarray(soundfile.read(AUDIO, dtype="float32")[0])
