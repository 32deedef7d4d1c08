"""WAV of every coding that is read, against Python's own writer where it can, and damaged files."""

from __future__ import annotations

import struct
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime import wav
from jetlift.runtime.errors import InputError

EXTENSIBLE_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _file(
    data: bytes, *, kind: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16,
    extensible: bool = False, between: bytes = b"",
) -> bytes:  # fmt: skip
    step = channels * bits // 8
    head = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else kind, channels, rate, rate * step, step, bits
    )
    if extensible:
        head += struct.pack("<HHIH", 22, bits, 0, kind) + EXTENSIBLE_TAIL
    chunks = _chunk(b"fmt ", head) + between + _chunk(b"data", data)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def _read(tmp_path, content: bytes):
    path = tmp_path / "sound.wav"
    path.write_bytes(content)
    assert wav.is_wav(content[: wav.HEAD_BYTES])
    return wav.read(path)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_pcm_as_python_writes_it(tmp_path, width):
    values = np.array([[0, 0], [1, -1], [-(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1]])
    raw = b"".join(
        int(v + (128 if width == 1 else 0)).to_bytes(width, "little", signed=width > 1)
        for v in values.reshape(-1)
    )
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as handle:
        handle.setnchannels(2)
        handle.setsampwidth(width)
        handle.setframerate(44_100)
        handle.writeframes(raw)
    samples, rate_hz = wav.read(path)
    assert rate_hz == 44_100
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, values / 2.0 ** (8 * width - 1), rtol=1e-7)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("extensible", [False, True])
def test_float_and_extensible(tmp_path, bits, extensible):
    values = np.array([0.0, -1.5, 0.25], f"<f{bits // 8}")
    content = _file(values.tobytes(), kind=3, bits=bits, extensible=extensible)
    samples, rate_hz = _read(tmp_path, content)
    assert rate_hz == 8000
    np.testing.assert_array_equal(samples[:, 0], values.astype(np.float32))


def test_other_chunks_are_passed_over_and_a_rest_of_a_frame_is_left(tmp_path):
    between = _chunk(b"LIST", b"odd") + _chunk(b"junk", b"")
    content = _file(struct.pack("<hhh", 1, 2, 3), channels=2, between=between)
    samples, _ = _read(tmp_path, content)
    assert samples.shape == (1, 2)


def test_a_stream_that_states_no_length_is_read_to_its_end(tmp_path):
    """ffmpeg writes 0xFFFFFFFF when it cannot go back to fill in the size."""
    content = _file(struct.pack("<4h", 1, 2, 3, 4))
    content = content.replace(b"data" + struct.pack("<I", 8), b"data\xff\xff\xff\xff")
    assert _read(tmp_path, content)[0].shape == (4, 1)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (_file(b"\0\0")[:12], "it has no format"),
        (_file(b"\0\0")[:36], "it has no sound"),
        (_file(b"\0\0", channels=0), "it states 0 channels"),
        (_file(b"\0\0", kind=6, bits=8), "coding 6 with 8 bit"),
        (_file(b"\0\0", bits=12), "coding 1 with 12 bit"),
        (_file(b"\0\0").replace(b"fmt \x10", b"fmt \x08"), "format is cut short"),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, told):
    path = tmp_path / "sound.wav"
    path.write_bytes(content)
    with pytest.raises(InputError, match=told):
        wav.read(path)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_noise_behind_the_head_never_crashes(tmp_path_factory, noise):
    path = tmp_path_factory.getbasetemp() / "noise.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVE" + noise)
    with pytest.raises(InputError):
        wav.read(path)
