from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from helpers import detectors
from hypothesis import given
from hypothesis import strategies as st

from jetlift.__main__ import run
from jetlift.export.coco import COCO_LABELS
from jetlift.export.detector import STRIDES, DetectOptions, as_detector, check_form
from jetlift.export.make import Request, export_onnx
from jetlift.runtime import boxes
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.manifest import Part, TensorSpec

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def part(input_shape: tuple, output_shape: tuple, dtype: str = "float32") -> Part:
    return Part(
        inputs=(TensorSpec("images", dtype, input_shape),),  # type: ignore[arg-type]
        outputs=(TensorSpec("output", "float32", output_shape),),
        parameters=0,
        preprocess=None,
        variants={},
    )


YOLOX = part((1, 3, 416, 416), (1, 3549, 85))


@pytest.fixture
def tiny(tmp_path) -> Path:
    onnx.save(detectors.detector(), tmp_path / "tiny.onnx")
    (tmp_path / "labels.txt").write_text("red\nblue\n\n", encoding="utf-8")
    return tmp_path / "tiny.onnx"


@pytest.fixture
def pictures(tmp_path) -> Path:
    """24 pictures with one to three squares each."""
    folder, random = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for number in range(24):
        places = random.permutation(16)[: random.integers(1, 4)]
        squares = [
            (int(at % 4) * 16, int(at // 4) * 16, "red" if at % 3 else "blue") for at in places
        ]
        noise = random.integers(0, 20, (64, 64, 3), np.uint8)
        picture = cv2.add(detectors.picture(*squares), noise)
        cv2.imwrite(str(folder / f"{number:02d}.png"), picture)
    return folder


def test_a_yolox_graph_gets_its_preprocessing_and_cocos_labels():
    described, labels = as_detector(YOLOX)
    assert labels == COCO_LABELS
    assert (len(set(labels)), labels[0], labels[79]) == (80, "person", "toothbrush")
    assert (labels[5], labels[58], labels[62]) == ("bus", "potted plant", "tv")
    spec, head = described.preprocess, described.detection
    assert (spec.size_wh, spec.fit, spec.colour, spec.pad_value) == (
        (416, 416), "letterbox", "bgr", 114,
    )  # fmt: skip
    assert (spec.scale, spec.mean, spec.std) == (1.0, (0.0,) * 3, (1.0,) * 3)
    assert (head.head, head.strides, head.score_threshold, head.iou_threshold) == (
        "yolox", (8, 16, 32), 0.3, 0.45,
    )  # fmt: skip


def test_width_and_height_are_not_mixed_up():
    described, _ = as_detector(part((1, 3, 384, 640), (1, 5040, 85)))
    assert described.preprocess.size_wh == (640, 384)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (part((1, 416, 416, 3), (1, 3549, 85)), r"fixed H and W"),
        (part((1, 3, "h", "w"), (1, 3549, 85)), r"fixed H and W"),
        (part((1, 3, 416, 416), (1, 3549, 85), "uint8"), r"One input, float32"),
        (part((1, 3, 400, 416), (1, 3549, 85)), "416x400 pixels. Sides that are multiples of 32"),
        (part((1, 3, 640, 640), (1, 3549, 85)), r"\[1, 3549, 85\] for 640x640.*8400 cells"),
        (part((1, 3, 416, 416), (1, 85, 3549)), r"\[1, 85, 3549\].*3549 cells"),
        (part((1, 3, 416, 416), (1, 3549, 5)), "5 columns. At least 6"),
        (part((1, 3, 416, 416), (1, 3549)), r"\[1, 3549\]"),
        (replace(YOLOX, outputs=YOLOX.outputs * 2), "One output"),
        (replace(YOLOX, inputs=()), "takes nothing"),
        (part((1, 3, 416, 416), (1, 3549, 84)), "79 classes, and their names are not known"),
    ],
)
def test_what_is_no_yolox_graph_is_refused(wrong, told):
    with pytest.raises(UsageError, match=told):
        as_detector(wrong)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"red\n", "has 1 labels"),
        (b"red\n\nblue\n", "has 3 labels, 1 of them blank"),
        (b"\xff\xfe\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, content, told):
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=told):
        as_detector(part((1, 3, 64, 64), (1, 84, 7)), path)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(416, 416), (640, 384), (64, 64)]))
def test_the_form_is_told_from_the_numbers(seed, size_wh):
    random = np.random.default_rng(seed)
    corners, strides = boxes.cells(size_wh, STRIDES)
    raw = random.random((1, len(corners), 9)).astype(np.float32)
    raw[..., :4] = random.normal(0.5, 1.0, (1, len(corners), 4))
    check_form(raw, size_wh)
    decoded = raw.copy()
    decoded[..., :2] = (raw[..., :2] + corners) * strides
    decoded[..., 2:4] = np.exp(raw[..., 2:4]) * strides
    with pytest.raises(UsageError, match="pixels already"):
        check_form(decoded, size_wh)
    logits = raw.copy()
    logits[..., 4:] = random.normal(0, 4, logits[..., 4:].shape)
    with pytest.raises(UsageError, match="after their sigmoid"):
        check_form(logits, size_wh)


@pytest.mark.parametrize(
    ("form", "told"), [("decoded", "pixels already"), ("logits", "after their sigmoid")]
)
def test_a_graph_of_another_form_leaves_nothing_behind(tmp_path, tiny, form, told):
    onnx.save(detectors.detector(**{form: True}), tiny)
    out = tmp_path / "bundle"
    with pytest.raises(UsageError, match=told):
        export_onnx(tiny, Request(out, ("fp32",)), detect=DetectOptions(tmp_path / "labels.txt"))
    assert not out.exists()


def test_from_the_command_line_to_boxes(capsys, tmp_path, tiny, pictures):
    out, labels = tmp_path / "bundle", tmp_path / "labels.txt"
    command = ["export", "--onnx", tiny, "--task", "detect", "--labels", labels]
    assert run([str(a) for a in (*command, "--samples", pictures, "-o", out, "--json")]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["tasks"] == ["detect"]
    assert "labels given" in manifest["weights"]["note"]
    described = manifest["parts"]["main"]
    assert described["preprocess"]["fit"] == "letterbox"
    for name in ("fp16", "int8"):
        fidelity = described["variants"][name]["fidelity"]
        assert fidelity["budget"] == "matched>=0.95, precision_to_fp32>=0.9"
        assert fidelity["met"]
        assert fidelity["figures"]["matched"] >= 0.95
    assert described["variants"]["int8"]["quantisation"]["int8_share"] > 0
    assert (Bundle.open(out).path("assets/labels.txt")).read_text("utf-8") == "red\nblue\n"
    ran = ["run", out, pictures, "--precision", "int8", "--limit", "3", "-o", tmp_path / "found"]
    assert run([str(argument) for argument in ran]) == 0
    lines = (tmp_path / "found" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert all(set(json.loads(line)["labels"]) <= {"red", "blue"} for line in lines)
    assert len(list((tmp_path / "found" / "pictures").iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--task", "detect"], "2 classes, and their names are not known"),
        (["--labels", "labels.txt"], "Got --labels without --task"),
        (["--task", "segment"], "--task got 'segment'"),
    ],
)
def test_options_that_do_not_fit_are_usage(capsys, tmp_path, tiny, options, told):
    command = ["export", "--onnx", str(tiny), "-o", str(tmp_path / "out"), "--precision", "fp32"]
    assert run([*command, *options]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_of_the_zoo_takes_no_task(capsys, tmp_path):
    command = ["export", "dinov2-small", "--task", "detect", "-o", str(tmp_path / "out")]
    assert run(command) == 2
    assert "Got dinov2-small with --task" in capsys.readouterr().err


def yolox_nano() -> Path:
    path = SHARED / "weights" / "yolox_nano.onnx"
    if not path.is_file():
        pytest.skip("YOLOX-nano's weights of shared/data are not beside this checkout")
    return path


def test_yolox_nano_finds_a_known_scene(tmp_path):
    bundle = export_onnx(
        yolox_nano(), Request(tmp_path / "yolox", ("fp32",)), detect=DetectOptions()
    )
    picture = SHARED / "coco_samples" / "000000000785.jpg"
    out = tmp_path / "out"
    assert run(["run", str(bundle.folder), str(picture), "-o", str(out)]) == 0
    (line,) = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
    fields = json.loads(line)
    # A skier who fills the picture: number 785 of COCO's val2017.
    assert fields["labels"] == ["person", "skis"]
    np.testing.assert_allclose(fields["boxes_xyxy"][0], [278, 55, 492, 385], atol=20)


@pytest.mark.long
def test_yolox_nano_in_int8_finds_what_fp32_finds(tmp_path):
    bundle = export_onnx(
        yolox_nano(),
        Request(tmp_path / "yolox", ("fp32", "fp16", "int8"), SHARED / "coco_samples"),
        detect=DetectOptions(),
    )
    variants = bundle.manifest.parts["main"].variants
    assert variants["fp16"].fidelity.figures["matched"] >= 0.99
    assert variants["int8"].fidelity.samples.count == 25
    assert variants["int8"].fidelity.figures["matched"] >= 0.95
    assert variants["int8"].quantisation.int8_share >= 0.85
