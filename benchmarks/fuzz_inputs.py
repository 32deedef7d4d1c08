"""Damaged pictures, videos and sounds, made from generated ones with a seed.

Rules:
    Q1  The same seed and number give the same bytes, wherever they are made from the same files.
    Q2  Damage is of six kinds: flipped bits, a cut, a piece of the file over another, a piece
        repeated or left out, a header field with an extreme value, sides stated as huge.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    Damage = Callable[[bytearray, np.random.Generator], bytearray]

_EXTREMES = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEADER_BYTES = 256
_HUGE_PX = (65_500, 30_000, 16_384)


@dataclass(frozen=True)
class Case:
    """One damaged file.

    Attributes:
        kind: What reads it: `picture`, `video` or `sound`.
        suffix: Of its name.
        damage: What was done to it.
        content: Its bytes.
    """

    kind: str
    suffix: str
    damage: str
    content: bytes


def cases(count: int, seed: int, folder: Path) -> list[Case]:
    """Damaged files (rules Q1 and Q2).

    Args:
        count: How many; every kind of file and of damage in turn.
        seed: Of the damage.
        folder: For the videos that they are made from.
    """
    whole = [*_pictures(), *_videos(folder), *_sounds()]
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        kind, suffix, content = whole[number % len(whole)]
        name = list(DAMAGES)[number // len(whole) % len(DAMAGES)]
        damaged = bytes(DAMAGES[name](bytearray(content), random))
        made.append(Case(kind, suffix, name, damaged))
    return made


def _scene(random: np.random.Generator) -> npt.NDArray[np.uint8]:
    small = random.integers(0, 256, (8, 12, 3), np.uint8)
    smooth = cv2.resize(small, (96, 64), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, np.uint8)


def _pictures() -> list[tuple[str, str, bytes]]:
    image = _scene(np.random.default_rng(1))
    grey, deep = image[..., 0], image.astype(np.uint16) * 257
    clear = np.dstack([image, grey])
    forms: list[tuple[str, npt.NDArray[Any], list[int]]] = [
        (".jpg", image, []),
        (".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 4]),
        (".jpg", grey, []),
        (".png", image, []),
        (".png", deep, []),
        (".png", clear, []),
        (".png", grey, [cv2.IMWRITE_PNG_BILEVEL, 1]),
    ]
    return [
        ("picture", suffix, cv2.imencode(suffix, pixels, options)[1].tobytes())
        for suffix, pixels, options in forms
    ]


def _videos(folder: Path) -> list[tuple[str, str, bytes]]:
    made, random = [], np.random.default_rng(2)
    for suffix, code in ((".mp4", "mp4v"), (".avi", "MJPG")):
        path = folder / f"whole{suffix}"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10.0, (96, 64))
        for _ in range(12):
            writer.write(_scene(random))
        writer.release()
        made.append(("video", suffix, path.read_bytes()))
    return made


def _sounds() -> list[tuple[str, str, bytes]]:
    tone = np.sin(np.arange(4000) / 7)
    forms = {(1, 8): "u1", (1, 16): "<i2", (1, 32): "<i4", (3, 32): "<f4", (3, 64): "<f8"}
    made = []
    for (coding, bits), dtype in forms.items():
        scaled = tone * (2 ** (bits - 1) - 1) if coding == 1 else tone
        samples = (scaled + 128 if bits == 8 else scaled).astype(dtype).tobytes()
        step = bits // 8
        form = struct.pack("<HHIIHH", coding, 1, 16_000, 16_000 * step, step, bits)
        body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
        body += b"data" + struct.pack("<I", len(samples)) + samples
        made.append(("sound", ".wav", b"RIFF" + struct.pack("<I", len(body)) + body))
    return made


def _flip(content: bytearray, random: np.random.Generator) -> bytearray:
    for place in random.integers(0, len(content) * 8, int(random.integers(1, 33))).tolist():
        content[place // 8] ^= 1 << (place % 8)
    return content


def _cut(content: bytearray, random: np.random.Generator) -> bytearray:
    return content[: int(random.integers(0, len(content)))]


def _overlay(content: bytearray, random: np.random.Generator) -> bytearray:
    length = int(random.integers(1, max(2, len(content) // 4)))
    start, place = random.integers(0, len(content) - length + 1, 2).tolist()
    content[place : place + length] = content[start : start + length]
    return content


def _repeat(content: bytearray, random: np.random.Generator) -> bytearray:
    start, end = sorted(random.integers(0, len(content) + 1, 2).tolist())
    again = bytes(content[start:end]) * int(random.integers(0, 3))
    return content[:start] + again + content[end:]


def _header(content: bytearray, random: np.random.Generator) -> bytearray:
    """A field at the front, or at the back where MP4 has its tables, gets an extreme value."""
    for _ in range(int(random.integers(1, 4))):
        width = int(random.choice([1, 2, 4]))
        room = min(_HEADER_BYTES, len(content) - width)
        place = int(random.integers(0, room))
        if random.integers(0, 2):
            place = len(content) - width - place
        value = int(random.choice(_EXTREMES)) & ((1 << 8 * width) - 1)
        order = ("little", "big")[int(random.integers(0, 2))]
        content[place : place + width] = value.to_bytes(width, order)  # type: ignore[arg-type]  # one of the two
    return content


def _huge(content: bytearray, random: np.random.Generator) -> bytearray:
    """Sides that no memory holds, with a checksum that is right again."""
    side = int(random.choice(_HUGE_PX))
    if content.startswith(b"\x89PNG"):
        content[16:24] = struct.pack(">II", side, side)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        return content
    frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    if frame >= 0:
        content[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
        return content
    track = content.find(b"tkhd")
    if track >= 0:
        content[track + 78 : track + 86] = struct.pack(">HHHH", side, 0, side, 0)
        sample = content.find(b"mp4v", track)
        content[sample + 28 : sample + 32] = struct.pack(">HH", side, side)
        return content
    return _header(content, random)


DAMAGES: dict[str, Damage] = {
    "flip": _flip, "cut": _cut, "overlay": _overlay, "repeat": _repeat, "header": _header,
    "huge": _huge,
}  # fmt: skip
