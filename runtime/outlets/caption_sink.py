"""Captions of a live run as SubRip (.srt) or WebVTT (.vtt): what was said, or what was seen.

Rules:
    L1  A result with `segments` gives each of them as a caption. Any other gives one short text:
        its `text`; of boxes the labels with their counts; of a classifier the best label; of an
        anomaly detector `anomalous` while it is so.
    L2  A short text stands from the first result that has it to the first that has another, but
        SHORTEST_S at least, or labels that flicker could not be read; what flickers by meanwhile is
        left out. It ends where no result came for LONGEST_GAP_S.
    L3  Times are those of the source. Another source begins another file.
    L4  Each caption is written when it has ended, live, and the file takes its name at the end
        (rule K1 of `sinks`).
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from jetlift.runtime.captions import VTT_HEADER, Segment, srt_caption, vtt_caption
from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.errors import UsageError
from jetlift.runtime.outlets.file_sink import PartedSink, PerSourceSink
from jetlift.runtime.sinks import LiveText

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.outlets.parts import Rotation
    from jetlift.runtime.pipeline.form import Result

SHORTEST_S, LONGEST_GAP_S = 0.5, 3.0
SUFFIXES = (".srt", ".vtt")


def short_text(fields: Mapping[str, Any]) -> str:
    """What a result says in a few words, empty where it says nothing (rule L1).

    Raises:
        UsageError: Such results have no short text.
    """
    if isinstance(fields.get("text"), str):
        return str(fields["text"])
    if "boxes_xyxy" in fields and "labels" in fields:
        counts = Counter(fields["labels"]).most_common()
        return ", ".join(label if count == 1 else f"{count} {label}" for label, count in counts)
    if "labels" in fields:
        return str(fields["labels"][0]) if fields["labels"] else ""
    if "anomalous" in fields:
        return "anomalous" if fields["anomalous"] else ""
    raise UsageError(
        f"The task's results have {', '.join(fields)}, and none of it is a short text",
        expected="A task such as transcribe, classify, detect or anomaly",
        do="Send its results elsewhere, as to results.jsonl",
    )


class CaptionPart:
    """One file of captions; see `file_sink.Part`.

    Args:
        path: Its name in the end, .srt or .vtt.

    Raises:
        UsageError: The suffix is another.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"Got captions as {path.name}", expected="A name in .srt or .vtt")
        self._file, self._as_vtt = LiveText(path), path.suffix.lower() == ".vtt"
        self._source: str | None = None
        self._count = 0
        self._said, self._from_s, self._last_s, self._step_s = "", 0.0, 0.0, SHORTEST_S

    @property
    def size_bytes(self) -> int:
        """See Part.size_bytes."""
        return self._file.size_bytes

    def fits(self, result: Result) -> bool:
        """See Part.fits (rule L3)."""
        return self._source in (None, result.item.source)

    def put(self, result: Result) -> None:
        """See Part.put."""
        fields = result.outcome.fields
        self._source = result.item.source
        if "segments" in fields:
            begin_s = fields["time_s"] or 0.0
            for item in fields["segments"]:
                start_s, end_s = begin_s + item["start_s"], begin_s + item["end_s"]
                self._write(Segment(start_s, end_s, item["text"]))
            return
        text, time_s = short_text(fields), fields["time_s"]
        if time_s is None:
            raise UsageError(
                "The results have no time, so that no caption could be shown over anything",
                expected="Results of a video, a camera or a sound",
            )
        self._see(text, time_s)

    def _see(self, text: str, time_s: float) -> None:
        """Take note of what is seen at a time (rule L2)."""
        gap_s = time_s - self._last_s
        if not 0 <= gap_s <= LONGEST_GAP_S:
            self._finish(self._last_s + self._step_s)
        elif text != self._said and time_s - self._from_s >= SHORTEST_S:
            self._finish(time_s)
        if gap_s > 0:
            self._step_s = min(gap_s, SHORTEST_S)
        if not self._said and text:
            self._said, self._from_s = text, time_s
        self._last_s = time_s

    def _finish(self, end_s: float) -> None:
        if self._said:
            self._write(Segment(self._from_s, end_s, self._said))
        self._said = ""

    def _write(self, segment: Segment) -> None:
        if not segment.text.strip():
            return
        self._count += 1
        caption = vtt_caption(segment) if self._as_vtt else srt_caption(self._count, segment)
        between = "\n" if self._as_vtt or self._count > 1 else ""
        self._file.append(f"{between}{caption}")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._file)
            if self._as_vtt:
                self._file.append(VTT_HEADER)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._finish(self._last_s + self._step_s)


def caption_sink(
    path: Path, *, rotation: Rotation | None = None, clock: Clock = SYSTEM_CLOCK
) -> PerSourceSink:
    """A sink that writes captions (rules L1 to L4)."""
    return PerSourceSink(
        "captions",
        path,
        lambda parts: PartedSink("captions", parts, CaptionPart),
        rotation=rotation,
        clock=clock,
    )
