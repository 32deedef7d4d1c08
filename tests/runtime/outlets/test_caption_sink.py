"""Captions that are written while the run goes on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from helpers.outlet_results import boxes, result
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.captions import Segment, srt, vtt
from jetlift.runtime.errors import UsageError
from jetlift.runtime.outlets.caption_sink import caption_sink, short_text

if TYPE_CHECKING:
    from pathlib import Path

SAID = [Segment(0.0, 1.5, "Tom & Jerry"), Segment(1.5, 2.0, " "), Segment(2.0, 61.25, "two")]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def said(*segments: Segment, source: str = "talk.wav") -> object:
    listed = [{"start_s": s.start_s, "end_s": s.end_s, "text": s.text} for s in segments]
    given_ = result(0, source=source, live=False, text="all of it", segments=listed)
    given_.outcome.fields["time_s"] = None
    return given_


@pytest.mark.parametrize(("suffix", "whole"), [(".srt", srt), (".vtt", vtt)])
def test_what_was_said_is_as_in_a_file_written_at_once(tmp_path: Path, suffix, whole) -> None:
    with caption_sink(tmp_path / f"out{suffix}") as sink:
        sink.write(said(*SAID))
        assert (tmp_path / f"out{suffix}.partial").read_text() == whole(SAID)
    assert (tmp_path / f"out{suffix}").read_text() == whole(SAID)
    assert names(tmp_path) == [f"out{suffix}"]


def test_another_sound_begins_another_file(tmp_path: Path) -> None:
    with caption_sink(tmp_path / "out.srt") as sink:
        sink.write(said(*SAID))
        sink.write(said(SAID[0], source="b.wav"))
    assert names(tmp_path) == ["out-000002.srt", "out.srt"]
    assert (tmp_path / "out-000002.srt").read_text().startswith("1\n00:00:00,000")
    assert sink.health().written == 2


def spans(path: Path) -> list[tuple[str, str]]:
    text = path.read_text()
    return re.findall(r"00:00:(\d\d,\d{3} --> 00:00:\d\d,\d{3})\n(.*)", text)


def test_a_label_stands_until_another_comes(tmp_path: Path) -> None:
    with caption_sink(tmp_path / "out.srt") as sink:
        for index in range(100):
            sink.write(result(index, labels=["cat" if index < 50 else "dog", "x"], scores=[1, 0]))
        live = (tmp_path / "out.srt.partial").read_text()
        assert live == "1\n00:00:00,000 --> 00:00:02,000\ncat\n"
    assert spans(tmp_path / "out.srt") == [
        ("00,000 --> 00:00:02,000", "cat"), ("02,000 --> 00:00:04,000", "dog"),
    ]  # fmt: skip


def test_what_flickers_is_held_long_enough_to_be_read(tmp_path: Path) -> None:
    with caption_sink(tmp_path / "out.srt") as sink:
        for index in range(25):
            sink.write(boxes(index, *["person"] * (1 + index % 2)))
    found = spans(tmp_path / "out.srt")
    assert [text for _, text in found] == ["person", "2 person"]
    assert found[0][0] == "00,000 --> 00:00:00,520"


def test_nothing_seen_and_nothing_coming_end_a_caption(tmp_path: Path) -> None:
    with caption_sink(tmp_path / "out.srt") as sink:
        for time_s in (0.0, 0.3, 0.6, 10.0, 10.3, 10.6, 10.9):
            sink.write(result(time_s=time_s, anomalous=time_s < 10.5))
        for time_s in (1.0, 1.2):  # a source that began again
            sink.write(result(time_s=time_s, anomalous=True))
    assert [span for span, _ in spans(tmp_path / "out.srt")] == [
        "00,000 --> 00:00:00,900", "10,000 --> 00:00:10,600", "01,000 --> 00:00:01,400",
    ]  # fmt: skip


def test_live_sources_side_by_side_have_files_of_their_own(tmp_path: Path) -> None:
    with caption_sink(tmp_path / "out.vtt") as sink:
        for index in range(30):
            for source in ("rtsp://h/yard", "rtsp://h/gate", "rtsp://u:pw@k/gate"):
                sink.write(result(index, source=source, text=source[7]))
    assert names(tmp_path) == ["out.gate-2.vtt", "out.gate.vtt", "out.vtt"]
    assert "\nh\n" in (tmp_path / "out.gate.vtt").read_text()
    assert sink.health().written == 90


def test_short_texts() -> None:
    assert short_text({"text": "hello"}) == "hello"
    assert short_text({"boxes_xyxy": [], "labels": []}) == ""
    assert short_text({"boxes_xyxy": [], "labels": ["a", "b", "b"]}) == "2 b, a"
    assert short_text({"labels": []}) == ""
    with pytest.raises(UsageError, match="embedding"):
        short_text({"embedding": [1.0]})


def test_results_without_a_time_are_refused(tmp_path: Path) -> None:
    bare = result(0, text="a")
    bare.outcome.fields["time_s"] = None
    with pytest.raises(UsageError, match="no time"), caption_sink(tmp_path / "o.srt") as sink:
        sink.write(bare)
    with pytest.raises(UsageError, match=r"\.srt or \.vtt"), caption_sink(tmp_path / "o.txt") as s:
        s.write(result(0, text="a"))


@given(st.lists(st.tuples(st.floats(0, 2), st.sampled_from(["", "a", "b"])), max_size=40))
def test_captions_never_overlap_and_never_run_backwards(tmp_path_factory, seen) -> None:
    path = tmp_path_factory.mktemp("captions") / "out.srt"
    now_s = 0.0
    with caption_sink(path) as sink:
        for step_s, text in seen:
            now_s += step_s
            sink.write(result(time_s=now_s, text=text))
    if not path.exists():
        assert not seen
        return
    stamps = [
        int(h) * 3600 + int(m) * 60 + float(s.replace(",", "."))
        for h, m, s in re.findall(r"(\d\d):(\d\d):(\d\d,\d{3})", path.read_text())
    ]
    assert stamps == sorted(stamps)
