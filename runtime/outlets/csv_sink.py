"""Results as tables that spreadsheets, R and pandas read.

Rules:
    T1  One row per result, in the columns of the first: `source`, `index`, `time_s`, then the
        task's own fields. Lists and objects are JSON in their cell, a missing value is an empty
        one, and yes and no are `true` and `false`.
    T2  Where results have boxes, a second file beside it, NAME.boxes.csv, has one row per box:
        `source`, `index`, `time_s`, `box` (its place in the result, from 0), `label_id`, `label`,
        `score`, `left`, `top`, `right`, `bottom` in pixels. A result without boxes has a row in the
        first file and none in the second.
    T3  The form is RFC 4180 in UTF-8: commas, doubled quotes, CR LF at the end of a row. No value
        is altered on the way, so a text that begins with `=` is a formula to a spreadsheet.
    T4  A result with another column begins a new part, since a table has one header.
    T5  Files are written live and take their names at the end, as results.jsonl does (rule K1 of
        `sinks`).
"""

from __future__ import annotations

import csv
import io
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from jetlift.runtime.clock import SYSTEM_CLOCK
from jetlift.runtime.outlets.file_sink import PartedSink
from jetlift.runtime.outlets.parts import Parts, Rotation
from jetlift.runtime.sinks import LiveText

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from jetlift.runtime.clock import Clock
    from jetlift.runtime.pipeline.form import Result

BOX_COLUMNS = (
    "source", "index", "time_s", "box", "label_id", "label", "score",
    "left", "top", "right", "bottom",
)  # fmt: skip


def csv_row(values: Iterable[object]) -> str:
    """Values as one row with its end (rules T1 and T3)."""
    buffer = io.StringIO()
    csv.writer(buffer).writerow([_cell(value) for value in values])
    return buffer.getvalue()


def box_rows(fields: Mapping[str, Any]) -> list[list[object]]:
    """The boxes of a result, a row each (rule T2)."""
    boxes = fields["boxes_xyxy"]
    nothing = [None] * len(boxes)
    columns = [fields.get(name, nothing) for name in ("label_ids", "labels", "scores")]
    place = [fields["source"], fields["index"], fields["time_s"]]
    return [
        [*place, number, *facts, *box]
        for number, (box, *facts) in enumerate(zip(boxes, *columns, strict=True))
    ]


class CsvPart:
    """One table, and the one of its boxes; see `file_sink.Part`.

    Args:
        path: Its name in the end.
    """

    def __init__(self, path: Path) -> None:
        self._rows = LiveText(path)
        self._boxes_path = path.with_name(f"{path.stem}.boxes{path.suffix}")
        self._boxes: LiveText | None = None
        self._columns: tuple[str, ...] = ()
        self._stack = ExitStack()

    @property
    def size_bytes(self) -> int:
        """See Part.size_bytes."""
        return self._rows.size_bytes + (self._boxes.size_bytes if self._boxes else 0)

    def fits(self, result: Result) -> bool:
        """See Part.fits (rule T4)."""
        return not self._columns or set(self._columns) >= result.outcome.fields.keys()

    def put(self, result: Result) -> None:
        """See Part.put."""
        fields = result.outcome.fields
        if not self._columns:
            self._columns = tuple(fields)
            self._rows.append(csv_row(self._columns))
        self._rows.append(csv_row(fields.get(column) for column in self._columns))
        if "boxes_xyxy" in fields:
            if self._boxes is None:
                self._boxes = self._stack.enter_context(LiveText(self._boxes_path))
                self._boxes.append(csv_row(BOX_COLUMNS))
            self._boxes.append("".join(csv_row(row) for row in box_rows(fields)))

    def __enter__(self) -> Self:
        self._stack.enter_context(self._rows)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def csv_sink(
    path: Path, *, rotation: Rotation | None = None, clock: Clock = SYSTEM_CLOCK
) -> PartedSink:
    """A sink that writes tables (rules T1 to T5)."""
    return PartedSink("csv", Parts(path, rotation or Rotation(), clock), CsvPart)


def _cell(value: object) -> object:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
