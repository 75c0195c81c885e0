"""Near-duplicates of recordings: other encodings, rates and gains of a sound, but no other sounds."""

import io

import numpy as np
import pytest
import soundfile

from data_specs.io.audio import read_audio
from data_specs.spec import ClipSpec, RecordingsSpec
from pipeline.recordings.activity import cut, events
from pipeline.recordings.similarity import near, spectral_shape
from tests.pipeline.recordings.conftest import melody

CLIP, SETTINGS = ClipSpec(seconds=4), RecordingsSpec()


def shape(audio):
    (event,) = events(audio, CLIP, SETTINGS)
    return spectral_shape(cut(audio, event.start, event.stop))


def encoded(seed, kind, rate):
    content = io.BytesIO()
    soundfile.write(content, 0.4 * melody(seed, rate), rate, format=kind)
    content.seek(0)
    return read_audio(content)


@pytest.mark.parametrize(("kind", "rate"), [("MP3", 44_100), ("OGG", 48_000), ("WAV", 16_000)])
def test_another_encoding_is_near_and_other_sounds_are_not(kind, rate):
    originals = np.stack([shape(melody(seed, 24_000).astype(np.float32)) for seed in range(8)])
    copies = np.stack([shape(encoded(seed, kind, rate)) for seed in range(8)])
    assert near(copies, originals).all()
    for seed in range(8):
        assert not near(copies[seed : seed + 1], np.delete(originals, seed, axis=0)).any()


def test_an_event_of_a_few_samples_has_a_shape():
    assert spectral_shape(np.ones(10, np.float32)).shape == spectral_shape(np.ones(90_000, np.float32)).shape
