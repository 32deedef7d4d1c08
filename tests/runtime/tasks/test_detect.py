from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import detectors

from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import (
    ArtefactError,
    EngineLibraryError,
    UnknownNameError,
    UsageError,
)
from jetlift.runtime.run import run_task
from jetlift.runtime.session import open_session
from jetlift.runtime.session.fake import FakeSession
from jetlift.runtime.sources import Frame, open_source
from jetlift.runtime.tasks import open_task
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Task


@pytest.fixture(scope="module")
def detecting_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    import onnx

    from jetlift.export.detector import DetectOptions
    from jetlift.export.make import Request, export_onnx

    folder = tmp_path_factory.mktemp("detector")
    onnx.save(detectors.detector(), folder / "tiny.onnx")
    (folder / "labels.txt").write_text("red\nblue\n", encoding="utf-8")
    return export_onnx(
        folder / "tiny.onnx",
        Request(folder / "bundle", ("fp32",)),
        detect=DetectOptions(folder / "labels.txt"),
    )


@pytest.fixture(scope="module")
def detecting_session(detecting_bundle: Bundle) -> Iterator[Session]:
    with open_session(
        detecting_bundle, "main", "fp32", target="cpu-onnxruntime", threads=1
    ) as opened:
        yield opened


@pytest.fixture
def task(detecting_bundle: Bundle, detecting_session: Session) -> Task:
    return open_task("detect", detecting_bundle, detecting_session, precision="fp32")


def frame(image_bgr: np.ndarray) -> Frame:
    return Frame("still.png", 0, 0.0, image_bgr)


def test_squares_are_found_where_they_are_and_by_their_names(task: Task) -> None:
    outcome = task.process(frame(detectors.picture((16, 32, "red"), (48, 0, "blue"))))
    fields = json.loads(json.dumps(outcome.fields))
    assert list(fields) == [
        "source", "index", "time_s", "boxes_xyxy", "scores", "labels", "label_ids",
    ]  # fmt: skip
    found = dict(zip(fields["labels"], fields["boxes_xyxy"], strict=True))
    assert found == {"red": [16, 32, 32, 48], "blue": [48, 0, 64, 16]}
    assert all(0.3 <= score <= 1 for score in fields["scores"])
    assert [("red", "blue")[number] for number in fields["label_ids"]] == fields["labels"]


def test_boxes_are_in_the_pictures_pixels_under_letterbox(task: Task) -> None:
    # 128 x 64 is halved and lies in the upper half of the input.
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[32:64, 64:96] = (0, 0, 250)
    fields = task.run(frame(wide))
    (box,) = fields["boxes_xyxy"]
    np.testing.assert_allclose(box, [64, 32, 96, 64], atol=1)


def test_an_empty_picture_has_no_boxes_and_is_drawn_as_it_is(task: Task) -> None:
    item = frame(np.zeros((400, 400, 3), np.uint8))
    outcome = task.process(item)
    assert outcome.fields["boxes_xyxy"] == outcome.fields["labels"] == []
    np.testing.assert_array_equal(task.draw(item, outcome), item.image_bgr)


def test_the_drawing_marks_the_box_and_leaves_the_picture(task: Task) -> None:
    import cv2

    image_bgr = cv2.resize(
        detectors.picture((32, 32, "red")), (640, 640), interpolation=cv2.INTER_NEAREST
    )
    item, before = frame(image_bgr), image_bgr.copy()
    drawn = task.draw(item, task.process(item))
    np.testing.assert_array_equal(image_bgr, before)
    changed = np.argwhere((drawn != image_bgr).any(axis=2))
    assert changed[:, 1].min() >= 310
    assert changed[:, 0].max() <= 490
    assert not (drawn[350:450, 350:450] != image_bgr[350:450, 350:450]).any()


def test_a_run_writes_lines_and_pictures(tmp_path: Path, task: Task) -> None:
    import cv2

    for number, colour in enumerate(("red", "blue")):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), detectors.picture((16, 16, colour)))
    with open_source([str(tmp_path)]) as source:
        summary = run_task(task, source, out=tmp_path / "out")
    assert summary.done == 2
    lines = (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["labels"] for line in lines] == [["red"], ["blue"]]
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 2


def test_texts_and_broken_outputs_are_refused(
    task: Task, detecting_bundle: Bundle, detecting_session: Session
) -> None:
    with pytest.raises(UsageError, match="Boxes are looked for in pictures"):
        task.process(TextItem("a.txt", 0, "red"))
    broken = FakeSession(
        inputs=detecting_session.inputs,
        outputs=detecting_session.outputs,
        compute=lambda _feeds: {"output": np.full((1, detectors.CELLS, 7), np.nan, np.float32)},
    )
    with pytest.raises(EngineLibraryError, match="NaN"):
        open_task("detect", detecting_bundle, broken, precision="fp32").process(
            frame(detectors.picture())
        )


def test_a_part_without_a_head_is_no_detector(bundle: Bundle, session: Session) -> None:
    manifest = replace(bundle.manifest, tasks=("detect",))
    offering = replace(bundle, manifest=manifest)
    with pytest.raises(UnknownNameError, match="has 0 parts that give boxes"):
        open_task("detect", offering, session, precision="fp32")
    with pytest.raises(UsageError, match="Part image is no detector"):
        open_task("detect", offering, session, precision="fp32", part="image")


def test_labels_that_do_not_fit_the_output_are_refused(
    detecting_bundle: Bundle, detecting_session: Session
) -> None:
    part = detecting_bundle.manifest.parts["main"]
    output = replace(part.outputs[0], shape=(1, detectors.CELLS, 8))
    parts = {"main": replace(part, outputs=(output,))}
    wrong = replace(detecting_bundle, manifest=replace(detecting_bundle.manifest, parts=parts))
    with pytest.raises(ArtefactError, match="has 2 labels, the output 8 columns"):
        open_task("detect", wrong, detecting_session, precision="fp32")
