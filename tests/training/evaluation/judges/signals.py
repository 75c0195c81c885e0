"""Inputs of the reference outputs: a melody of sines, and random weights, both functions of a seed."""

import numpy as np


def melody(rate: int, seconds: float = 4.0) -> np.ndarray:
    """Four decaying notes with three harmonics, float32 [N] at `rate`."""
    time = np.arange(int(rate * seconds)) / rate
    wave = np.zeros(len(time))
    for start, hertz in ((0.2, 220.0), (1.1, 261.63), (2.0, 329.63), (3.0, 440.0)):
        since = time - start
        envelope = np.where(since >= 0, np.exp(-2 * np.maximum(since, 0)) * np.minimum(1, since / 0.005), 0)
        envelope *= since < 0.85
        wave += sum(0.2 / k * envelope * np.sin(2 * np.pi * k * hertz * since) for k in (1, 2, 3))
    return wave.astype(np.float32)


def random_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights by name, in the order of the names; variances are positive, kernels scaled by their inputs."""
    rng = np.random.default_rng(0)
    weights = {}
    for name in sorted(shapes):
        values = rng.standard_normal(shapes[name])
        if name.endswith(("variance", "running_var")):
            values = 0.5 + np.abs(values)
        elif values.ndim > 1:
            values /= np.sqrt(values.size / max(values.shape[0], values.shape[-1]))
        weights[name] = values.astype(np.float32)
    return weights
