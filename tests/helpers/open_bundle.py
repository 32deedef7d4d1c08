"""A bundle that finds three fixed boxes in any picture and compares them with any words.

Its text part is that of words_bundle; its picture part has the outputs of OWLv2 with constants.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from helpers import tiny_bundle, words_bundle
from onnx import TensorProto, helper, numpy_helper

from jetlift.runtime.manifest import Part, TensorSpec
from jetlift.runtime.task_forms import OpenVocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle

FACTS = OpenVocabulary(
    family="owl", image="image", text="text", template="a {}", score_threshold=0.1,
    iou_threshold=None,
)  # fmt: skip
BOXES = np.array([[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2], [2, 2, 1, 1]], np.float32)
SIDE = 32


def open_bundle(folder: Path) -> Bundle:
    """Make the bundle described above in `folder` and open it."""
    words = words_bundle.words_bundle(folder.with_name(f"{folder.name}-words"))
    text = replace(words.manifest.parts["text"], runs_per="prompt")
    (folder / "assets").mkdir(parents=True)
    for name in (words_bundle.TOKENIZER, "text.fp32.onnx"):
        (folder / name).write_bytes((words.folder / name).read_bytes())
    shape = (1, 3, SIDE, SIDE)
    image = Part(
        inputs=(TensorSpec("pixel_values", "float32", shape, shape, shape, shape),),
        outputs=tuple(TensorSpec(n, "float32", v.shape) for n, v in _outputs().items()),
        parameters=0,
        preprocess=replace(
            tiny_bundle.PREPROCESS, size_wh=(SIDE, SIDE), fit="pad_square", resize_short=None,
            resample="gaussian_linear", pad_value=0,
        ),
        variants={
            "fp32": words_bundle._write(folder, "image", _graph(), {"pixel_values": shape})
        },
    )  # fmt: skip
    parts = {"image": image, "text": text}
    return words_bundle._finish(folder, parts, ("detect",), random=False, open_vocabulary=FACTS)


def _outputs() -> dict[str, np.ndarray]:
    embeddings = np.random.default_rng(3).standard_normal((1, 3, 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return {
        "boxes_cxcywh": BOXES[None],
        "class_embeddings": embeddings,
        "logit_shift": np.ones((1, 3, 1), np.float32),
        "logit_scale": np.full((1, 3, 1), 2, np.float32),
    }


def _graph() -> onnx.ModelProto:
    """Each output is a constant plus 0 times the pixels' sum."""
    constants = [numpy_helper.from_array(np.float32(0), "zero")]
    nodes = [
        helper.make_node("ReduceSum", ["pixel_values"], ["sum"], "sum", keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"], "nothing"),
    ]
    outputs = []
    for name, value in _outputs().items():
        constants.append(numpy_helper.from_array(value, f"{name}_constant"))
        nodes.append(helper.make_node("Add", [f"{name}_constant", "nothing"], [name], name))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, (1, 3, SIDE, SIDE))
    graph = helper.make_graph(nodes, "boxes", [pixels], outputs, constants)
    opset = helper.make_opsetid("", tiny_bundle.OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model
