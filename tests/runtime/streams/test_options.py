from __future__ import annotations

import pytest

from jetlift.runtime.errors import UsageError
from jetlift.runtime.streams.options import Options


def test_options_of_every_kind_are_read():
    options = Options("x", "size=640x480&fps=29.97,frames=3&format=MJPG&transport=tcp")
    assert options.size_wh("size") == (640, 480)
    assert options.number("fps", 1, 60) == 29.97
    assert options.whole("frames", 1, 10) == 3
    assert options.text("format", "[A-Z]{4}", "four letters") == "MJPG"
    assert options.word("transport", ("tcp", "udp")) == "tcp"
    options.finish()


def test_what_is_left_out_is_none():
    options = Options("x", "")
    asked = options.size_wh("a"), options.number("b", 0, 1), options.whole("c", 0, 1)
    assert (*asked, options.word("d", "e"), options.text("f", ".", "one")) == (None,) * 5
    options.finish()


def test_an_unknown_option_is_refused_with_those_that_are_known():
    options = Options("csi://0", "fsp=3")
    options.number("fps", 1, 240)
    with pytest.raises(UsageError, match=r"csi://0 has the unknown option 'fsp'.*fps \(1 to 240\)"):
        options.finish()


@pytest.mark.parametrize("text", ["size", "=3", "size=", "a=1&a=2", "&", "a=1,,b=2"])
def test_what_is_no_option_is_refused(text):
    with pytest.raises(UsageError, match="each once"):
        Options("x", text)


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("a=640", lambda options: options.size_wh("a")),
        ("a=0x480", lambda options: options.size_wh("a")),
        ("a=99999x3", lambda options: options.size_wh("a")),
        ("a=fast", lambda options: options.number("a", 0, 1)),
        ("a=nan", lambda options: options.number("a", 0, 1)),
        ("a=inf", lambda options: options.number("a", 0, 1)),
        ("a=2", lambda options: options.number("a", 0, 1)),
        ("a=1.5", lambda options: options.whole("a", 0, 3)),
        ("a=sctp", lambda options: options.word("a", ("tcp", "udp"))),
        ("a=MJPEG", lambda options: options.text("a", ".{4}", "four characters")),
    ],
)
def test_a_value_that_cannot_be_is_refused(text, ask):
    with pytest.raises(UsageError, match=r"x has a=.*For a:"):
        ask(Options("x", text))
