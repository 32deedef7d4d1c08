"""What a run says of itself while it goes: sentences for people, or lines of JSON for machines.

Rules:
    J1  JSON: one object per line with `time` (UTC, milliseconds), `level`, `event` and the
        event's own fields. A line is written in one piece, whichever thread writes.
    J2  What cannot be written down as JSON is written as text; a log never raises for a value.
    J3  A reader who left is no reason to stop: what could not be written is counted.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import sys
import threading
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    Level = Literal["debug", "info", "warning", "error"]

_OWN = ("time", "level", "event")


class Log(Protocol):
    """Where events are told; called by any thread."""

    def event(self, level: Level, event: str, /, **fields: object) -> None:
        """Tell one.

        Args:
            level: How much it matters.
            event: What happened: a name for JSON, the beginning of a sentence for people.
            **fields: Its facts.
        """


def utc_now() -> dt.datetime:
    """The time."""
    return dt.datetime.now(dt.timezone.utc)


class JsonLines:
    """One JSON object per line (rules J1 to J3).

    Args:
        stream: Where to; standard error where it is None.
        now: Tells the time, with a time zone.

    Attributes:
        lost: Lines that could not be written.
    """

    def __init__(
        self, stream: IO[str] | None = None, now: Callable[[], dt.datetime] = utc_now
    ) -> None:
        self._stream, self._now = sys.stderr if stream is None else stream, now
        self._lock, self.lost = threading.Lock(), 0

    def event(self, level: Level, event: str, /, **fields: object) -> None:
        """See Log.event. A field with a name of rule J1's gets an underscore behind it."""
        own = (_utc(self._now()), level, event)
        line = dict(zip(_OWN, own, strict=True)) | {
            f"{name}_" if name in _OWN else name: _plain(value) for name, value in fields.items()
        }
        self._write(json.dumps(line, ensure_ascii=False, allow_nan=False))

    def _write(self, line: str) -> None:
        with self._lock:
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except (OSError, ValueError):  # J3; ValueError: the stream is closed
                self.lost += 1


class PlainLines(JsonLines):
    """The same for people: `warning: source lost (name=rtsp://..., seconds=3)`."""

    def event(self, level: Level, event: str, /, **fields: object) -> None:
        """See Log.event."""
        facts = ", ".join(f"{name}={_plain(value)}" for name, value in fields.items())
        told = f"{event} ({facts})" if facts else event
        self._write(told if level == "info" else f"{level}: {told}")


def _utc(moment: dt.datetime) -> str:
    told = moment.astimezone(dt.timezone.utc).isoformat(timespec="milliseconds")
    return told.replace("+00:00", "Z")


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON is what it is
    """A value as JSON can have it (rule J2)."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # names of files may hold lone surrogates
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(_plain(str(key))): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return _plain(str(value))
