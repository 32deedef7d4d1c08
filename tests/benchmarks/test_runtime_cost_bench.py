from __future__ import annotations

import json
from contextlib import ExitStack

import cv2
import numpy as np
import onnx
import pytest
from helpers import detectors

from jetlift.benchmarks import runtime_cost_bench as bench
from jetlift.benchmarks.runtime_cost_bench import Timing
from jetlift.export.detector import DetectOptions
from jetlift.export.make import Request, export_onnx


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory):
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("detector")
    onnx.save(detectors.detector(), folder / "tiny.onnx")
    (folder / "labels.txt").write_text("red\nblue\n", encoding="utf-8")
    options = DetectOptions(folder / "labels.txt")
    asked = Request(folder / "bundle", ("fp32",))
    return export_onnx(folder / "tiny.onnx", asked, detect=options).folder


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """A video whose frames have a red square, and every other one a blue one too."""
    path = tmp_path_factory.mktemp("video") / "squares.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (128, 96))
    for number in range(6):
        picture = np.zeros((96, 128, 3), np.uint8)
        picture[32:64, 32:64] = (0, 0, 255)
        if number % 2:
            picture[0:32, 96:128] = (255, 0, 0)
        writer.write(picture)
    writer.release()
    return path


def test_every_row_finds_the_same_boxes(bundle_folder, squares, tmp_path):
    with ExitStack() as stack:
        rows = bench.passes(bundle_folder, 1, stack)
        timings, apart = bench.measure(rows, squares, tmp_path, 2)
    assert apart == {bench.ONE: 0, bench.OVERLAPPED: 0}
    assert {name: len(taken) for name, taken in timings.items()} == dict.fromkeys(rows, 2)
    lines = (tmp_path / f"{bench.ONE}.jsonl").read_text(encoding="utf-8").splitlines()
    assert [len(json.loads(line)["labels"]) for line in lines] == [1, 2, 1, 2, 1, 2]


def test_boxes_that_differ_are_counted(tmp_path):
    row = {"label_ids": [1], "scores": [0.5], "boxes_xyxy": [[0, 0, 8, 8]]}
    others = [row | {"scores": [0.6]}, row | {"boxes_xyxy": [[0, 0, 8, 9]]}, row]
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text("\n".join([json.dumps(row)] * 3), encoding="utf-8")
    second.write_text("\n".join(map(json.dumps, others)), encoding="utf-8")
    assert bench.differing(first, second) == 2
    second.write_text(json.dumps(row), encoding="utf-8")
    assert bench.differing(first, second) == 3


@pytest.mark.parametrize(
    ("one", "overlapped", "apart", "met"),
    [
        (Timing(2.0, 1.02), Timing(1.5, 1.4), 0, True),
        (Timing(2.0, 1.05), Timing(1.5, 1.4), 0, False),
        (Timing(2.0, 1.02), Timing(2.1, 1.4), 0, False),
        (Timing(2.0, 1.02), Timing(1.5, 1.4), 1, False),
    ],
)
def test_the_verdict_needs_every_aim(one, overlapped, apart, met):
    timings = {
        bench.SAME: [Timing(2.0, 1.0)] * 3,
        bench.ONE: [one] * 3,
        bench.OVERLAPPED: [overlapped] * 3,
    }
    assert bench.report(timings, {bench.ONE: apart}, 10) is met


def test_a_ratio_is_the_median_of_pairs():
    beside = [Timing(1, 1.0), Timing(1, 2.0), Timing(1, 4.0)]
    taken = [Timing(1, 3.0), Timing(1, 2.0), Timing(1, 8.0)]
    assert bench.ratio(taken, beside, "cpu_s") == 2.0


def test_the_generated_video_can_be_read(tmp_path):
    bench.generated_video(tmp_path / "made.mp4", 4)
    capture = cv2.VideoCapture(str(tmp_path / "made.mp4"))
    shapes = []
    while (read := capture.read())[0]:
        shapes.append(read[1].shape)
    capture.release()
    assert shapes == [(480, 640, 3)] * 4
