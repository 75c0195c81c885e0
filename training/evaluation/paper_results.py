"""Published results: tables 4.1 and 4.2 of the report (section 4.3) as rows in the form of those of `evaluate.py`."""

from data_specs.io.files import Json

SETTING_41 = "2000 clips of 4 s against 50 k clips of 4 s, 500 k steps, VGGish"
SETTING_42 = "20 k clips of 8 s, 1 M steps, VGGish"
HOUR = 3600.0


def _row(
    paradigm: str, data: str, millions: float, batch: int, hours: float, inference: tuple[str, float], fad: float
) -> Json:
    return {
        "run": "published",
        "paradigm": paradigm,
        "format": data,
        "parameters": round(millions * 1e6),
        "batch": f"{batch} x 4 GPUs",
        "training_seconds": hours * HOUR,
        "inference": {inference[0]: {"seconds": inference[1], "extrapolated": False}},
        "fad": {"vggish": {"train": {"value": fad}}},
    }


TABLE_41 = (
    _row("ddpm", "cqt", 56.9, 4, 75.7, ("8x4", 1216.2), 7.23),
    _row("edm", "cqt", 56.9, 4, 80.2, ("8x4", 45.0), 4.63),
    _row("ddpm", "encodec", 225.8, 16, 36.3, ("8x4", 39.6), 73.84),
    _row("edm", "encodec", 225.8, 16, 37.3, ("8x4", 1.6), 7.48),
    _row("discdpm", "disc", 87.9, 16, 77.2, ("8x4", 112.8), 48.55),
)
TABLE_42 = (_row("edm", "encodec", 231.6, 32, 118.4, ("64x8", 12.7), 4.06),)
