from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.search_index import directions, index_around
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.tasks.search_page import QUERIES_SHOWN, _safe, write_page

HEAD = index_around(directions(5, 4)).head


class Read(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(tmp_path: Path, results, *, total: int | None = None, warning: str = "") -> Read:
    write_page(tmp_path / "p.html", results, HEAD, total=total or len(results), warning=warning)
    read = Read((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert read.open == []
    return read


def hit(source: object, score: float = 0.5, **more: object) -> dict:
    return {"source": str(source), "index": 0, "time_s": None, "score": score, **more}


def test_pictures_are_in_the_page_small_and_named(tmp_path):
    path = tmp_path / "große Wand.png"
    cv2.imwrite(str(path), np.full((900, 1600, 3), 99, np.uint8))
    tiny = tmp_path / "one.png"
    cv2.imwrite(str(tiny), np.full((1, 1, 3), 99, np.uint8))
    query = {"source": str(path), "index": 0, "time_s": 0.0}
    read = page(tmp_path, [{**query, "hits": [hit(path), hit(tiny), hit(tmp_path / "gone.png")]}])
    images = read.all("img")
    assert len(images) == 3
    assert all(str(item["src"]).startswith("data:image/jpeg;base64,") for item in images)
    assert [item["alt"] for item in images][:2] == [
        "query: große Wand.png",
        "hit 1: große Wand.png",
    ]
    assert "not to be had" in read.words
    assert read.all("a")[0]["href"] == path.as_uri()
    assert not read.all("script")
    assert not read.all("link")
    labels = {item["id"] for item in read.all("h2")}
    assert {item["aria-labelledby"] for item in read.all("section")} == labels
    assert read.all("html")[0]["lang"] == "en"


def test_texts_are_a_list_and_a_query_of_words_is_the_heading(tmp_path):
    found = [hit("/a.txt", text="<script>alert(1)</script>"), hit("/a.txt", text="x" * 10**6)]
    read = page(tmp_path, [{"source": "-", "index": 0, "query": "a & b", "hits": found}])
    assert not read.all("script")
    assert not read.all("img")
    assert "“a & b”" in read.words
    assert "<script>alert(1)</script>" in read.words
    assert (tmp_path / "p.html").stat().st_size < 20_000
    assert [item.get("class") for item in read.all("ol")] == ["texts"]


def test_many_queries_are_cut_and_it_is_told(tmp_path):
    results = [{"source": "-", "index": 0, "query": "q", "hits": []}] * (QUERIES_SHOWN + 5)
    read = page(tmp_path, results, warning="The weights are random.")
    assert len(read.all("section")) == QUERIES_SHOWN
    assert any(f"The first {QUERIES_SHOWN} of {QUERIES_SHOWN + 5}" in word for word in read.words)
    assert "The weights are random." in read.words


@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_any_text_is_safe_in_an_attribute_and_between_tags(text):
    safe = _safe(text)
    safe.encode("utf-8")
    assert not set("<>\"'") & set(safe)
    read = Read(f'<p title="{safe}">{safe}</p>')
    assert len(read.tags) == 1
    assert read.all("p")[0]["title"] == "".join(read.words)


@pytest.mark.parametrize("time_s", [0.0, 2.5])
def test_a_frame_of_a_film_has_its_time(tmp_path, time_s):
    query = {"source": "/film.mp4", "index": 3, "time_s": time_s, "hits": []}
    read = page(tmp_path, [query])
    assert ("film.mp4 at 2.50 s" in read.words) == bool(time_s)
