from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.publish import public_command, public_name, public_sentence, public_text


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("clips/a.mp4", "clips/a.mp4"),
        ("/home/ann lee/clips/a b.mp4", "a b.mp4"),
        ("~/a.mp4", "a.mp4"),
        ("~", "~"),
        ("/", "..."),
        ("/srv/shots/", "shots"),
        ("/dev/video0", "/dev/video0"),
        ("csi://0", "csi://0"),
        ("synthetic://64x48@30?frames=9", "synthetic://64x48@30?frames=9"),
        ("synthetic://ann:secret@host", "synthetic://..."),
        ("rtsp://ann:secret@camera.example:554/1?x=2", "rtsp://..."),
        ("https://example.com/v.mp4", "https://..."),
        ("-", "-"),
        ("a cat on a sofa", "a cat on a sofa"),
    ],
)
def test_names(source: str, shown: str) -> None:
    assert public_name(source) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot open /srv/ann/x.mp4: no such file", "cannot open x.mp4: no such file"),
        ("'/srv/ann/x.mp4' is none", "'x.mp4' is none"),
        ("mqtt://u:p@host:1883 refused", "mqtt://... refused"),
        ("broker.example.com:1883 refused", "... refused"),
        ("localhost:1883 refused", "... refused"),
        ("8.8.8.8 and 8.8.4.4:53 are silent", "... and ... are silent"),
        ("30 frames/s at 12:30, 1/2 done", "30 frames/s at 12:30, 1/2 done"),
        ("built by TensorRT 10.3.0.30", "built by TensorRT 10.3.0.30"),
        ("/dev/video0 is busy", "/dev/video0 is busy"),
    ],
)  # fmt: skip
def test_sentences(text: str, shown: str) -> None:
    assert public_text(text) == shown


def test_a_sentence_about_a_source_with_spaces_in_its_name() -> None:
    name = "/home/ann lee/a b.mp4"
    assert public_sentence(f"{name} ended early", name) == "a b.mp4 ended early"
    assert public_sentence("nothing", "") == "nothing"


def test_a_command_line_has_no_secret_in_it() -> None:
    words = [
        "jetlift", "run", "/srv/ann/clip", "rtsp://a:b@c/1", "--view-token", "s3cret",
        "--mqtt-password=pw", "--out=/srv/ann/out", "--prompt", "a dog", "--limit", "3",
    ]  # fmt: skip
    shown = public_command(words)
    assert shown == (
        "jetlift run clip rtsp://... --view-token ... --mqtt-password=... --out=out "
        "--prompt 'a dog' --limit 3"
    )


@given(st.text(max_size=60))
def test_publishing_twice_changes_nothing_more(text: str) -> None:
    assert public_text(public_text(text)) == public_text(text)


@given(
    st.sampled_from(("rtsp", "http", "mqtt", "udp")),
    st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=8, max_size=12),
)
def test_no_password_comes_through(kind: str, password: str) -> None:
    secret = f"Zq{password}"
    assert secret not in public_text(f"to {kind}://user:{secret}@host/path it failed")
    assert secret not in public_command(["jetlift", "--password", secret, f"--token={secret}"])
