"""Subtitles: what was said and when, as SubRip (.srt), WebVTT (.vtt) and JSON.

Rules:
    C1  A segment without text gives no caption. Times are in order and never negative.
    C2  WebVTT is HTML-like: `&`, `<` and `>` are escaped (W3C, WebVTT, section 3.3). SubRip has no
        escapes, so its text stays as it is.
    C3  A line break would end a caption, so breaks within a segment become spaces.
    C4  A sound's captions carry its name. Of two sounds of one name the second is `name-2`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.runtime import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VTT_HEADER = "WEBVTT\n"
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


@dataclass(frozen=True)
class Segment:
    """What is said in a stretch of sound.

    Attributes:
        start_s: Its start, in seconds from the sound's.
        end_s: Its end.
        text: The words, without spaces around them.
    """

    start_s: float
    end_s: float
    text: str


def srt(segments: Sequence[Segment]) -> str:
    """The segments as a SubRip file."""
    return "\n".join(srt_caption(number, item) for number, item in enumerate(_spoken(segments), 1))


def srt_caption(number: int, segment: Segment) -> str:
    """One segment with text as a SubRip caption, the `number`th from 1."""
    return f"{number}\n{_span(segment, ',')}\n{_line(segment.text)}\n"


def vtt(segments: Sequence[Segment]) -> str:
    """The segments as a WebVTT file."""
    return "\n".join([VTT_HEADER, *(vtt_caption(item) for item in _spoken(segments))])


def vtt_caption(segment: Segment) -> str:
    """One segment with text as a WebVTT caption."""
    return f"{_span(segment, '.')}\n{_line(segment.text).translate(_ESCAPES)}\n"


def as_json(fields: Mapping[str, Any]) -> str:
    """What a task found in one sound, as a JSON file."""
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


class CaptionSink:
    """Captions in a folder, each file whole or not there (rule C4).

    Args:
        folder: Made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: set[str] = set()
        atomic.make_folder(folder)

    def write(self, source: str, files: Mapping[str, str]) -> list[Path]:
        """Write the captions of one sound and say where.

        Args:
            source: Where the sound comes from.
            files: Content by suffix, as in `.srt`.

        Raises:
            StorageError: The disk is full.
        """
        stem = self._free(Path(source).stem or "sound")
        paths = [self.folder / f"{stem}{suffix}" for suffix in files]
        for path, content in zip(paths, files.values(), strict=True):
            atomic.write_bytes(path, content.encode())
        return paths

    def _free(self, stem: str) -> str:
        number, name = 1, stem
        while name.casefold() in self._taken:  # some filesystems do not tell A from a
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        return name


def _spoken(segments: Sequence[Segment]) -> list[Segment]:
    return [item for item in segments if item.text.strip()]


def _line(text: str) -> str:
    return " ".join(text.split())


def _span(segment: Segment, separator: str) -> str:
    return f"{_time(segment.start_s, separator)} --> {_time(segment.end_s, separator)}"


def _time(time_s: float, separator: str) -> str:
    whole, milliseconds = divmod(round(max(0.0, time_s) * 1000), 1000)
    minutes, seconds = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{separator}{milliseconds:03}"
