"""The task around any family: fields, masks, drawing, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.words_bundle import words_bundle

from jetlift.runtime import masks
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import UsageError
from jetlift.runtime.prompts import Prompts, PromptsHead
from jetlift.runtime.sources import Frame
from jetlift.runtime.task_forms import OpenVocabulary
from jetlift.runtime.tasks import artefact, input_part, open_task, other_parts
from jetlift.runtime.tasks.open_detect import Found, OpenDetectTask, on_picture
from jetlift.runtime.tasks.open_owl import corners, sigmoid, suppressed
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from pathlib import Path

FACTS = OpenVocabulary(
    family="owl", image="image", text="text", template="a {}", score_threshold=0.1,
    iou_threshold=None,
)  # fmt: skip


class Fixed:
    """A family that finds what it is told to."""

    notes = ("a note",)

    def __init__(self, found: Found) -> None:
        self.found = found

    @property
    def engine(self) -> Fixed:
        return self

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"seen": feeds["pixels"] + 1}

    def prepare(self, image_bgr: np.ndarray, prompts: Prompts) -> dict[str, np.ndarray]:
        assert image_bgr.dtype == np.uint8
        assert prompts.head.prompts == ("dog", "ear tag")
        return {"pixels": image_bgr}

    def finish(
        self, image_bgr: np.ndarray, outputs: dict[str, np.ndarray], prompts: Prompts
    ) -> Found:
        assert np.array_equal(outputs["seen"], image_bgr + 1)
        assert prompts.head.prompts == ("dog", "ear tag")
        return self.found


def prompts() -> Prompts:
    stamp = artefact.Stamp("0", "0" * 64, "m", "text", "fp32", "cpu", ".")
    head = PromptsHead("jetlift-prompts", 1, stamp, {}, ("dog", "ear tag"), ("{}",))
    return Prompts(head, np.eye(2, dtype=np.float32))


def task_of(*, with_masks: bool) -> OpenDetectTask:
    mask = np.zeros((40, 50), bool)
    mask[5:20, 10:30] = True
    found = Found(
        np.array([[10, 5, 30, 20.004], [0, 0, 50, 40]], np.float32),
        np.array([0.91236, 0.5], np.float32),
        np.array([1, 0]),
        [mask, ~mask] if with_masks else None,
    )
    return OpenDetectTask(Fixed(found), prompts())


FRAME = Frame("p.png", 3, None, np.full((40, 50, 3), 120, np.uint8))


def test_fields_name_the_prompts() -> None:
    task = task_of(with_masks=False)
    assert task.run(FRAME) == {
        "source": "p.png", "index": 3, "time_s": None,
        "boxes_xyxy": [[10.0, 5.0, 30.0, 20.0], [0.0, 0.0, 50.0, 40.0]],
        "scores": [0.9124, 0.5], "labels": ["ear tag", "dog"], "label_ids": [1, 0],
    }  # fmt: skip
    assert task.notes == ("a note",)
    with pytest.raises(UsageError, match="pictures"):
        task.process(TextItem("t", 0, "dog"))


def test_masks_are_codes_and_are_drawn() -> None:
    task = task_of(with_masks=True)
    outcome = task.process(FRAME)
    first = masks.decode(outcome.fields["masks"][0])
    assert first.sum() == 15 * 20
    drawn = task.draw(FRAME, outcome)
    plain_task = task_of(with_masks=False)
    plain = plain_task.draw(FRAME, plain_task.process(FRAME))
    assert drawn is not None
    assert plain is not None
    assert drawn.shape == plain.shape
    assert (drawn != plain).any(axis=2).mean() > 0.5
    assert (FRAME.image_bgr == 120).all()


def test_boxes_are_cut_at_the_picture_and_those_without_area_told() -> None:
    boxes = np.array([[-5, -5, 5, 5], [60, 0, 70, 9], [3, 3, 3, 9], [1, 1, 99, 99]])
    cut, kept = on_picture(boxes, (50, 40))
    np.testing.assert_array_equal(cut[0], [0, 0, 5, 5])
    np.testing.assert_array_equal(cut[3], [1, 1, 50, 40])
    assert kept.tolist() == [True, False, False, True]


def test_overlap_is_judged_within_a_prompt_and_only_where_asked() -> None:
    from jetlift.runtime.boxes import Boxes

    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9]], np.float32)
    found = Boxes(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 0, 1]))
    assert suppressed(found, None).labels.tolist() == [0, 0, 1]
    assert suppressed(found, 0.5).labels.tolist() == [0, 1]


def test_corners_and_sigmoid() -> None:
    np.testing.assert_array_equal(corners(np.array([[5.0, 5, 4, 2]])), [[3, 4, 7, 6]])
    assert corners(np.zeros((0, 4))).shape == (0, 4)
    with np.errstate(all="raise"):
        np.testing.assert_allclose(sigmoid(np.array([-80.0, 0, 80])), [0, 0.5, 1], atol=1e-6)


def test_a_closed_detector_takes_no_prompts_and_another_model_has_no_family(
    tmp_path: Path,
) -> None:
    words = words_bundle(tmp_path / "words")
    offered = replace(words.manifest, tasks=("detect",))
    closed = Bundle(words.folder, offered, words.sha256)
    with pytest.raises(UsageError, match="its classes are fixed"):
        open_task("detect", closed, None, precision="fp32", prompts=prompts())  # type: ignore[arg-type]
    parts = dict(offered.parts)
    parts["text"] = replace(parts["text"], runs_per="prompt")
    parts["masks"] = parts["image"]
    manifest = replace(offered, zero_shot=None, open_vocabulary=FACTS, parts=parts)
    opened = Bundle(words.folder, manifest, words.sha256)
    assert input_part(opened, "detect") == "image"
    assert other_parts(opened, "detect", "image") == ("masks",)
    with pytest.raises(UsageError, match="without its prompts"):
        open_task("detect", opened, None, precision="fp32")  # type: ignore[arg-type]
