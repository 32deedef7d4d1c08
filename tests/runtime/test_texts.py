from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.listing import Skipped
from jetlift.runtime.sources import TextItem, open_texts


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


def test_one_text_per_line_and_blank_lines_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "first\n\n  \t\n second one \r\nGrüße 漢字\x0c!\n")
    with open_texts([str(path)]) as source:
        assert list(source) == [
            TextItem(str(path), 0, "first"),
            TextItem(str(path), 3, " second one "),
            TextItem(str(path), 4, "Grüße 漢字\x0c!"),
        ]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfhello\n")
    assert [item.text for item in open_texts([str(path)])] == ["hello"]


def test_a_folder_gives_its_files_in_natural_order(tmp_path: Path) -> None:
    for name in ("t10.txt", "t2.txt", "t1.md"):
        write(tmp_path / name, name)
    assert [item.text for item in open_texts([str(tmp_path)])] == ["t2.txt", "t10.txt"]
    assert [item.text for item in open_texts([str(tmp_path / "*1*.txt")])] == ["t10.txt"]


def test_standard_input_is_read_as_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, "\ufefferste Zeile\n\nGrüße\n".encode())
    assert list(open_texts(["-"])) == [TextItem("-", 0, "erste Zeile"), TextItem("-", 2, "Grüße")]


def test_standard_input_that_is_no_utf8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"fine\nGr\xfc\xdfe\n")
    source = iter(open_texts(["-"]))
    assert next(source).text == "fine"
    with pytest.raises(InputError, match="Line 2 of standard input is not UTF-8 at its byte 2"):
        next(source)


def test_a_file_in_another_encoding_is_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "good")
    write(tmp_path / "b.txt", b"Gr\xfc\xdfe")
    with open_texts([str(tmp_path)]) as source:
        assert [item.text for item in source] == ["good"]
        assert source.skipped == [Skipped(str(tmp_path / "b.txt"), "it is not UTF-8 at byte 2")]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_where_nothing_can_be_read_the_end_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "a.txt", content)
    with pytest.raises(InputError, match="No text could be read"):
        list(open_texts([str(path)]))


def test_the_limit_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "1\n2\n3\n")
    assert [item.text for item in open_texts([str(path)], limit=2)] == ["1", "2"]


def test_what_names_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_texts(["a whole sentence instead of a file"])
    with pytest.raises(InputError, match="no text files"):
        open_texts([str(tmp_path)])
    with pytest.raises(UsageError, match="No input"):
        open_texts([])
    with pytest.raises(UsageError, match="limit"):
        open_texts(["-"], limit=0)


def test_an_argument_may_be_a_text_itself_where_that_is_allowed(tmp_path: Path) -> None:
    path = write(tmp_path / "a file.txt", "inside")
    given = ["What is this?", str(path), "日本の首都は", "two\nlines"]
    with open_texts(given, literal=True) as source:
        assert list(source) == [
            TextItem("argument", 0, "What is this?"),
            TextItem(str(path), 0, "inside"),
            TextItem("argument", 2, "日本の首都は"),
            TextItem("argument", 3, "two\nlines"),
        ]
    for name in ("word", "no such file.txt", " "):
        with pytest.raises(InputError, match="does not exist"):
            open_texts([name], literal=True)
    with pytest.raises(InputError, match="does not exist"):
        open_texts(["What is this then"])
    long = "x " * 5000
    assert [item.text for item in open_texts([long], literal=True)] == [long]
