"""The form of bundle.json, held fast by a golden file: a change here is a change of the format."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime import jsonform
from jetlift.runtime.manifest import (
    NAME,
    RELATIVE_PATH,
    SCHEMA_VERSION,
    SHA256,
    AudioPreprocess,
    Block,
    Classification,
    Cost,
    CurvePoint,
    Detection,
    Fidelity,
    FileEntry,
    FrameInput,
    ImagePreprocess,
    Manifest,
    Part,
    Quantisation,
    SampleSet,
    TensorSpec,
    TextPreprocess,
    Variant,
    Weights,
    ZeroShot,
)

GOLDEN = Path(__file__).parent / "golden" / "bundle.json"


def _variant(precision: str, fidelity: Fidelity | None) -> Variant:
    return Variant(
        precision=precision,  # type: ignore[arg-type]
        rest="fp32",
        file=f"image.{precision}.onnx",
        data_files=(f"image.{precision}.onnx.data",),
        cost=Cost(
            operations=11.5e9,
            operations_by_precision={precision: 11.5e9},
            weight_bytes=88.0e6,
            activation_bytes=120.5e6,
        ),
        kept_wide=("/patch/Conv: convolution of the patches",),
        fidelity=fidelity,
        quantisation=_quantisation() if precision == "int8" else None,
    )


def _quantisation() -> Quantisation:
    return Quantisation(
        treatment={"every block": "alpha 0.5, max", "norm_2": "no migration, max"},
        calibrators={"max": 1},
        int8_share=0.75,
        weights_share={"fp32": 0.25, "int8": 0.75},
        blocks=(
            Block("norm_1", ("q", "k", "v"), 3.0e9, "int8", 0.125),
            Block("norm_2", ("fc1",), 1.0e9, "fp32", None),
        ),
        curve=(CurvePoint(1.0, {"embedding.cosine_min": 0.94}),),
        search=SampleSet(count=32, sha256="d" * 64, note="the next by name"),
        evaluations=17,
        finished=True,
    )


def _sound_part() -> Part:
    return Part(
        inputs=(TensorSpec(name="log_mel", dtype="float32", shape=("batch", 80, 3000)),),
        outputs=(TensorSpec(name="raw", dtype="float32", shape=("batch", 3549, 85)),),
        parameters=1,
        preprocess=AudioPreprocess(
            kind="audio",
            input="log_mel",
            sample_rate_hz=16_000,
            window_samples=480_000,
            n_fft=400,
            hop_length=160,
            filters="assets/mel.npy",
        ),
        variants={},
        detection=Detection("yolox", (8, 16, 32), "assets/labels.txt", 0.3, 0.45),
        classification=Classification("raw", "assets/classes.txt"),
    )


def _image_part(samples: SampleSet) -> Part:
    fidelity = Fidelity(
        figures={"embedding.cosine_mean": 0.99, "embedding.cosine_min": 0.97},
        budget="embedding.cosine_min>=0.95",
        met=True,
        samples=samples,
        computed_by="openvino 2026.4.1, f32",
    )
    return Part(
        inputs=(
            TensorSpec(
                name="pixel_values",
                dtype="float32",
                shape=("batch", 3, 224, 224),
                min_shape=(1, 3, 224, 224),
                opt_shape=(1, 3, 224, 224),
                max_shape=(8, 3, 224, 224),
            ),
        ),
        outputs=(TensorSpec(name="embedding", dtype="float32", shape=("batch", 384)),),
        parameters=22_056_576,
        preprocess=ImagePreprocess(
            kind="image",
            input="pixel_values",
            size_wh=(224, 224),
            fit="crop",
            resize_short=256,
            resample="bicubic_antialias",
            colour="rgb",
            scale=1 / 255,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            inside=FrameInput((1280, 720), 20, 0.0000274),
        ),
        variants={"fp32": _variant("fp32", None), "int8": _variant("int8", fidelity)},
        patch_grid_hw=(16, 16),
    )


def _text_part() -> Part:
    ids = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence"))
    return Part(
        inputs=(ids, dataclasses.replace(ids, name="attention_mask")),
        outputs=(TensorSpec(name="embedding", dtype="float32", shape=("batch", 384)),),
        parameters=1,
        preprocess=TextPreprocess(
            kind="text",
            tokenizer="assets/tokenizer.json",
            max_tokens=256,
            ids="input_ids",
            mask="attention_mask",
            pad_to=64,
            pad_id=1,
        ),
        variants={},
    )


def full_manifest() -> Manifest:
    """One of everything that the format can say."""
    samples = SampleSet(count=64, sha256="a" * 64, note="the first by name")
    return Manifest(
        schema_version=SCHEMA_VERSION,
        jetlift="0.1.0",
        model="two-towers",
        tasks=("embed", "search"),
        weights=Weights(
            source="somewhere 1.0", licence="Apache-2.0", sha256="b" * 64, note="", random=False
        ),
        parts={"image": _image_part(samples), "text": _text_part(), "sound": _sound_part()},
        calibration={"image": samples},
        tools={"onnx": "1.23.2"},
        files=(FileEntry(path="image.fp32.onnx", sha256="c" * 64, size_bytes=12),),
        zero_shot=ZeroShot("image", "text", 100.0, -0.5, scores="softmax", template="a {}."),
    )


def test_the_written_form_is_the_golden_one() -> None:
    assert jsonform.dumps(full_manifest()) == GOLDEN.read_text(encoding="utf-8")


def test_the_golden_file_reads_back() -> None:
    assert jsonform.loads(Manifest, GOLDEN.read_bytes()) == full_manifest()


@pytest.mark.parametrize(
    "path",
    ["a", "image.fp32.onnx", "assets/tokenizer.json", "a/b/c-d_e+f.2", "_private", "0", "a..b"],
)
def test_good_paths(path: str) -> None:
    assert re.fullmatch(RELATIVE_PATH, path)


@given(st.text(alphabet="ab.-_/\\~ \n\0é", max_size=12))
def test_no_path_that_matches_can_leave_its_folder(text: str) -> None:
    if re.fullmatch(RELATIVE_PATH, text):
        root = Path("/bundle")
        steps = (root / text).parts[len(root.parts) :]
        assert steps
        assert "/".join(steps) == text
        assert not any(step.startswith(".") for step in steps)


@given(st.from_regex(RELATIVE_PATH, fullmatch=True))
def test_every_path_that_matches_is_its_own_plain_form(path: str) -> None:
    assert Path(path).as_posix() == path
    assert not Path(path).is_absolute()


def test_a_long_path_is_judged_at_once() -> None:
    # No nested repetition over the same characters: such a pattern would never come back.
    assert re.fullmatch(RELATIVE_PATH, "a/" * 50_000) is None
    assert re.fullmatch(RELATIVE_PATH, "a" * 100_000 + "!") is None


@pytest.mark.parametrize(("text", "good"), [("a" * 64, True), ("A" * 64, False), ("a" * 63, False)])
def test_hashes(text: str, good: bool) -> None:  # noqa: FBT001
    assert bool(re.fullmatch(SHA256, text)) == good


@pytest.mark.parametrize(
    ("text", "good"), [("dinov2-small", True), ("-x", False), ("", False), ("a.b", False)]
)
def test_names(text: str, good: bool) -> None:  # noqa: FBT001
    assert bool(re.fullmatch(NAME, text)) == good
