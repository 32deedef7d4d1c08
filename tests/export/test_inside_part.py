"""A whole bundle whose picture part takes frames: made, built, run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from helpers import detectors
from helpers.textures import texture
from helpers.tiny_bundle import tiny_bundle

from jetlift.__main__ import run
from jetlift.engines.build import build
from jetlift.export.detector import DetectOptions
from jetlift.export.inside import FRAME
from jetlift.export.inside_part import put_inside
from jetlift.export.make import Request, export_onnx, export_recipe
from jetlift.export.recipes import recipe
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import MANIFEST_NAME, Bundle, list_files
from jetlift.runtime.errors import FidelityError, UsageError
from jetlift.runtime.manifest import ImagePreprocess
from jetlift.runtime.preprocess import prepare_image
from jetlift.runtime.session import open_session
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import open_task

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.manifest import Part

FRAME_WH = (64, 48)
VARIANTS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("plain") / "tiny")


@pytest.fixture(scope="module")
def framed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same bundle with preprocessing in the graphs of its picture part."""
    bundle = tiny_bundle(tmp_path_factory.mktemp("framed") / "tiny")
    parts = {
        name: put_inside(bundle.folder, name, part, FRAME_WH)
        for name, part in bundle.manifest.parts.items()
    }
    files = list_files(bundle.folder)
    manifest = replace(bundle.manifest, parts=parts, files=files)
    (bundle.folder / MANIFEST_NAME).write_text(jsonform.dumps(manifest), encoding="utf-8")
    return Bundle.open(bundle.folder)


def spec_of(part: Part) -> ImagePreprocess:
    assert isinstance(part.preprocess, ImagePreprocess)
    return part.preprocess


def test_the_manifest_says_it(plain: Bundle, framed: Bundle) -> None:
    part, before = framed.part("image")[1], plain.part("image")[1]
    (frames,) = part.inputs
    assert (frames.name, frames.dtype, frames.shape) == (FRAME, "uint8", ("batch", 48, 64, 3))
    limits = (frames.min_shape, frames.opt_shape, frames.max_shape)
    assert limits == ((1, 48, 64, 3), (1, 48, 64, 3), (4, 48, 64, 3))
    spec = spec_of(part)
    assert spec.inside is not None
    assert (spec.input, spec.inside.size_wh) == (FRAME, FRAME_WH)
    assert spec.inside.checked_frames == 4
    assert spec.inside.largest_difference < 1e-3
    assert replace(spec, input="pixel_values", inside=None) == before.preprocess
    for name in VARIANTS:
        costs = [bundle.variants[name].cost for bundle in (part, before)]
        assert costs[0].operations > costs[1].operations
        narrow, wide = (dict(cost.operations_by_precision) for cost in costs)
        assert narrow.pop("fp32") > wide.pop("fp32", 0.0)
        assert narrow == wide  # whatever is not FP32 is as it was
    assert framed.part("mlp")[1] == plain.part("mlp")[1]
    assert not [path for path in framed.folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("target", ["cpu", "cpu-onnxruntime"])
@pytest.mark.parametrize("precision", VARIANTS)
def test_frames_give_what_prepared_pictures_give(
    plain: Bundle, framed: Bundle, precision: str, target: str
) -> None:
    pytest.importorskip("openvino" if target == "cpu" else "onnxruntime")
    frame = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with open_session(plain, "image", precision, target=target) as session:
        prepared = prepare_image(frame, spec_of(plain.part("image")[1]))
        wanted = session.run({"pixel_values": prepared})
    with open_session(framed, "image", precision, target=target) as session:
        got = session.run({FRAME: frame[None]})
        for name, array in wanted.items():
            np.testing.assert_allclose(got[name], array, atol=2e-3 * np.abs(array).max())
        for other in (frame[None, :, :-1], frame[None].astype(np.float32), frame[None, ..., :1]):
            with pytest.raises(UsageError, match=r"Input frame_bgr got .*"):
                session.run({FRAME: other})


def test_a_task_hands_frames_over(plain: Bundle, framed: Bundle) -> None:
    frame = np.random.default_rng(2).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    embeddings = []
    for bundle in (plain, framed):
        with open_session(bundle, "image", "fp32", target="cpu-onnxruntime") as session:
            task = open_task("embed", bundle, session, precision="fp32", part="image")
            outcome = task.process(Frame("camera", 0, 0.0, frame))
            embeddings.append(outcome.arrays["embedding"])
            assert task.notes == ()
            if bundle is plain:
                continue
            for number in range(2):  # pictures of another size
                task.process(Frame("picture.png", 0, 0.0, texture(number)))
            assert len(task.notes) == 1
            assert "64x48" in task.notes[0]
    np.testing.assert_allclose(embeddings[1], embeddings[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", VARIANTS)
def test_tensorrt_rtx_builds_it_as_typed(framed: Bundle, precision: str) -> None:
    reason = "TensorRT-RTX is not installed (pip install 'jetlift[rtx]')"
    pytest.importorskip("tensorrt_rtx", reason=reason)
    pytest.importorskip("polygraphy", reason=reason)
    results = build(framed, "rtx-sm86", [precision])
    (engine,) = [result for result in results if result.part == "image"]
    assert (engine.passport.receipt.outcome, engine.passport.receipt.wider) == ("as asked", ())
    if precision == "int8":
        assert engine.passport.receipt.int8_layers > 0


def test_a_variant_that_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jetlift.export import inside_part

    bundle = tiny_bundle(tmp_path / "tiny", precisions=("fp32",))
    name, part = bundle.part("image")
    true = inside_part.with_preprocessing
    monkeypatch.setattr(
        inside_part,
        "with_preprocessing",
        lambda model, spec, wh: true(model, replace(spec, colour="bgr"), wh),
    )
    with pytest.raises(FidelityError, match=r"Output \w+ of image at fp32 changes by"):
        put_inside(bundle.folder, name, part, FRAME_WH)
    assert Bundle.open(bundle.folder).part("image")[1] == part  # every file as it was


def test_models_without_pictures_are_refused_before_their_weights_are_read(tmp_path: Path) -> None:
    for name in ("minilm", "whisper-tiny-en"):
        request = Request(tmp_path / name, ("fp32",), frame_wh=(1280, 720))
        with pytest.raises(UsageError, match="no part of this model"):
            export_recipe(recipe(name), str(tmp_path / "nowhere"), request)
        assert not request.out.exists()


def test_a_graph_without_a_task_is_refused(tmp_path: Path) -> None:
    onnx.save(detectors.detector(), tmp_path / "tiny.onnx")
    request = Request(tmp_path / "out", ("fp32",), frame_wh=(1280, 720))
    with pytest.raises(UsageError, match="no part of this model"):
        export_onnx(tmp_path / "tiny.onnx", request)
    assert not request.out.exists()


def detector_bundle(folder: Path, frame_wh: tuple[int, int] | None) -> Bundle:
    folder.mkdir()
    onnx.save(detectors.detector(), folder / "tiny.onnx")
    (folder / "labels.txt").write_text("red\nblue\n", encoding="utf-8")
    request = Request(folder / "bundle", ("fp32",), frame_wh=frame_wh)
    options = DetectOptions(folder / "labels.txt")
    return export_onnx(folder / "tiny.onnx", request, detect=options)


def test_boxes_are_found_where_they_are_without_it(tmp_path: Path) -> None:
    squares = detectors.picture((16, 32, "red"), (48, 0, "blue"))
    scene = np.zeros((96, 160, 3), np.uint8)  # twice as large and wider
    scene[:, :96] = squares.repeat(2, 0).repeat(2, 1)[:96, :96]
    found = []
    for name, frame_wh in (("host", None), ("inside", (160, 96))):
        bundle = detector_bundle(tmp_path / name, frame_wh)
        with open_session(bundle, "main", "fp32", target="cpu-onnxruntime") as session:
            task = open_task("detect", bundle, session, precision="fp32")
            found.append(task.process(Frame("camera", 0, 0.0, scene)).fields)
            small = task.process(Frame("a.png", 0, 0.0, np.ascontiguousarray(scene[::2, ::2])))
            assert bool(task.notes) == (name == "inside")
            assert small.fields["labels"] == found[-1]["labels"]
            halves = np.array(found[-1]["boxes_xyxy"]) / 2
            np.testing.assert_allclose(small.fields["boxes_xyxy"], halves, atol=0.6)
    assert found[0]["labels"]
    assert found[1] == found[0]


def test_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    onnx.save(detectors.detector(), tmp_path / "tiny.onnx")
    (tmp_path / "labels.txt").write_text("red\nblue\n", encoding="utf-8")
    base = ["export", "--onnx", str(tmp_path / "tiny.onnx"), "--task", "detect", "--json"]
    base += ["--labels", str(tmp_path / "labels.txt"), "--precision", "fp32,fp16"]
    for wrong in ("1280", "x720", "1280x", "0x720", "12.5x3", "100000x720"):
        assert run([*base, "-o", str(tmp_path / "no"), "--frames", wrong]) == 2
        assert "rames" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    assert run([*base, "-o", str(tmp_path / "out"), "--frames", "96x80"]) == 0
    told = json.loads(capsys.readouterr().out)["parts"]["main"]
    assert told["preprocess"]["inside"]["size_wh"] == [96, 80]
    assert told["inputs"][0]["shape"] == [1, 80, 96, 3]
