"""Preprocessing in the graph gives what the host's gives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx_ir as ir
import pytest
from helpers.tiny_bundle import PREPROCESS as TINY
from helpers.tiny_bundle import image
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.export import graph
from jetlift.export.inside import FRAME, LONGEST_SIDE, with_preprocessing
from jetlift.export.inside_check import (
    LEVELS_TOLERANCE,
    check_front,
    drawn_frames,
    front_alone,
)
from jetlift.export.precision.emulate import emulate_half
from jetlift.export.precision.fp16 import to_half
from jetlift.export.recipes.dinov2 import PREPROCESS as DINO
from jetlift.runtime.errors import FidelityError, InputError, UsageError
from jetlift.runtime.frames import lay
from jetlift.runtime.manifest import ImagePreprocess
from jetlift.runtime.preprocess import place, prepare_batch, prepare_image
from jetlift.runtime.resample import axis_matrix
from jetlift.runtime.session import open_onnx

if TYPE_CHECKING:
    from pathlib import Path

YOLOX = replace(
    DINO, size_wh=(416, 416), fit="letterbox", resize_short=None, resample="linear_exact",
    colour="bgr", scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip
SIDES = st.integers(1, 90)


def front(spec: ImagePreprocess, frames: np.ndarray, library: str = "onnxruntime") -> np.ndarray:
    """What the graph gives for frames [N, H, W, 3]."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "front.onnx"
        graph.save(front_alone(spec, (frames.shape[2], frames.shape[1])), path)
        with open_onnx(path, library=library) as session:
            return session.run({FRAME: frames})["pixels"]


def in_levels(difference: np.ndarray, spec: ImagePreprocess) -> float:
    factor = spec.scale / np.array(spec.std).reshape(1, 3, 1, 1)
    return float(np.abs(difference / factor).max())


@st.composite
def specs(draw: st.DrawFn) -> ImagePreprocess:
    size_wh = (draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    return replace(
        draw(st.sampled_from([DINO, YOLOX])),
        size_wh=size_wh,
        fit=draw(st.sampled_from(["crop", "stretch", "letterbox"])),
        resize_short=max(size_wh) + draw(st.integers(0, 10)),
        resample=draw(st.sampled_from(["bicubic_antialias", "bilinear_antialias", "linear_exact"])),
        colour=draw(st.sampled_from(["rgb", "bgr"])),
        pad_value=draw(st.integers(0, 255)),
    )


@settings(max_examples=60, deadline=None)
@given(specs(), SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_any_preprocessing_at_any_size_equals_the_hosts(
    spec: ImagePreprocess, width: int, height: int, seed: int
) -> None:
    # Noise that is often black or white, where overshoots of the bicubic filter are cut off.
    noise = np.random.default_rng(seed).integers(-128, 384, (1, height, width, 3))
    frames = np.clip(noise, 0, 255).astype(np.uint8)
    got, wanted = front(spec, frames), prepare_image(frames[0], spec)
    assert got.shape == wanted.shape
    assert in_levels(got - wanted, spec) <= LEVELS_TOLERANCE


@pytest.mark.parametrize("frame_wh", [(1280, 720), (1920, 1080), (480, 640)])
@pytest.mark.parametrize("spec", [DINO, YOLOX], ids=["dino", "yolox"])
def test_cameras_frames_equal_the_hosts(spec: ImagePreprocess, frame_wh: tuple[int, int]) -> None:
    found = check_front(spec, frame_wh)
    assert found.frames == len(list(drawn_frames(frame_wh))) == 4
    assert found.levels <= LEVELS_TOLERANCE
    if spec is YOLOX:  # nothing is normalised
        assert found.levels == 0


def test_real_photographs_equal_the_hosts(photographs: Path) -> None:
    assert check_front(DINO, (1280, 720), photographs).frames == 20


@pytest.mark.parametrize("spec", [DINO, YOLOX], ids=["dino", "yolox"])
def test_openvino_gives_the_same_pixels(spec: ImagePreprocess) -> None:
    pytest.importorskip("openvino")
    frames = np.stack(list(drawn_frames((320, 180))))
    got = front(spec, frames, "openvino")
    assert in_levels(got - prepare_batch(list(frames), spec), spec) <= LEVELS_TOLERANCE


@pytest.mark.parametrize("frame_wh", [(2600, 60), (60, 2600)])
def test_large_frames_go_in_blocks(frame_wh: tuple[int, int]) -> None:
    spec = replace(DINO, fit="stretch", size_wh=(50, 40))
    names = [str(node.name) for node in front_alone(spec, frame_wh).graph]
    side = "across" if frame_wh[0] > frame_wh[1] else "down"
    blocks = [name for name in names if name.startswith(f"inside_{side}_") and "coarse" in name]
    assert blocks == [
        *(f"inside_{side}_{number}_coarse" for number in range(3)),
        f"inside_{side}_coarse",
    ]
    assert check_front(spec, frame_wh).levels <= LEVELS_TOLERANCE


def test_a_batch_is_each_of_its_frames() -> None:
    frames = np.stack(list(drawn_frames((96, 64)))[:3])
    got = front(DINO, frames)
    for frame, prepared in zip(frames, got, strict=True):
        np.testing.assert_array_equal(front(DINO, frame[None])[0], prepared)


@pytest.mark.parametrize("frame_wh", [(1280, 720), (1920, 1080), (3840, 2160), (640, 480)])
def test_weights_in_two_have_eleven_bits_each(frame_wh: tuple[int, int]) -> None:
    """TF32 keeps 11 significant bits of a factor, as FP16 does of numbers from 2**-14 on."""
    placement = place(frame_wh, DINO)
    for axis in (0, 1):
        arguments = (frame_wh[axis], placement.resized_wh[axis], placement.crop_xywh[axis], 224)
        weights = axis_matrix("bicubic", *arguments).weights
        coarse = np.rint(weights * 2**11) / 2**11
        for part in (coarse, (weights - coarse) * 2**11):
            np.testing.assert_array_equal(part.astype(np.float16).astype(np.float64), part)
        assert not (weights.astype(np.float16) == weights).all()  # alone they have more


def test_the_hosts_matrix_is_what_the_host_does() -> None:
    row = np.random.default_rng(0).integers(0, 256, (1, 100, 3), dtype=np.uint8)
    spec = replace(DINO, size_wh=(37, 1), fit="stretch", colour="bgr")
    matrix = axis_matrix("bicubic", 100, 37, 0, 37)
    assert matrix.start == 0
    exact = np.clip(np.floor(matrix.weights @ row[0].astype(np.float64) + 0.5), 0, 255)
    levels = np.array(spec.std) / spec.scale
    mean = np.array(spec.mean) / spec.scale
    got = prepare_image(row, spec)[0, :, 0].T * levels + mean
    np.testing.assert_array_equal(np.rint(got), exact)


def test_emulated_fp16_leaves_the_front_alone() -> None:
    own = graph.infer(ir.from_proto(image()))
    half = with_preprocessing(to_half(own, "fp16").model, TINY, (64, 48))
    for model in (half, emulate_half(graph.infer(half))):
        model.graph.sort()
        front_nodes = [node for node in model.graph if str(node.name).startswith("inside_")]
        inferred = graph.infer(model)
        values = {v.name: v for node in inferred.graph for v in node.outputs}
        assert values[TINY.input].dtype == ir.DataType.FLOAT
        kinds = {values[str(node.outputs[0].name)].dtype for node in front_nodes}
        assert kinds == {ir.DataType.FLOAT}
        assert len(front_nodes) > 10


def test_the_graph_given_is_not_changed() -> None:
    own = graph.infer(ir.from_proto(image()))
    before = ir.to_proto(own).SerializeToString(deterministic=True)
    with_preprocessing(own, TINY, (64, 48))
    assert ir.to_proto(own).SerializeToString(deterministic=True) == before


def test_a_frame_that_needs_nothing_costs_nothing() -> None:
    kinds = [node.op_type for node in front_alone(YOLOX, (416, 416)).graph]
    assert kinds == ["Cast", "Transpose", "Identity"]


@pytest.mark.parametrize("frame_wh", [(0, 720), (1280, -1), (LONGEST_SIDE + 1, 720)])
def test_frames_that_no_camera_gives_are_refused(frame_wh: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="Frames of"):
        front_alone(DINO, frame_wh)


def _without(**changes: Any) -> tuple[ir.Model, ImagePreprocess]:
    return ir.from_proto(image()), replace(TINY, **changes)


def test_graphs_that_cannot_take_it_are_refused() -> None:
    with pytest.raises(UsageError, match=r"takes pixel_values .*FLOAT"):
        with_preprocessing(*_without(input="images"), (64, 48))
    half = ir.from_proto(image())
    half.graph.inputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
    with pytest.raises(UsageError, match="FLOAT16"):
        with_preprocessing(half, TINY, (64, 48))
    old = ir.from_proto(image())
    old.opset_imports[""] = 12
    with pytest.raises(UsageError, match="opset 12"):
        with_preprocessing(old, TINY, (64, 48))
    twice = with_preprocessing(ir.from_proto(image()), TINY, (64, 48))
    with pytest.raises(UsageError, match="takes frame_bgr"):
        with_preprocessing(twice, TINY, (64, 48))
    named = ir.from_proto(image())
    named.graph[0].outputs[0].name = "inside_float"
    with pytest.raises(UsageError, match="inside_float already"):
        with_preprocessing(named, TINY, (64, 48))


def test_a_front_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from jetlift.export import inside_check

    def one_level_more(frame: np.ndarray, spec: ImagePreprocess) -> np.ndarray:
        return prepare_image(cv2.add(frame, 1), spec)

    monkeypatch.setattr(inside_check, "prepare_image", one_level_more)
    with pytest.raises(FidelityError, match="differs from the host's by"):
        check_front(replace(DINO, colour="bgr"), (64, 48))


def test_samples_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        check_front(DINO, (64, 48), tmp_path)


def test_pictures_are_laid_before_they_are_compared(tmp_path: Path) -> None:
    picture = next(drawn_frames((50, 70)))
    cv2.imwrite(str(tmp_path / "one.png"), picture)
    assert check_front(DINO, (64, 48), tmp_path).frames == 5
    assert lay(picture, DINO, (64, 48)).shape == (48, 64, 3)
