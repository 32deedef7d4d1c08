"""Real weights from end to end: what README and docs/measurements.md say of the exports."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from jetlift.export.recipes import recipe
from jetlift.runtime.session import open_session


def test_dinov2_fp32_equals_torch_on_a_photograph(dinov2_bundle, photographs):
    import cv2

    from jetlift.runtime.preprocess import prepare_image

    part = dinov2_bundle.part("image")[1]
    module = recipe("dinov2-small").load("package").modules["image"]
    picture = cv2.imread(str(sorted(photographs.iterdir())[100]))
    pixels = prepare_image(picture, part.preprocess)
    with torch.no_grad():
        wanted = [tensor.numpy() for tensor in module(torch.from_numpy(pixels))]
    for target in ("cpu", "cpu-onnxruntime"):
        with open_session(dinov2_bundle, "image", "fp32", target=target) as session:
            got = session.run({"pixel_values": pixels})
        for name, array in zip(("embedding", "patch_tokens"), wanted, strict=True):
            np.testing.assert_allclose(got[name], array, atol=1e-4)


def test_dinov2_fidelity_is_measured_on_the_other_photographs(dinov2_bundle):
    variants = dinov2_bundle.part("image")[1].variants
    assert dinov2_bundle.manifest.calibration["image"].count == 32
    assert variants["int8"].quantisation.search.count == 32
    assert variants["int8"].quantisation.int8_share >= 0.95
    assert variants["fp32"].fidelity is None
    for precision in ("fp16", "int8"):
        assert variants[precision].fidelity.samples.count == 136
        assert variants[precision].fidelity.met
    fp16, int8 = (variants[p].fidelity.figures for p in ("fp16", "int8"))
    assert min(fp16["embedding.cosine_min"], fp16["patch_tokens.cosine_min"]) >= 0.999
    assert int8["embedding.cosine_min"] >= 0.99
    assert int8["patch_tokens.cosine_mean"] >= 0.998
    assert int8["patch_tokens.cosine_min"] >= 0.95
    assert "emulation" in variants["fp16"].fidelity.computed_by
    assert "saliency" in dinov2_bundle.manifest.weights.note


def test_minilm_fidelity_and_assets(minilm_bundle):
    part = minilm_bundle.part("text")[1]
    assert minilm_bundle.path(part.preprocess.tokenizer).is_file()
    fp16, int8 = (part.variants[p].fidelity.figures for p in ("fp16", "int8"))
    assert fp16["embedding.cosine_min"] >= 0.999
    assert fp16["embedding.spearman"] >= 0.999
    assert int8["embedding.spearman"] >= 0.99
    assert part.variants["int8"].quantisation.int8_share >= 0.8


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_written_graph_passes_the_full_check(dinov2_bundle, minilm_bundle, precision):
    for bundle in (dinov2_bundle, minilm_bundle):
        for part in bundle.manifest.parts.values():
            path = bundle.path(part.variants[precision].file)
            onnx.checker.check_model(str(path), full_check=True)


def test_int8_weights_and_operations_are_where_they_should_be(dinov2_bundle):
    cost = {p: v.cost for p, v in dinov2_bundle.part("image")[1].variants.items()}
    assert cost["fp32"].operations == pytest.approx(cost["int8"].operations, rel=0.02)
    # 72 linears of 12 blocks: 4 * 384^2 + 2 * 384 * 1536 weights each block, 257 tokens, MAC x 2
    linears = 12 * (4 * 384**2 + 2 * 384 * 1536) * 257 * 2
    assert cost["int8"].operations_by_precision["int8"] == pytest.approx(linears, rel=1e-6)
    assert cost["fp16"].weight_bytes == pytest.approx(cost["fp32"].weight_bytes / 2, rel=0.01)
    assert cost["int8"].weight_bytes < 0.3 * cost["fp32"].weight_bytes


def test_dynamic_axes_really_are(minilm_bundle):
    with open_session(minilm_bundle, "text", "int8") as session:
        for shape in ((1, 3), (2, 40), (5, 256)):
            ids = np.random.default_rng(0).integers(1000, 20000, shape)
            out = session.run({"input_ids": ids, "attention_mask": np.ones(shape, np.int64)})
            assert out["embedding"].shape == (shape[0], 384)
            np.testing.assert_allclose(np.linalg.norm(out["embedding"], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("target", ["rtx-sm86", "cpu"])
def test_every_variant_builds_and_its_receipt_says_what_runs(
    dinov2_bundle, minilm_bundle, tmp_path, target
):
    """NVIDIA's parser and compiler take every graph; the engines are built here, not run."""
    import shutil

    from jetlift.engines.build import build
    from jetlift.runtime.bundle import Bundle

    if target == "rtx-sm86":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    asked = {"fp16": "fp16", "int8": "int8"} if target == "rtx-sm86" else {"int8": "int8"}
    for bundle, least in ((dinov2_bundle, 0.89), (minilm_bundle, 0.98)):
        # The shared bundles stay as they are: engines go beside a copy.
        copy = Bundle.open(shutil.copytree(bundle.folder, tmp_path / bundle.manifest.model))
        for result in build(copy, target, list(asked)):
            shares = result.passport.receipt.operations_share
            assert shares[asked[result.precision]] >= least, (result.part, shares)
            assert not result.shortfall
