"""Comparison of crop lengths: rows of equal audio a step."""

from bench.crop_length import ENTRIES
from training.config import load_config


def test_rows_differ_in_crops_alone_and_have_equal_audio() -> None:
    found = [load_config(str(one.config), one.paradigm, one.format, overrides=one.overrides) for one in ENTRIES]
    assert [(one.training.seconds, one.training.batch) for one in found] == [(2, 8), (4, 4), (8, 2)]
    first = found[0].training
    assert all(
        one.training == first.model_copy(update={"seconds": one.training.seconds, "batch": one.training.batch})
        for one in found
    )
    assert all(one.network == found[0].network for one in found)
