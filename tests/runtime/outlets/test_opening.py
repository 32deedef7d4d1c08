"""Any outlet from one text, and full disks under them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.outlet_results import boxes, result
from helpers.web_server import WebServer

from jetlift.runtime.errors import StorageError, UsageError
from jetlift.runtime.outlets import open_sink
from jetlift.runtime.outlets.csv_sink import csv_sink
from jetlift.runtime.outlets.file_sink import PartedSink, PerSourceSink
from jetlift.runtime.outlets.files import PicturesSink, jsonl_sink
from jetlift.runtime.outlets.opening import KINDS
from jetlift.runtime.outlets.parts import Rotation
from jetlift.runtime.outlets.queued import QueuedSink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("spec", "kind", "name", "wants_pictures"),
    [
        ("results.jsonl", PartedSink, "jsonl", False),
        ("out.csv", PartedSink, "csv", False),
        ("OUT.CSV#keep-gib=2&part-min=10", PartedSink, "csv", False),
        ("out.srt", PerSourceSink, "captions", False),
        ("out.vtt#part-mib=1", PerSourceSink, "captions", False),
        ("out.npz", PartedSink, "arrays", False),
        ("out.mp4#fps=15&part-min=5", PerSourceSink, "video", True),
        ("pictures/", PicturesSink, "pictures", True),
        ("pictures/#every=30&format=png&keep-gib=1", PicturesSink, "pictures", True),
        ("http://h/hook", QueuedSink, "webhook", False),
        ("https://h/hook#batch=20&linger=2&queue=1000", QueuedSink, "webhook", False),
        ("mqtt://h/t#qos=0", QueuedSink, "mqtt", False),
        ("mqtts://h:99/t/u", QueuedSink, "mqtt", False),
        ("rtsp://u:p@h/x#kbps=2000&fps=20", QueuedSink, "rtsp", True),
        ("rtmp://h/a/k", QueuedSink, "rtmp", True),
        ("udp://h:1#encoder=mpeg4", QueuedSink, "udp", True),
        ("gst:fakesink#fps=5", QueuedSink, "gst", True),
        ("gst://fakesink sync=false", QueuedSink, "gst", True),
    ],
)
def test_every_kind_is_opened(spec: str, kind: type, name: str, wants_pictures: bool) -> None:  # noqa: FBT001
    try:
        sink = open_sink(spec, task="detect")
    except Exception as error:
        if getattr(error, "exit_code", None) == 4:
            pytest.skip(f"this machine cannot: {error}")
        raise
    assert isinstance(sink, kind)
    assert (sink.name, sink.wants_pictures) == (name, wants_pictures)
    assert sink.health().written == 0


@pytest.mark.parametrize("spec", ["out.txt", "out", "", "ftp://h/x", "kafka://h/t", "results.json"])
def test_unknown_kinds_are_told_with_those_that_are_known(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_sink(spec)
    assert all(kind in str(caught.value) for kind in KINDS)


@pytest.mark.parametrize(
    "spec",
    [
        "out.csv#every=3", "out.mp4#fps=0", "pictures/#every=0", "pictures/#format=gif",
        "out.jsonl#keep-gib=0", "http://h/#batch=1.5", "gst:fakesink#kbps=3", "gst:",
        "https://h/#linger=-1", "mqtt://h/t#tls=yes",
    ],
)  # fmt: skip
def test_options_that_cannot_be(spec: str) -> None:
    with pytest.raises(UsageError):
        open_sink(spec)


def test_passwords_in_a_spec_are_not_repeated() -> None:
    for spec in ("ftp://me:hunter2@h/x", "https://me:hunter2@h/", "rtsp://me:hunter2@h/x#x=1"):
        with pytest.raises(UsageError) as caught:
            open_sink(spec)
        assert "hunter2" not in str(caught.value)


def test_a_folder_that_is_there_takes_pictures(tmp_path: Path) -> None:
    with open_sink(str(tmp_path), task="detect") as sink:
        sink.write(result(0, drawn=True))
    assert (tmp_path / "000001" / "video0_000000.detect.jpg").is_file()


def test_sinks_side_by_side_get_the_same_results(tmp_path: Path) -> None:
    with WebServer() as server:
        specs = [str(tmp_path / name) for name in ("r.jsonl", "r.csv", "r.srt", "r.mp4")]
        specs += [f"{tmp_path}/pictures/#every=5", f"http://127.0.0.1:{server.port}/"]
        with ExitStack() as stack:
            sinks = [stack.enter_context(open_sink(spec)) for spec in specs]
            for index in range(20):
                for sink in sinks:
                    sink.write(boxes(index, "dog", drawn=True))
    assert [sink.health().written for sink in sinks] == [20] * 6
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pictures", "r.boxes.csv", "r.csv", "r.jsonl", "r.mp4", "r.srt",
    ]  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [json.loads(seen.body) for seen in server.seen] == lines


def test_opening_loads_no_optional_package(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from jetlift.runtime.outlets import open_sink\n"
        "for spec in ('r.jsonl', 'r.csv', 'p/', 'http://h/'): open_sink(spec)\n"
        "import jetlift.runtime.outlets.prometheus\n"
        "print(sorted({'paho', 'prometheus_client', 'torch', 'requests'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv", "r.srt", "r.npz", "pictures/"])
def test_a_full_disk_is_told_with_the_name_of_the_sink(small_disk: Path, name: str) -> None:
    noise = np.random.default_rng(0)
    with (
        pytest.raises(StorageError, match=r"Sink (jsonl|csv|captions|arrays|pictures): ") as caught,
        open_sink(f"{small_disk}/{name}") as sink,
    ):
        for index in range(10_000):
            one = result(index, time_s=index * 1.0, text=f"{index} " + "x" * 500)
            one.outcome.arrays["a"] = np.zeros(512, np.float32)
            picture = noise.integers(0, 255, (48, 64, 3), np.uint8)
            object.__setattr__(one, "drawn_bgr", picture)
            sink.write(one)
    assert "No space left on device" in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_a_small_disk_never_fills_where_a_limit_is_kept(small_disk: Path, name: str) -> None:
    make = csv_sink if name.endswith("csv") else jsonl_sink
    with make(small_disk / name, rotation=Rotation(keep_bytes=128_000)) as sink:
        for index in range(5_000):
            sink.write(result(index, text="x" * 200))
    assert sink.removed > 20
    assert sink.health().written == 5_000
