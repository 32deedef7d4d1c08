from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
from helpers import words_bundle

from jetlift.benchmarks import cold_start_bench as bench
from jetlift.benchmarks.cold_start_bench import Failure, Way


def test_a_real_run_and_a_peer_that_is_not_there(tmp_path):
    pytest.importorskip("openvino")
    words_bundle.classes_bundle(tmp_path / "bundle")
    picture = tmp_path / "grey.png"
    cv2.imwrite(str(picture), np.full((40, 50, 3), 128, np.uint8))
    ways = [
        Way(bench.JETLIFT, sys.executable, (str(tmp_path / "bundle"),)),
        Way("ultralytics", str(tmp_path / "no-python"), ("yolo11n.yaml",)),
    ]
    seen = bench.measure(ways, bench.input_of(picture), 1)
    import_s, first_s, memory_mb = seen[bench.JETLIFT]
    assert 0 < import_s < first_s
    assert memory_mb > 10
    assert "No such file" in seen["ultralytics"].reason
    assert bench.judge(seen)


def test_a_child_that_fails_says_why(tmp_path):
    way = Way(bench.JETLIFT, sys.executable, (str(tmp_path),))
    failure = bench.once(way, "anything")
    assert isinstance(failure, Failure)
    assert failure.reason


@pytest.mark.parametrize(
    ("peer", "met"),
    [
        ([2.0, 3.0, 400.0], True),
        ([0.1, 3.0, 400.0], False),
        ([2.0, 0.5, 400.0], False),
        ([2.0, 3.0, 90.0], False),
        (Failure("no such package"), True),
    ],
)
def test_the_verdict_needs_every_figure(capsys, peer, met):
    assert bench.judge({bench.JETLIFT: [1.0, 1.0, 100.0], "transformers": peer}) is met
    printed = capsys.readouterr().out
    assert ("did not run: no such package" in printed) is isinstance(peer, Failure)


def test_without_jetlift_nothing_is_met():
    assert not bench.judge({bench.JETLIFT: Failure("broken")})


def test_a_text_is_read_from_its_file(tmp_path):
    path = tmp_path / "one.txt"
    path.write_text("A sentence.\n", encoding="utf-8")
    assert bench.input_of(path) == "A sentence."
    assert bench.input_of(tmp_path / "a.JPG").endswith("a.JPG")
