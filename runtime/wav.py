"""Reads RIFF WAVE files, which need no library.

Python's own `wave` refuses float samples, and the extensible form before Python 3.12. Fields are
as in Microsoft's "Multiple channel audio data and WAVE files" and RFC 2361.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

HEAD_BYTES = 12
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_MOST_CHANNELS = 64


@dataclass(frozen=True)
class _Format:
    kind: int
    channels: int
    rate_hz: int
    bits: int


def is_wav(head: bytes) -> bool:
    """Whether a file that begins so is RIFF WAVE."""
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def read(path: Path) -> tuple[npt.NDArray[np.float32], int]:
    """Read a WAV file.

    Returns:
        float32 [n, channels] of -1..1 (float files as they are), and samples per second.

    Raises:
        InputError: The file is damaged, or of a coding other than PCM and float.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    form, data, at = None, None, HEAD_BYTES
    while data is None and at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        body = memoryview(content)[at + 8 : at + 8 + size]
        if name == b"fmt ":
            form = _format(body, path)
        elif name == b"data":
            data = body
        at += 8 + size + size % 2
    if form is None or data is None:
        raise _damaged(path, "it has no format" if form is None else "it has no sound")
    return _samples(data, form, path), form.rate_hz


def _format(body: memoryview, path: Path) -> _Format:
    if len(body) < 16:
        raise _damaged(path, "its format is cut short")
    kind, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if kind == _EXTENSIBLE and len(body) >= 26:
        (kind,) = struct.unpack_from("<H", body, 24)
    if not 1 <= channels <= _MOST_CHANNELS:
        raise _damaged(path, f"it states {channels} channels")
    return _Format(kind, channels, rate_hz, bits)


def _samples(data: memoryview, form: _Format, path: Path) -> npt.NDArray[np.float32]:
    step = form.channels * form.bits // 8
    whole = data[: len(data) // step * step] if step else data
    if form.kind == _FLOAT and form.bits in (32, 64):
        values = np.frombuffer(whole, f"<f{form.bits // 8}").astype(np.float32)
    elif form.kind == _PCM and form.bits in (8, 16, 24, 32):
        values = _from_pcm(whole, form.bits)
    else:
        raise InputError(
            f"{path} is WAV of coding {form.kind} with {form.bits} bit",
            expected="PCM of 8, 16, 24 or 32 bit, or float of 32 or 64",
            do=f"Convert it: ffmpeg -i {path} -c:a pcm_s16le sound.wav",
        )
    return values.reshape(-1, form.channels)


def _from_pcm(whole: memoryview, bits: int) -> npt.NDArray[np.float32]:
    if bits == 8:  # the only unsigned one
        unsigned = np.frombuffer(whole, np.uint8).astype(np.float32)
        return np.asarray((unsigned - 128) / 128, np.float32)
    if bits == 24:
        # Into the upper three bytes of an int32, so that the sign is where it belongs.
        wide = np.zeros((len(whole) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(whole, np.uint8).reshape(-1, 3)
        values, bits = wide.reshape(-1).view("<i4"), 32
    else:
        values = np.frombuffer(whole, f"<i{bits // 8}")
    return np.asarray(values / 2.0 ** (bits - 1), np.float32)


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path} is a damaged WAV file: {why}", expected="A whole file")
