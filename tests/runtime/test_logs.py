from __future__ import annotations

import datetime as dt
import io
import json
import math
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.logs import JsonLines, PlainLines, utc_now

MOMENT = dt.datetime(2026, 3, 1, 12, 0, 5, 123456, tzinfo=dt.timezone(dt.timedelta(hours=2)))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_line_of_json() -> None:
    stream = io.StringIO()
    JsonLines(stream, lambda: MOMENT).event(
        "warning",
        "source lost",
        name="door",
        lost_s=2.5,
        path=Path("a/b"),
        level="x",
        rate=math.inf,
    )
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line) == {
        "time": "2026-03-01T10:00:05.123Z", "level": "warning", "event": "source lost",
        "name": "door", "lost_s": 2.5, "path": "a/b", "level_": "x", "rate": "inf",
    }  # fmt: skip


def test_a_line_for_people() -> None:
    stream = io.StringIO()
    log = PlainLines(stream)
    log.event("info", "ready")
    log.event("error", "source lost", name="door", lost_s=2.5)
    assert stream.getvalue() == "ready\nerror: source lost (name=door, lost_s=2.5)\n"


@given(st.dictionaries(st.text(min_size=1, max_size=8), VALUES, max_size=4), st.text(max_size=40))
def test_any_value_is_one_line_that_is_json(fields: dict[str, object], event: str) -> None:
    stream = io.StringIO()
    JsonLines(stream).event("info", event, **{f"f_{name}": item for name, item in fields.items()})
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    json.loads(text, parse_constant=pytest.fail)


def test_a_surrogate_of_a_file_s_name_is_written() -> None:
    stream = io.StringIO()
    JsonLines(stream).event("info", "skipped", name="a\udcff.png")
    assert json.loads(stream.getvalue())["name"] == "a?.png"
    stream.getvalue().encode()


def test_a_reader_who_left_stops_nothing() -> None:
    stream = io.StringIO()
    stream.close()
    log = JsonLines(stream)
    log.event("info", "ready")
    assert log.lost == 1


def test_lines_of_many_threads_do_not_mix(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as stream:
        log = JsonLines(stream)

        def tell(number: int) -> None:
            for index in range(200):
                log.event("info", "x" * number, index=index)

        threads = [threading.Thread(target=tell, args=(number,)) for number in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(lines) == 800


def test_the_time_has_a_zone() -> None:
    assert utc_now().utcoffset() == dt.timedelta(0)
