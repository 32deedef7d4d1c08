"""YOLOX: published names, real weights of nano, cost, and files that do not fit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.checkpoints import documented
from onnx import numpy_helper

from jetlift.export.coco import COCO_LABELS
from jetlift.export.make import Request, export_recipe
from jetlift.export.recipes import RECIPES, yolox
from jetlift.export.recipes.yolox_folded import load_folded
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import ArtefactError, InputError, UsageError
from jetlift.runtime.session import open_onnx, open_session
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import open_task

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
SIZES = {
    "yolox-nano": yolox.NANO, "yolox-tiny": yolox.TINY_PUBLISHED, "yolox-s": yolox.SMALL,
    "yolox-m": yolox.MEDIUM, "yolox-l": yolox.LARGE, "yolox-x": yolox.EXTRA_LARGE,
}  # fmt: skip
# README.md of Megvii-BaseDetection/YOLOX@main: millions of parameters, GFLOPs.
PUBLISHED = {
    "yolox-nano": (0.91, 1.08), "yolox-tiny": (5.06, 6.45), "yolox-s": (9.0, 26.8),
    "yolox-m": (25.3, 73.8), "yolox-l": (54.2, 155.6), "yolox-x": (99.1, 281.9),
}  # fmt: skip
TINY = yolox.recipe("yolox-test", "YOLOX for tests", yolox.TINY, "yolox_test", 0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    out = tmp_path_factory.mktemp("yolox") / "bundle"
    return export_recipe(TINY, "random:3", Request(out, ("fp32", "fp16")))


@pytest.fixture(scope="module")
def folded(bundle) -> Path:
    """A file of the form of the release's ONNX files, of TINY's random weights."""
    return bundle.path("image.fp32.onnx")


def noise(side: int, count: int = 1) -> np.ndarray:
    shape = (count, 3, side, side)
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.float32)


def on_meta(size: yolox.Size) -> torch.nn.Module:
    with torch.device("meta"):
        return size.module()


# Published names, parameters and cost.


@pytest.mark.parametrize("name", ["yolox-nano", "yolox-s"])
def test_documented_names_are_the_modules_own(name):
    own = on_meta(SIZES[name]).state_dict()
    assert {key: tuple(value.shape) for key, value in own.items()} == documented(name)


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_the_published_ones(name):
    total = sum(parameter.numel() for parameter in on_meta(SIZES[name]).parameters())
    assert RECIPES[name].parameters == total
    millions = PUBLISHED[name][0]
    assert round(total / 1e6, 2 if millions < 9 else 1) == millions


@pytest.mark.parametrize("name", SIZES)
def test_operations_are_the_published_ones(name):
    """The repository counts two operations for each value normalised as well, and doubles them."""
    from torch.utils.flop_counter import FlopCounterMode

    size, normalised = SIZES[name], []
    module = on_meta(size)
    for item in module.modules():
        if isinstance(item, torch.nn.BatchNorm2d):
            item.register_forward_hook(lambda *seen: normalised.append(seen[2].numel()))
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, size.side_px, size.side_px))
    operations = counter.get_total_flops()
    published = PUBLISHED[name][1]
    digits = 2 if published < 10 else 1
    assert round((operations + 4 * sum(normalised)) / 1e9, digits) == published
    # Convolutions alone: nano's many thin ones leave normalisation 3.2 % of the published figure.
    assert operations / 1e9 == pytest.approx(published, rel=0.033 if name == "yolox-nano" else 0.01)


def test_the_graph_costs_what_torch_counts(bundle):
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        yolox.TINY.module()(torch.zeros(1, 3, 64, 64))
    cost = bundle.variant("image", "fp32").cost
    assert sum(cost.operations_by_precision.values()) == counter.get_total_flops()
    assert cost.uncounted == ()


# The bundle, with random weights.


def test_the_graph_answers_as_the_module(bundle):
    module, images = TINY.load("random:3").modules["image"], noise(64, 2)
    with torch.no_grad():
        wanted = module(torch.from_numpy(images)).numpy()
    for target in ("cpu", "cpu-onnxruntime"):
        with open_session(bundle, "image", "fp32", target=target) as session:
            got = session.run({"images": images})["output"]
        assert got.shape == (2, 84, 7)
        np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())


def test_the_bundle_says_what_the_detector_needs(bundle):
    described = bundle.part("image")[1]
    assert described.detection == yolox.detection()
    assert described.preprocess.size_wh == (64, 64)
    assert bundle.path("assets/labels.txt").read_text("utf-8") == "red\nblue\n"
    assert bundle.manifest.tasks == ("detect",)
    assert bundle.manifest.weights.random
    assert yolox.NANO.labels == COCO_LABELS


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (4320, 7680)])
def test_pictures_of_any_size_are_looked_at(bundle, shape):
    picture = np.full((*shape, 3), 90, np.uint8)
    with open_session(bundle, "image", "fp32", target="cpu-onnxruntime") as session:
        task = open_task("detect", bundle, session, precision="fp32")
        fields = task.run(Frame("p", 0, None, picture))
    assert {"boxes_xyxy", "scores", "labels", "label_ids"} <= fields.keys()


def test_sixteen_bits_build_for_an_engine(bundle, tmp_path):
    import shutil

    from jetlift.engines.build import build

    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    copy = Bundle.open(shutil.copytree(bundle.folder, tmp_path / "copy"))
    results = build(copy, "rtx-sm86", ["fp16"])
    assert [(item.part, item.precision) for item in results] == [("image", "fp16")]
    assert not any(item.shortfall for item in results)


@pytest.mark.long
@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_every_variant_builds(tmp_path, target):
    from jetlift.engines.build import build

    if target == "rtx-sm86":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    asked = ("fp32", "int8") if target == "cpu" else ("fp32", "fp16", "int8", "int8-fp16")
    made = export_recipe(TINY, "random:3", Request(tmp_path / "all", asked))
    assert not any(item.shortfall for item in build(made, target, list(asked)))


# Checkpoints. The loader was not run on a published .pth, but on files of its form.


def saved(path: Path, *, drop=(), dtype=torch.float32, **more) -> tuple[str, dict]:
    """A checkpoint as the repository's trainer saves it, and its state."""
    state = yolox.TINY.module().state_dict()
    for number, value in enumerate(state.values()):
        if value.is_floating_point():
            generator = torch.Generator().manual_seed(number)
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    state = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in (state | more).items()
        if name not in drop
    }
    torch.save({"start_epoch": 300, "model": state, "optimizer": {"state": {}}}, path)
    return str(path), state


def test_a_checkpoint_is_read_with_every_key_used_once(tmp_path):
    file, state = saved(tmp_path / "yolox_test.pth")
    loaded = TINY.load(file)
    own = loaded.modules["image"].state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], value) for name, value in state.items())
    assert not loaded.weights.random
    assert loaded.weights.source == "yolox_test.pth"


def test_a_checkpoint_in_half_precision_computes_in_float32(tmp_path):
    file, _ = saved(tmp_path / "half.pth", dtype=torch.float16)
    module = TINY.load(file).modules["image"]
    assert {value.dtype for value in module.parameters()} == {torch.float32}


def test_the_same_names_in_safetensors_load(tmp_path):
    from safetensors.torch import save_file

    _, state = saved(tmp_path / "yolox_test.pth")
    save_file(state, tmp_path / "yolox_test.safetensors")
    own = TINY.load(str(tmp_path / "yolox_test.safetensors")).modules["image"].state_dict()
    assert all(torch.equal(own[name], value) for name, value in state.items())


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    key = "head.stems.0.conv.weight"
    for name, options, told in (
        ("short", {"drop": (key,)}, rf"missing: {key}"),
        ("long", {"more": torch.zeros(2)}, "left over: more"),
        ("shape", {key: torch.zeros(2, 2)}, rf"another shape: {key} \[2, 2\] for"),
    ):
        file, _ = saved(tmp_path / f"{name}.pth", **options)
        with pytest.raises(ArtefactError, match=told):
            TINY.load(file)
    with pytest.raises(ArtefactError, match="do not fit YOLOX-nano"):
        RECIPES["yolox-nano"].load(saved(tmp_path / "other.pth")[0])


class Mischief:
    def __reduce__(self):
        return os.system, ("touch mischief",)


def test_a_checkpoint_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"a": torch.zeros(1)}, "optimizer": Mischief()}, "bad.pth")
    with pytest.raises(ArtefactError, match="is not read"):
        TINY.load("bad.pth")
    assert not Path("mischief").exists()


def test_what_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "noise.pth").write_bytes(b"nothing of the kind")
    with pytest.raises(ArtefactError, match="is not read"):
        TINY.load(str(tmp_path / "noise.pth"))
    for number, content in enumerate(({"a": 1}, [1], {"model": {"a": 1}})):
        torch.save(content, tmp_path / f"{number}.pth")
        with pytest.raises(ArtefactError, match=rf"{number}\.pth"):
            TINY.load(str(tmp_path / f"{number}.pth"))


@pytest.mark.parametrize("source", [None, "package", "owner/name", "nothing.pth"])
def test_without_a_file_it_says_where_the_weights_are(source):
    with pytest.raises(UsageError, match=r"releases/download/0\.1\.1rc0/yolox_s\.pth"):
        RECIPES["yolox-s"].load(source)


# ONNX files whose normalisation is folded.


def test_a_folded_file_gives_its_own_answers(folded):
    module, images = TINY.load(str(folded)).modules["image"], noise(64)
    with torch.no_grad():
        got = module(torch.from_numpy(images)).numpy()
    with open_onnx(folded, library="onnxruntime") as session:
        wanted = session.run({"images": images})["output"]
    np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())


def changed(folded: Path, path: Path, change) -> str:
    model = onnx.load(folded)
    change(model.graph)
    onnx.save(model, path)
    return str(path)


def without_bias(graph: onnx.GraphProto) -> None:
    del next(node for node in graph.node if node.op_type == "Conv").input[2]


def with_another_weight(graph: onnx.GraphProto) -> None:
    node = next(node for node in graph.node if node.op_type == "Conv")
    stored = next(item for item in graph.initializer if item.name == node.input[1])
    weight = numpy_helper.to_array(stored)[..., :1].copy()
    stored.CopyFrom(numpy_helper.from_array(weight, stored.name))


def with_another_function(graph: onnx.GraphProto) -> None:
    node = next(node for node in reversed(graph.node) if node.op_type == "Sigmoid")
    node.op_type = "Tanh"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_bias, "has no bias"),
        (with_another_weight, r"Convolution 0 .* has shape, stride and groups \(\(8, 12, 3, 1\)"),
        (with_another_function, "answers otherwise"),
    ],
)
def test_a_folded_file_of_another_graph_is_refused(folded, tmp_path, change, told):
    with pytest.raises(ArtefactError, match=told):
        TINY.load(changed(folded, tmp_path / "changed.onnx", change))


def test_a_folded_file_of_another_size_is_refused(folded, tmp_path):
    with pytest.raises(
        ArtefactError, match=r"as backbone\.backbone\.stem\.conv\.conv of YOLOX-nano"
    ):
        RECIPES["yolox-nano"].load(str(folded))
    with pytest.raises(ArtefactError, match="convolutions with a bias, YOLOX-s has 83"):
        RECIPES["yolox-s"].load(str(folded))
    (tmp_path / "noise.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="cannot be read"):
        TINY.load(str(tmp_path / "noise.onnx"))


# Real weights.


@pytest.fixture(scope="module")
def nano_file() -> Path:
    path = SHARED / "weights" / "yolox_nano.onnx"
    if not path.is_file():
        pytest.skip("YOLOX-nano's weights of shared/data are not beside this checkout")
    return path


def test_nano_of_the_published_onnx_answers_as_the_file(nano_file):
    module, images = yolox.NANO.module(), noise(416)
    load_folded(module, nano_file, 416, "YOLOX-nano")
    with torch.no_grad():
        got = module(torch.from_numpy(images)).numpy()
    with open_onnx(nano_file, library="onnxruntime") as session:
        (wanted,) = session.run({"images": images}).values()
    assert got.shape == (1, 3549, 85)
    assert np.abs(got - wanted).max() / np.abs(wanted).max() < 1e-4


@pytest.mark.long
def test_nano_in_every_precision_finds_what_fp32_finds(nano_file, tmp_path):
    request = Request(tmp_path / "nano", ("fp32", "fp16", "int8"), SHARED / "coco_samples")
    made = export_recipe(RECIPES["yolox-nano"], str(nano_file), request)
    assert made.variant("image", "fp16").fidelity.figures["matched"] >= 0.99
    assert made.variant("image", "int8").fidelity.met
