"""A whole bundle in a few kilobytes, for tests of what stands on bundles.

`tiny_bundle(folder)` makes a valid bundle with two parts, each as fp32, fp16 and int8:
    mlp    x float32 [batch, 16] -> y float32 [batch, 4], a graph of one's own
    image  pixel_values float32 [batch, 3, 32, 32] -> embedding [batch, 8] and patch_tokens
           [batch, 16, 8] on a 4 x 4 grid, with an ImagePreprocess
The weights are drawn with a fixed seed. The int8 graphs are symmetric Q/DQ, as export writes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jetlift.engines import ops
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import MANIFEST_NAME, Bundle, list_files
from jetlift.runtime.manifest import (
    SCHEMA_VERSION,
    ImagePreprocess,
    Manifest,
    Part,
    SampleSet,
    TensorSpec,
    Variant,
    Weights,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OPSET = 18
PRECISIONS = ("fp32", "fp16", "int8")
ACTIVATION_SCALE = 6 / 127  # drawn weights keep activations within six


class GraphWriter:
    """Writes one small graph in one precision."""

    def __init__(self, precision: str, *, seed: int = 0) -> None:
        self.precision = precision
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def weight(self, name: str, shape: tuple[int, ...], axis: int) -> str:
        fan_in = int(np.prod(shape)) // shape[axis]
        array = (self.random.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)
        if self.precision == "int8":
            return self._int8(name, array, axis)
        return self.constant(
            name, array.astype(np.float16 if self.precision == "fp16" else np.float32)
        )

    def bias(self, name: str, size: int) -> str:
        array = self.random.standard_normal(size) / 8
        return self.constant(
            name, array.astype(np.float16 if self.precision == "fp16" else np.float32)
        )

    def data(self, name: str) -> str:
        """What a weighted node reads: the tensor itself, or behind its Q/DQ pair."""
        if self.precision != "int8":
            return name
        scale = self.constant(f"{name}_scale", np.float32(ACTIVATION_SCALE))
        zero = self.constant(f"{name}_zero", np.int8(0))
        narrow = self.add("QuantizeLinear", [name, scale, zero], f"{name}_int8")
        return self.add("DequantizeLinear", [narrow, scale, zero], f"{name}_dq")

    def border(self, name: str, to: int) -> str:
        """A Cast where the graph is fp16 inside, else the tensor itself."""
        return self.add("Cast", [name], f"{name}_cast", to=to) if self.precision == "fp16" else name

    def model(self, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> onnx.ModelProto:
        def infos(shapes: dict[str, list[Any]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in shapes.items()
            ]

        graph = helper.make_graph(self.nodes, "tiny", infos(inputs), infos(outputs), self.constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _int8(self, name: str, array: Any, axis: int) -> str:
        others = tuple(i for i in range(array.ndim) if i != axis)
        scale = (np.abs(array).max(axis=others) / 127).astype(np.float32)
        along = [1] * array.ndim
        along[axis] = -1
        codes = np.clip(np.rint(array / scale.reshape(along)), -127, 127).astype(np.int8)
        given = [
            self.constant(f"{name}_int8", codes),
            self.constant(f"{name}_scale", scale),
            self.constant(f"{name}_zero", np.zeros(scale.shape, np.int8)),
        ]
        return self.add("DequantizeLinear", given, f"{name}_dq", axis=axis)


def mlp(precision: str = "fp32", *, hidden: int = 32) -> onnx.ModelProto:
    """x [batch, 16] -> Gemm, Relu, MatMul -> y [batch, 4]."""
    writer = GraphWriter(precision)
    x = writer.border("x", TensorProto.FLOAT16)
    bias = writer.bias("fc1_bias", hidden)
    h = writer.add("Gemm", [writer.data(x), writer.weight("fc1_w", (16, hidden), 1), bias], "fc1")
    h = writer.add("Relu", [h], "act")
    last = "y_narrow" if precision == "fp16" else "y"
    y = writer.add("MatMul", [writer.data(h), writer.weight("fc2_w", (hidden, 4), 1)], last)
    if precision == "fp16":
        writer.add("Cast", [y], "y", to=TensorProto.FLOAT)
    return writer.model({"x": ["batch", 16]}, {"y": ["batch", 4]})


def image(precision: str = "fp32") -> onnx.ModelProto:
    """pixel_values [batch, 3, 32, 32] -> patch_tokens [batch, 16, 8], embedding [batch, 8]."""
    writer = GraphWriter(precision, seed=1)
    narrow = precision == "fp16"
    x = writer.border("pixel_values", TensorProto.FLOAT16)
    stem = [writer.data(x), writer.weight("conv1_w", (16, 3, 4, 4), 0), writer.bias("conv1_b", 16)]
    h = writer.add("Conv", stem, "conv1", strides=[4, 4], kernel_shape=[4, 4])
    h = writer.add("Relu", [h], "act1")
    second = [
        writer.data(h),
        writer.weight("conv2_w", (16, 16, 2, 2), 0),
        writer.bias("conv2_b", 16),
    ]
    h = writer.add("Conv", second, "conv2", strides=[2, 2], kernel_shape=[2, 2])
    h = writer.add("Relu", [h], "act2")
    h = writer.add("Reshape", [h, writer.constant("grid", np.array([0, 16, 16], np.int64))], "flat")
    h = writer.add("Transpose", [h], "tokens", perm=[0, 2, 1])
    names = ("patch_tokens_narrow", "embedding_narrow") if narrow else ("patch_tokens", "embedding")
    h = writer.add("MatMul", [writer.data(h), writer.weight("head_w", (16, 8), 1)], names[0])
    axes = writer.constant("axes", np.array([1], np.int64))
    e = writer.add("ReduceMean", [h, axes], names[1], keepdims=0)
    if narrow:
        writer.add("Cast", [h], "patch_tokens", to=TensorProto.FLOAT)
        writer.add("Cast", [e], "embedding", to=TensorProto.FLOAT)
    return writer.model(
        {"pixel_values": ["batch", 3, 32, 32]},
        {"embedding": ["batch", 8], "patch_tokens": ["batch", 16, 8]},
    )


def tiny_bundle(
    folder: Path, *, precisions: Sequence[str] = PRECISIONS, random: bool = True
) -> Bundle:
    """Make the bundle described above in `folder`, which must not hold one, and open it.

    Args:
        folder: Where to.
        precisions: Variants of each part.
        random: Whether it says that its weights are random, which commands refuse to run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "mlp": Part(
            inputs=(_input("x", ("batch", 16)),),
            outputs=(TensorSpec("y", "float32", ("batch", 4)),),
            parameters=16 * 32 + 32 + 32 * 4,
            preprocess=None,
            variants={name: _write(folder, "mlp", name, mlp(name)) for name in precisions},
        ),
        "image": Part(
            inputs=(_input("pixel_values", ("batch", 3, 32, 32)),),
            outputs=(
                TensorSpec("embedding", "float32", ("batch", 8)),
                TensorSpec("patch_tokens", "float32", ("batch", 16, 8)),
            ),
            parameters=16 * 48 + 16 + 16 * 64 + 16 + 16 * 8,
            preprocess=PREPROCESS,
            variants={name: _write(folder, "image", name, image(name)) for name in precisions},
            patch_grid_hw=(4, 4),
        ),
    }
    note = "drawn with a fixed seed for tests"
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        jetlift="0.1.0",
        model="tiny",
        tasks=("embed", "search", "anomaly"),
        weights=Weights("drawn", "Apache-2.0", None, note, random=random),
        parts=parts,
        calibration={"image": SampleSet(0, "0" * 64, note)} if "int8" in precisions else {},
        tools={"onnx": onnx.__version__},
        files=list_files(folder),
    )
    (folder / MANIFEST_NAME).write_text(jsonform.dumps(manifest), encoding="utf-8")
    return Bundle.open(folder)


PREPROCESS = ImagePreprocess(
    kind="image",
    input="pixel_values",
    size_wh=(32, 32),
    fit="crop",
    resize_short=36,
    resample="bicubic_antialias",
    colour="rgb",
    scale=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def _input(name: str, shape: tuple[Any, ...]) -> TensorSpec:
    fixed = shape[1:]
    return TensorSpec(name, "float32", shape, (1, *fixed), (1, *fixed), (4, *fixed))


def _write(folder: Path, part: str, precision: str, model: onnx.ModelProto) -> Variant:
    file = f"{part}.{precision}.onnx"
    onnx.save(model, folder / file)
    shapes = {"x": (1, 16)} if part == "mlp" else {"pixel_values": (1, 3, 32, 32)}
    return Variant(
        precision=precision,  # type: ignore[arg-type]
        rest="fp16" if precision == "fp16" else "fp32",
        file=file,
        data_files=(),
        cost=ops.count(model, shapes).cost,
        kept_wide=(),
        fidelity=None,
    )
