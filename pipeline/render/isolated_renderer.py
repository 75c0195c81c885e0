"""Playing clips in a child process, for shards that killed their workers: a clip at which the child dies is named.

The child renders with the same code, so what it does play has the same bits.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np

from data_specs.spec import Instrument, Rendering
from pipeline.render.renderer import Renderer
from pipeline.sandbox import Sandbox

TARGET = "pipeline.render.isolated_renderer:play"
SECONDS = 60  # a clip takes a hundredth of one, loading a large SoundFont a few
MEMORY_MB = 4_000


class CarefulRenderer:
    """Like Renderer, but a clip may hang, swell or crash: it is then rejected with that reason."""

    def __init__(self, soundfont: Path, rendering: Rendering, sample_rate: int) -> None:
        parameters = {"soundfont": str(soundfont), "rendering": rendering.model_dump_json(), "sample_rate": sample_rate}
        self._sandbox = Sandbox(TARGET, parameters, SECONDS, MEMORY_MB)

    def render(self, notes: np.ndarray, instrument: Instrument, samples: int) -> np.ndarray:
        """Audio of one clip, float32 [samples], see Renderer.

        Raises:
            Rejected: the child could not play it, twice.
        """
        call = {"notes": notes.tolist(), "instrument": instrument.model_dump(mode="json"), "samples": samples}
        return np.frombuffer(self._sandbox.call(json.dumps(call).encode()), np.float32)

    def close(self) -> None:
        """End the child."""
        self._sandbox.close()


def play(content: bytes, soundfont: str, rendering: str, sample_rate: int) -> bytes:
    """In the child: a call as JSON -> the samples' bytes."""
    call = json.loads(content)
    renderer = _renderer(soundfont, rendering, sample_rate)
    notes = np.array(call["notes"], np.int32).reshape(-1, 4)
    return renderer.render(notes, Instrument.model_validate(call["instrument"]), call["samples"]).tobytes()


@cache
def _renderer(soundfont: str, rendering: str, sample_rate: int) -> Renderer:
    return Renderer(Path(soundfont), Rendering.model_validate_json(rendering), sample_rate)
