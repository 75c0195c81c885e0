"""Audio of events in the index folder."""

import numpy as np
import pytest

from data_specs.errors import UserError
from pipeline.recordings.index import RecordingStore


def test_an_event_is_padded_with_silence(tmp_path):
    np.arange(10, dtype=np.float32).tofile(tmp_path / "a.f32")
    assert RecordingStore(tmp_path).read("a", 2, 3, 5).tolist() == [2, 3, 4, 0, 0]


def test_a_missing_or_damaged_store_is_refused(tmp_path):
    np.arange(10, dtype=np.float32).tofile(tmp_path / "a.f32")
    for digest, length in (("a", 9), ("b", 3)):
        with pytest.raises(UserError, match=rf"{digest}\.f32 is missing or damaged; delete"):
            RecordingStore(tmp_path).read(digest, 2, length, 20)
