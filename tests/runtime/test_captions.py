"""Subtitles against the forms that players read, and files that never replace each other."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.runtime.captions import CaptionSink, Segment, as_json, srt, vtt
from jetlift.runtime.errors import StorageError

SAID = [
    Segment(0.0, 1.5, "Tom & Jerry <laugh>"),
    Segment(1.5, 2.0, "  "),
    Segment(3599.9996, 3661.25, "one\ntwo --> 三"),
]


def test_subrip():
    assert srt(SAID) == (
        "1\n00:00:00,000 --> 00:00:01,500\nTom & Jerry <laugh>\n\n"
        "2\n01:00:00,000 --> 01:01:01,250\none two --> 三\n"
    )
    assert srt([]) == ""


def test_webvtt():
    assert vtt(SAID) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nTom &amp; Jerry &lt;laugh&gt;\n\n"
        "01:00:00.000 --> 01:01:01.250\none two --&gt; 三\n"
    )
    assert vtt([]) == "WEBVTT\n"


def test_json_keeps_the_script():
    assert json.loads(as_json({"text": "猫"})) == {"text": "猫"}
    assert "猫" in as_json({"text": "猫"})


times = st.floats(-1, 400_000, allow_nan=False)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.builds(Segment, times, times, st.text(max_size=20)), max_size=5))
def test_any_segments_give_as_many_captions_as_have_text(segments):
    spoken = sum(bool(item.text.strip()) for item in segments)
    for text, mark in ((srt(segments), ","), (vtt(segments), r"\.")):
        stamp = rf"\d{{2,}}:[0-5]\d:[0-5]\d{mark}\d{{3}}"
        assert len(re.findall(rf"(?m)^{stamp} --> {stamp}$", text)) == spoken


def test_two_sounds_of_one_name_have_files_of_their_own(tmp_path):
    sink = CaptionSink(tmp_path / "captions")
    first = sink.write("a/talk.wav", {".srt": "1", ".vtt": "2"})
    assert [path.name for path in first] == ["talk.srt", "talk.vtt"]
    assert [path.name for path in sink.write("b/Talk.flac", {".srt": "3"})] == ["Talk-2.srt"]
    assert (tmp_path / "captions" / "talk.srt").read_text() == "1"


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        CaptionSink(tmp_path / "file" / "captions")
