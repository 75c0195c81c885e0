"""Turn a curve file into a WAV with numpy and onnxruntime alone: `python play_onnx.py model.onnx curves.json out.wav`.

The two graphs are written by `pvt export --to onnx`: `model.onnx` denoises latents, `model.decoder.onnx` maps them to
magnitudes. This script reads the curves (JSON, points in seconds), samples on the noise levels of Karras et al. 2022
(Heun's method; consistency models in few steps) and reconstructs a phase with the fast Griffin-Lim algorithm (Perraudin
et al. 2013).
C channels, R control rows, T frames, W samples of a window, H of a hop.
"""

import argparse
import itertools
import json
import wave
from pathlib import Path

import numpy as np
import onnxruntime

NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
ITERATIONS = 32


def note(name):
    """Return the MIDI number of a note name such as `F#` (octave 4) or `E3`."""
    letter = name.rstrip("0123456789-")
    return NOTES.index(letter) + 12 * (int(name[len(letter) :] or 4) + 1)


def level(control, value):
    """Return the stored number of one written value of a control with one row."""
    if value == "rest":
        return 0.0
    if control == "pitch":
        return ((note(value) if isinstance(value, str) else value) - 23) / 85
    if control == "chroma":
        return note(value) % 12 / 11 if isinstance(value, str) else value
    return float(value)


def control_row(control, curve, times):
    """Return a control at `times` in seconds [T]; -1 where it is unconditioned."""
    linear = control not in ("chroma", "instruments")
    if isinstance(curve, dict):
        linear = curve.get("interpolation", "linear" if linear else "step") == "linear"
        curve = curve["points"]
    starts = np.array([time for time, _ in curve], float)
    values = [None if value is None else level(control, value) for _, value in curve]
    row = np.full(len(times), -1.0)
    for frame, time in enumerate(times):
        at = int(np.searchsorted(starts, time + 1e-9, side="right")) - 1
        if at < 0 or values[at] is None:
            continue
        row[frame] = values[at]
        following = at + 1 < len(values) and values[at + 1] is not None
        if linear and following and starts[at + 1] > starts[at]:
            share = (time - starts[at]) / (starts[at + 1] - starts[at])
            row[frame] += share * (values[at + 1] - values[at])
    return row


def control_rows(curves, metadata, frames):
    """Return the controls of a curve file, float32 [1, R, T]."""
    times = np.arange(frames) * metadata["hop"] / metadata["sample_rate"]
    rows = []
    for control, count in metadata["controls"]:
        curve = curves.get(control)
        if curve is None:
            rows += [np.full(frames, -1.0)] * count
        elif control == "instruments":
            points = [[0, curve]] if isinstance(curve, str) else curve
            chosen = np.searchsorted([time for time, _ in points], times + 1e-9, side="right") - 1
            names = np.array([points[max(at, 0)][1] for at in chosen])
            rows += [(names == name).astype(float) for name in metadata["instruments"]]
        else:
            points = [[0, curve]] if isinstance(curve, (int, float, str)) else curve
            rows.append(control_row(control, points, times))
    return np.stack(rows).astype(np.float32)[None]


def noise_levels(options, steps):
    """Return decreasing noise levels that end in 0, [steps + 1] (Karras et al. 2022, eq. 5)."""
    low, high, rho = options["sigma_min"], options["sigma_max"], options["rho"]
    ramp = np.linspace(0, 1, steps)
    return np.append((high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho, 0)


def sample_consistency(denoiser, metadata, controls, seed=0, steps=None):
    """Sample latents [1, C, T] from a consistency model, one evaluation a step (Song et al. 2023, algorithm 1)."""
    options = metadata["sampling"]
    sigmas = noise_levels(options, steps or options["steps"])
    rng, x = np.random.default_rng(seed), 0
    for sigma in sigmas[:-1]:
        x = x + sigma * rng.standard_normal((1, metadata["shape"][0], controls.shape[2]))
        inputs = {"x": x.astype(np.float32), "sigma": np.full(1, sigma, np.float32), "controls": controls}
        x = denoiser.run(None, inputs)[0]
    return x


def sample(denoiser, metadata, controls, seed=0, steps=None, guidance=2.0):
    """Sample latents [1, C, T] by Heun's method with classifier-free guidance."""
    options = metadata["sampling"]
    sigmas = noise_levels(options, steps or options["steps"])
    high = sigmas[0]
    pair = np.concatenate([controls, np.full_like(controls, -1)])

    def slope(x, sigma):
        inputs = {
            "x": np.repeat(x, 2, 0).astype(np.float32),
            "sigma": np.full(2, sigma, np.float32),
            "controls": pair,
        }
        conditional, unconditional = denoiser.run(None, inputs)[0]
        return (x - (unconditional + guidance * (conditional - unconditional))) / sigma

    x = high * np.random.default_rng(seed).standard_normal((1, metadata["shape"][0], controls.shape[2]))
    for sigma, following in itertools.pairwise(sigmas):
        first = slope(x, sigma)
        ahead = x + (following - sigma) * first
        second = slope(ahead, following) if following else first
        x = x + (following - sigma) * (first + second) / 2
    return x


def stft(audio, window, hop):
    """Return the spectrum [T, W / 2 + 1] of T H samples; frame t is centred on block t."""
    margin = (len(window) - hop) // 2
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, margin), len(window))[::hop]
    return np.fft.rfft(frames * window)


def istft(spectrum, window, hop):
    """Return the signal [T H] whose spectrum is nearest (Griffin and Lim 1984)."""
    frames = np.fft.irfft(spectrum, len(window)) * window
    total = np.zeros((len(spectrum) - 1) * hop + len(window))
    weight = np.zeros_like(total)
    for number, frame in enumerate(frames):
        at = slice(number * hop, number * hop + len(window))
        total[at] += frame
        weight[at] += window**2
    margin = (len(window) - hop) // 2
    inner = slice(margin, margin + len(spectrum) * hop)
    return total[inner] / weight[inner]


def reconstruct(magnitudes, window, hop, seed=0):
    """Return a signal [T H] whose magnitudes are about `magnitudes` [T, W / 2 + 1]."""
    rng = np.random.default_rng(seed)
    phase = np.exp(2j * np.pi * rng.random(magnitudes.shape))
    before = 0
    for _ in range(ITERATIONS):
        consistent = stft(istft(magnitudes * phase, window, hop), window, hop)
        ahead = consistent + 0.99 * (consistent - before)
        before = consistent
        phase = ahead / np.maximum(np.abs(ahead), 1e-12)
    return istft(magnitudes * phase, window, hop)


def write_wav(path, audio, rate):
    """Write [N] in -1..1 as 16-bit WAV, scaled to a peak of -1 dBFS."""
    scaled = audio * (10 ** (-1 / 20) / max(np.abs(audio).max(), 1e-9))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((scaled * 32767).round().astype("<i2").tobytes())


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("curves", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="(those of the model)")
    parser.add_argument("--guidance", type=float, help="weight of guidance, for an EDM (2)")
    arguments = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    decoder_path = arguments.model.with_name(f"{arguments.model.stem}.decoder.onnx")
    denoiser, decoder = (onnxruntime.InferenceSession(str(p), options) for p in (arguments.model, decoder_path))
    metadata, codec = (json.loads(s.get_modelmeta().custom_metadata_map["pvt"]) for s in (denoiser, decoder))
    wanted = round(arguments.seconds * metadata["sample_rate"] / metadata["hop"])
    multiple = metadata["frame_multiple"]
    controls = control_rows(json.loads(arguments.curves.read_text()), metadata, -(-wanted // multiple) * multiple)
    if metadata["paradigm"] == "consistency":
        weight = metadata["guidance"]
        if arguments.guidance not in (None, weight):
            parser.error(
                f"--guidance must be left out or {weight:g}, the weight in this graph, got {arguments.guidance:g}; "
                "for other weights export an EDM: pvt export edm --to onnx"
            )
        latents = sample_consistency(denoiser, metadata, controls, arguments.seed, arguments.steps)
    else:
        guidance = 2.0 if arguments.guidance is None else arguments.guidance
        latents = sample(denoiser, metadata, controls, arguments.seed, arguments.steps, guidance)
    magnitudes = decoder.run(None, {"x": latents.astype(np.float32)})[0][0, :wanted]
    audio = reconstruct(magnitudes, np.array(codec["window"]), codec["hop"], arguments.seed)
    write_wav(arguments.out, audio, codec["sample_rate"])
    print(f"{arguments.out}: {len(audio) / codec['sample_rate']:g} s")


if __name__ == "__main__":
    main()
