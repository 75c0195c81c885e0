"""Rendering in a child process, so that a clip at which the synthesizer crashes can be found and rejected.

The child runs the same code as `Renderer`, so the audio has the same bits.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from data_specs.arrays import AnyInt, Float32
from data_specs.controls.automation import Automation
from data_specs.spec import Instrument, Rendering
from pipeline.render.renderer import Renderer
from pipeline.sandbox import Sandbox

TARGET = "pipeline.render.isolated_renderer:render_packed"
SECONDS = 60  # limit of a call: a clip takes 10 ms, loading a large SoundFont a few seconds
MEMORY_MB = 4_000


class IsolatedRenderer(Sandbox):
    """Renderer in a child process. A clip at which it times out, exhausts memory or crashes raises Rejected."""

    def __init__(self, soundfont: Path, rendering: Rendering, sample_rate: int) -> None:
        parameters = {"soundfont": str(soundfont), "rendering": rendering.model_dump_json(), "sample_rate": sample_rate}
        super().__init__(TARGET, parameters, SECONDS, MEMORY_MB)

    def render(self, notes: AnyInt, instrument: Instrument, samples: int) -> Float32:
        """Return the audio of one clip as Renderer.render does, float32 [samples], read-only.

        Raises:
            Rejected: the child had to be ended twice (`timeout`, `memory` or `crash`), or Renderer.render raised an
                error (`crash`).
            UserError: the child process cannot be started.
        """
        return self._render(notes, [instrument], samples, None)

    def render_expressive(
        self, notes: AnyInt, instruments: Sequence[Instrument], samples: int, automation: Automation
    ) -> Float32:
        """Return the audio of one clip as Renderer.render_expressive does, float32 [samples], read-only.

        Raises:
            Rejected: the child had to be ended twice (`timeout`, `memory` or `crash`), or Renderer.render_expressive
                raised an error (`crash`).
            UserError: the child process cannot be started.
        """
        return self._render(notes, instruments, samples, automation)

    def _render(
        self, notes: AnyInt, instruments: Sequence[Instrument], samples: int, automation: Automation | None
    ) -> Float32:
        call = {
            "notes": notes.tolist(),
            "instruments": [instrument.model_dump(mode="json") for instrument in instruments],
            "samples": samples,
            "automation": automation and {name: values.tolist() for name, values in vars(automation).items()},
        }
        return np.frombuffer(self.call(json.dumps(call).encode()), np.float32)


def render_packed(content: bytes, soundfont: str, rendering: str, sample_rate: int) -> bytes:
    """Return the bytes of the float32 samples of one clip. It runs in the child process, which loads a SoundFont once.

    Args:
        content: JSON object of notes, instruments, samples and automation (null for Renderer.render).
        soundfont: path of the SoundFont.
        rendering: Rendering as JSON.
        sample_rate: in Hz.
    """
    call = json.loads(content)
    renderer = _renderer(soundfont, rendering, sample_rate)
    notes, samples = np.array(call["notes"], np.int32).reshape(-1, 4), call["samples"]
    instruments = [Instrument.model_validate(values) for values in call["instruments"]]
    if call["automation"] is None:
        return renderer.render(notes, instruments[0], samples).tobytes()
    automation = Automation(**{name: np.array(values) for name, values in call["automation"].items()})
    return renderer.render_expressive(notes, instruments, samples, automation).tobytes()


@cache
def _renderer(soundfont: str, rendering: str, sample_rate: int) -> Renderer:
    return Renderer(Path(soundfont), Rendering.model_validate_json(rendering), sample_rate)
