"""Parts of runs without an end: when they end, what they are called, which ones go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.outlet_results import result
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import UsageError
from jetlift.runtime.outlets.file_sink import source_stem
from jetlift.runtime.outlets.files import jsonl_sink
from jetlift.runtime.outlets.parts import Rotation


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def indices(path: Path) -> list[int]:
    return [json.loads(line)["index"] for line in path.read_text().splitlines()]


def run(path: Path, count: int, rotation: Rotation | None = None, text: int = 0) -> int:
    with jsonl_sink(path, rotation=rotation) as sink:
        for index in range(count):
            sink.write(result(index, text="x" * text))
    return sink.removed


def test_without_a_rotation_there_is_one_file_of_the_name_asked_for(tmp_path: Path) -> None:
    run(tmp_path / "r.jsonl", 3)
    run(tmp_path / "r.jsonl", 2)
    assert names(tmp_path) == ["r.jsonl"]
    assert indices(tmp_path / "r.jsonl") == [0, 1]


def test_parts_end_at_a_size_and_keep_every_result(tmp_path: Path) -> None:
    run(tmp_path / "r.jsonl", 10, Rotation(part_bytes=1000), text=400)
    assert names(tmp_path) == [f"r-{number:06d}.jsonl" for number in (1, 2, 3, 4)]
    parts = sorted(tmp_path.iterdir())
    assert [indices(path) for path in parts] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert all(path.stat().st_size < 1000 + 500 for path in parts)


def test_parts_end_at_an_age(tmp_path: Path) -> None:
    clock = FakeClock()
    with jsonl_sink(tmp_path / "r.jsonl", rotation=Rotation(part_s=60), clock=clock) as sink:
        for index in range(5):
            sink.write(result(index))
            clock.advance(25)
    assert [indices(path) for path in sorted(tmp_path.iterdir())] == [[0, 1, 2], [3, 4]]


def test_numbers_go_on_behind_an_earlier_run_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from helpers.outlet_results import result\n"
        "from jetlift.runtime.outlets.files import jsonl_sink\n"
        "from jetlift.runtime.outlets.parts import Rotation\n"
        "sink = jsonl_sink(Path(sys.argv[1]), rotation=Rotation(part_bytes=100)).__enter__()\n"
        "for index in range(3): sink.write(result(index, text='x' * 100))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    tests = Path(__file__).parents[2]
    command = [sys.executable, "-c", program, str(tmp_path / "r.jsonl"), str(tests)]
    assert subprocess.run(command, check=False, cwd=tmp_path).returncode == -signal.SIGKILL
    assert names(tmp_path) == ["r-000001.jsonl", "r-000002.jsonl", "r-000003.jsonl.partial"]
    assert indices(tmp_path / "r-000003.jsonl.partial") == [2]
    run(tmp_path / "r.jsonl", 2, Rotation(part_bytes=100), text=100)
    assert names(tmp_path)[2:] == ["r-000003.jsonl.partial", "r-000004.jsonl", "r-000005.jsonl"]


def test_the_oldest_go_so_that_all_stay_below_the_limit(tmp_path: Path) -> None:
    for name in ("r-000001.jsonl", "r-000002.jsonl.partial"):  # of an earlier run
        (tmp_path / name).write_text("x" * 3000)
    others = ["notes.jsonl", "r-1.jsonl", "r-000001.txt", "rr-000001.jsonl", "r.jsonl"]
    for name in others:
        (tmp_path / name).write_text("x" * 50_000)
    limit, largest = 8000, 0
    with jsonl_sink(tmp_path / "r.jsonl", rotation=Rotation(keep_bytes=limit)) as sink:
        for index in range(60):
            sink.write(result(index, text="x" * 300))
            ours = [path for path in tmp_path.iterdir() if path.name not in others]
            largest = max(largest, sum(path.stat().st_size for path in ours))
    assert largest < limit + 500  # one result
    assert largest > limit * 0.6
    assert set(others) <= set(names(tmp_path))
    kept = sorted(path for path in tmp_path.iterdir() if path.name not in others)
    assert indices(kept[-1])[-1] == 59
    kept_indices = [index for path in kept for index in indices(path)]
    assert kept_indices == list(range(kept_indices[0], 60))
    assert sink.removed == int(kept[0].name[2:8]) - 1


@given(st.floats(-10, 0), st.sampled_from(["part_bytes", "part_s", "keep_bytes"]))
def test_limits_that_cannot_be(value: float, name: str) -> None:
    with pytest.raises(UsageError, match="above 0"):
        Rotation(**{name: value})


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("/dev/video0", "video0"),
        ("rtsp://user:pw@host:554/yard", "yard"),
        ("rtsp://user:pw@host:554", "host_554"),
        ("rtsp://host/live?token=s3cret", "live"),
        ("csi://0", "0"),
        ("clips/a b.mp4", "a_b"),
        ("http://h/", "h"),
        ("///", "source"),
    ],
)
def test_names_of_sources_in_names_of_files(source: str, stem: str) -> None:
    assert source_stem(source) == stem


@given(st.text())
def test_any_source_gives_a_name_that_is_safe(source: str) -> None:
    stem = source_stem(source)
    assert stem
    assert len(stem) <= 60
    assert os.sep not in stem
    assert "." not in stem
