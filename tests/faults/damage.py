"""Ways to damage bytes, drawn from a random number generator."""

import random

# Bytes that mean something in a MIDI file: status bytes, meta events, system exclusive, lengths.
SALT = bytes([0x00, 0x7F, 0x80, 0x90, 0xC0, 0xF0, 0xF7, 0xFF, 0x51, 0x2F, 0xF8, 0xF2])


def mutated(content: bytes, rng: random.Random) -> bytes:
    """`content` with 1 to 30 bytes or stretches changed, added, repeated or taken away."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 30])):
        at = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(6)
        if kind == 0:
            data[at : at + 1] = bytes([rng.choice(SALT)])
        elif kind == 1:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 2:
            data[at:at] = bytes(rng.choices(SALT, k=rng.randrange(1, 6)))
        elif kind == 3:
            del data[at : at + rng.choice([1, 2, 200])]
        elif kind == 4:
            data[at:at] = data[: rng.randrange(100)]
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)
