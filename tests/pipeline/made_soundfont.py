"""SoundFont files made on the spot: looped sounds on ranges of keys and velocities (SoundFont 2.04)."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RATE, ROOT_KEY = 24_000, 60
PERIOD = round(RATE / (440 * 2 ** ((ROOT_KEY - 69) / 12)))
_KEYS, _VELOCITIES, _COARSE, _FINE, _INSTRUMENT, _SAMPLE, _MODES, _ROOT = 43, 44, 51, 52, 41, 53, 54, 58


@dataclass(frozen=True)
class Preset:
    """One program: `tune` in cents, with white noise in place of a saw if `noise`."""

    program: int
    keys: tuple[int, int] = (0, 127)
    velocities: tuple[int, int] = (0, 127)
    tune: int = 0
    noise: bool = False


def write_soundfont(path: Path, *presets: Preset) -> Path:
    """Write a SoundFont with `presets`."""
    saw = np.tile(np.linspace(-0.6, 0.6, PERIOD), 80)
    noise = np.random.default_rng(0).uniform(-0.6, 0.6, len(saw))
    correction = 1200 * np.log2(440 * 2 ** ((ROOT_KEY - 69) / 12) * PERIOD / RATE)
    sounds = [np.append(np.rint(sound * 32767), np.zeros(46)).astype("<i2") for sound in (saw, noise)]
    phdr, pbag, pgen, inst, ibag, igen = b"", b"", b"", b"", b"", b""
    for number, preset in enumerate(presets):
        phdr += struct.pack("<20sHHHIII", b"preset", preset.program, 0, number, 0, 0, 0)
        pbag += struct.pack("<HH", len(pgen) // 4, 0)
        pgen += struct.pack("<HH", _INSTRUMENT, number)
        inst += struct.pack("<20sH", b"instrument", number)
        ibag += struct.pack("<HH", len(igen) // 4, 0)
        coarse, fine = divmod(preset.tune + round(correction) + 50, 100)
        igen += struct.pack("<HBB", _KEYS, *preset.keys) + struct.pack("<HBB", _VELOCITIES, *preset.velocities)
        igen += struct.pack("<Hh", _COARSE, coarse) + struct.pack("<Hh", _FINE, fine - 50)
        igen += struct.pack("<HH", _MODES, 1) + struct.pack("<HH", _SAMPLE, int(preset.noise))
    phdr += struct.pack("<20sHHHIII", b"EOP", 0, 0, len(presets), 0, 0, 0)
    inst += struct.pack("<20sH", b"EOI", len(presets))
    pbag, ibag = (bag + struct.pack("<HH", len(gen) // 4, 0) for bag, gen in ((pbag, pgen), (ibag, igen)))
    shdr, start = b"", 0
    for sound in sounds:
        end = start + len(saw)
        shdr += struct.pack("<20sIIIIIBbHH", b"sound", start, end, start + PERIOD, end, RATE, ROOT_KEY, 0, 0, 1)
        start += len(sound)
    shdr += struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    zero = bytes(4)
    pdta = {"phdr": phdr, "pbag": pbag, "pmod": bytes(10), "pgen": pgen + zero, "inst": inst, "ibag": ibag}
    pdta |= {"imod": bytes(10), "igen": igen + zero, "shdr": shdr}
    info = {"ifil": struct.pack("<HH", 2, 1), "isng": b"EMU8000\0", "INAM": b"made\0\0"}
    lists = {"INFO": info, "sdta": {"smpl": b"".join(sound.tobytes() for sound in sounds)}, "pdta": pdta}
    body = b"".join(
        _chunk("LIST", name.encode() + b"".join(_chunk(key, value) for key, value in part.items()))
        for name, part in lists.items()
    )
    path.write_bytes(_chunk("RIFF", b"sfbk" + body))
    return path


def _chunk(name: str, content: bytes) -> bytes:
    return name.encode() + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
