"""Reading of audio files: every format, rate and number of channels as the same tone, damaged files with a reason."""

import struct

import numpy as np
import pytest
import soundfile

from data_specs.io.audio import AudioError, read_audio

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)


@pytest.mark.parametrize(
    ("name", "rate", "subtype", "channels", "tolerance"),
    [
        ("a.wav", 24_000, "PCM_16", 1, 1e-4),
        ("a.wav", 48_000, "PCM_U8", 1, 0.012),
        ("a.wav", 192_000, "FLOAT", 7, 1e-3),
        ("a.flac", 44_100, "PCM_24", 2, 1e-3),
        ("a.ogg", 44_100, "VORBIS", 1, 0.05),
        ("a.mp3", 44_100, "MPEG_LAYER_III", 2, 0.05),
        ("a.aiff", 8_000, "PCM_16", 1, 1e-3),
    ],
)
def test_a_tone_of_any_format_is_the_tone_at_24_khz(tmp_path, name, rate, subtype, channels, tolerance):
    time = np.arange(rate) / rate
    sound = np.repeat(0.5 * np.sin(2 * np.pi * 440 * time)[:, None], channels, axis=1)
    soundfile.write(tmp_path / name, sound, rate, subtype=subtype)
    found = read_audio(tmp_path / name)
    assert found.dtype == np.float32
    assert len(found) == 24_000
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000)
    assert np.abs(found - expected)[500:-500].max() < tolerance


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([TONE, -TONE], axis=1), 48_000)
    assert np.abs(read_audio(tmp_path / "a.wav")).max() < 1e-4


def wav(tmp_path, **changes):
    """A 16-bit file whose header has other values at the given places."""
    soundfile.write(tmp_path / "a.wav", TONE, 48_000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    places = {"riff": (4, "<I"), "channels": (22, "<H"), "rate": (24, "<I"), "data": (40, "<I")}
    for name, value in changes.items():
        place, kind = places[name]
        struct.pack_into(kind, content, place, value)
    return bytes(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: wav(path)[:50_000], "truncated file"),
        (lambda path: wav(path, data=0x7FFFFFF0), "truncated file"),
        (lambda path: wav(path, channels=2000), "not audio"),
        (lambda path: wav(path, rate=1000), "sample rate out of range"),
        (lambda path: wav(path)[:44], "truncated file"),
        (lambda path: wav(path, riff=36, data=0)[:44], "empty recording"),
        (lambda path: b"", "not audio"),
        (lambda path: b"RIFF" + bytes(1000), "not audio"),
    ],
)
def test_a_damaged_file_has_a_reason(tmp_path, change, reason):
    (tmp_path / "bad.wav").write_bytes(change(tmp_path))
    with pytest.raises(AudioError) as error:
        read_audio(tmp_path / "bad.wav")
    assert error.value.reason == reason


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(AudioError, match=r"unreadable file \(No such file"):
        read_audio(tmp_path / "missing.wav")


def test_a_file_written_to_a_pipe_is_read_to_its_end(tmp_path):
    (tmp_path / "pipe.wav").write_bytes(wav(tmp_path, riff=0xFFFFFFFF, data=0xFFFFFFFF))
    assert len(read_audio(tmp_path / "pipe.wav")) == 24_000


def test_a_truncated_mp3_is_found_by_its_frames(tmp_path):
    soundfile.write(tmp_path / "a.mp3", TONE, 44_100)
    content = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match="truncated file"):
        read_audio(tmp_path / "a.mp3")


def test_a_tag_of_20_mb_is_skipped(tmp_path):
    soundfile.write(tmp_path / "a.mp3", TONE, 48_000)
    size = 20_000_000
    header = b"ID3\x04\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    (tmp_path / "b.mp3").write_bytes(header + bytes(size) + (tmp_path / "a.mp3").read_bytes())
    assert len(read_audio(tmp_path / "b.mp3")) == 24_000


def test_values_and_length_are_bounded(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.where(TONE > 0.4, np.nan, TONE), 48_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="value not finite"):
        read_audio(tmp_path / "nan.wav")
    soundfile.write(tmp_path / "long.wav", TONE, 48_000)
    with pytest.raises(AudioError, match=r"more than 0\.5 s"):
        read_audio(tmp_path / "long.wav", most_seconds=0.5)
