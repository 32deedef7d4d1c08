"""A bundle that compares pictures with words in a few kilobytes, with a real tokenizer.

`words_bundle(folder)` makes a valid bundle of two parts at fp32, drawn with a fixed seed:
    image  pixel_values float32 [batch, 3, 32, 32] -> embedding [batch, 8], as in tiny_bundle
    text   input_ids int64 [batch, sequence] -> embedding [batch, 8]: a table of tokens, each
           weighed by its place, so that the order of letters matters
The tokenizer is CLIP's without a merge: each byte is a token.
`classes_bundle(folder)` makes one with fixed classes: the image part's embedding as raw scores.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from helpers import tiny_bundle
from onnx import TensorProto, helper, numpy_helper

from jetlift.engines import ops
from jetlift.export.recipes.clip_bpe import tokenizer_json
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import MANIFEST_NAME, Bundle, list_files
from jetlift.runtime.manifest import (
    SCHEMA_VERSION,
    Classification,
    Manifest,
    Part,
    TensorSpec,
    TextPreprocess,
    Variant,
    Weights,
    ZeroShot,
)

if TYPE_CHECKING:
    from pathlib import Path

MAX_TOKENS = 24
VOCABULARY = 514
TOKENIZER, LABELS = "assets/tokenizer.json", "assets/labels.txt"
FACTS = ZeroShot("image", "text", 14.0, 0.0, scores="softmax", template="a {}.")


def text_graph() -> onnx.ModelProto:
    """input_ids [batch, sequence] -> Gather, weighed by place, sum -> embedding [batch, 8]."""
    random = np.random.default_rng(7)
    table = random.standard_normal((VOCABULARY, 8)).astype(np.float32)
    places = random.uniform(0.5, 1.5, (MAX_TOKENS, 1)).astype(np.float32)
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(places, "places")]
    for name, value in (("zero", [0]), ("one", [1])):
        constants.append(numpy_helper.from_array(np.array(value, np.int64), name))
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"], "tokens"),
        helper.make_node("Shape", ["input_ids"], ["length"], "length", start=1, end=2),
        helper.make_node("Slice", ["places", "zero", "length", "zero"], ["weights"], "weights"),
        helper.make_node("Mul", ["tokens", "weights"], ["weighed"], "weighed"),
        helper.make_node("ReduceSum", ["weighed", "one"], ["embedding"], "embedding", keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "words",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 8])],
        constants,
    )
    opset = helper.make_opsetid("", tiny_bundle.OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def words_bundle(folder: Path, *, facts: ZeroShot = FACTS, random: bool = False) -> Bundle:
    """Make the bundle described above in `folder` and open it."""
    (folder / "assets").mkdir(parents=True)
    (folder / TOKENIZER).write_bytes(tokenizer_json([]))
    text = Part(
        inputs=(
            TensorSpec(
                "input_ids", "int64", ("batch", "sequence"), (1, 3), (1, 12), (4, MAX_TOKENS)
            ),
        ),
        outputs=(TensorSpec("embedding", "float32", ("batch", 8)),),
        parameters=VOCABULARY * 8 + MAX_TOKENS,
        preprocess=TextPreprocess(
            kind="text", tokenizer=TOKENIZER, max_tokens=MAX_TOKENS, ids="input_ids"
        ),
        variants={"fp32": _write(folder, "text", text_graph(), {"input_ids": (1, 12)})},
    )
    return _finish(
        folder,
        {"image": _image_part(folder), "text": text},
        ("classify", "embed", "search"),
        random=random,
        zero_shot=facts,
    )


def classes_bundle(folder: Path, *, labels: int = 8) -> Bundle:
    """Make a bundle of fixed classes in `folder` and open it."""
    (folder / "assets").mkdir(parents=True)
    names = "".join(f"kind {number}\n" for number in range(labels))
    (folder / LABELS).write_text(names, encoding="utf-8")
    head = Classification(output="embedding", labels=LABELS)
    part = replace(_image_part(folder), classification=head)
    return _finish(folder, {"image": part}, ("classify",), random=False)


def _image_part(folder: Path) -> Part:
    graph = tiny_bundle.image("fp32")
    pixels = (3, 32, 32)
    shape = ("batch", *pixels)
    return Part(
        inputs=(
            TensorSpec("pixel_values", "float32", shape, (1, *pixels), (1, *pixels), (4, *pixels)),
        ),
        outputs=(
            TensorSpec("embedding", "float32", ("batch", 8)),
            TensorSpec("patch_tokens", "float32", ("batch", 16, 8)),
        ),
        parameters=16 * 48 + 16 + 16 * 64 + 16 + 16 * 8,
        preprocess=tiny_bundle.PREPROCESS,
        variants={"fp32": _write(folder, "image", graph, {"pixel_values": (1, *pixels)})},
    )


def _finish(
    folder: Path, parts: dict[str, Part], tasks: tuple[str, ...], *, random: bool, **facts: Any
) -> Bundle:
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        jetlift="0.1.0",
        model="words",
        tasks=tasks,
        weights=Weights("drawn", "Apache-2.0", None, "drawn for tests", random=random),
        parts=parts,
        calibration={},
        tools={"onnx": onnx.__version__},
        files=list_files(folder),
        **facts,
    )
    (folder / MANIFEST_NAME).write_text(jsonform.dumps(manifest), encoding="utf-8")
    return Bundle.open(folder)


def _write(
    folder: Path, part: str, model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]
) -> Variant:
    file = f"{part}.fp32.onnx"
    onnx.save(model, folder / file)
    return Variant(
        precision="fp32",
        rest="fp32",
        file=file,
        data_files=(),
        cost=ops.count(model, shapes).cost,
        kept_wide=(),
        fidelity=None,
    )
