"""Bundles whose INT8 wins or loses beyond doubt, for tests of who earns a place.

`early` quantises four million values to multiply sixteen of them: INT8 takes some hundred times as
long. `deep` multiplies by 24 matrices at fp32 and by one of them at int8: no pair of variants of
one model, but a difference that no noise hides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from helpers.tiny_bundle import GraphWriter

from jetlift.engines import ops
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import MANIFEST_NAME, Bundle, list_files
from jetlift.runtime.manifest import (
    SCHEMA_VERSION,
    Fidelity,
    Manifest,
    Part,
    SampleSet,
    TensorSpec,
    Variant,
    Weights,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VALUES, _USED = 2**22, 16
_ROWS, _WIDTH, _DEPTH = 64, 512, 24
SAMPLES = SampleSet(8, "0" * 64, "made up for tests")


def early(precision: str) -> onnx.ModelProto:
    """x [1, 4194304] -> its first 16 values, times a matrix -> y [1, 4]."""
    writer = GraphWriter(precision)
    bounds = {"start": 0, "end": _USED, "axis": 1}
    given = [writer.constant(name, np.array([at], np.int64)) for name, at in bounds.items()]
    some = writer.add("Slice", [writer.data("x"), *given], "some")
    writer.add("MatMul", [writer.data(some), writer.weight("w", (_USED, 4), 1)], "y")
    return writer.model({"x": [1, _VALUES]}, {"y": [1, 4]})


def deep(precision: str) -> onnx.ModelProto:
    """x [64, 512] -> products with 512 x 512 matrices -> y [64, 512]."""
    writer, last = GraphWriter(precision), "x"
    depth = 1 if precision == "int8" else _DEPTH
    for index in range(depth):
        weight = writer.weight(f"w{index}", (_WIDTH, _WIDTH), 1)
        name = "y" if index == depth - 1 else f"h{index}"
        last = writer.add("MatMul", [writer.data(last), weight], name)
    return writer.model({"x": [_ROWS, _WIDTH]}, {"y": [_ROWS, _WIDTH]})


def bundle_of(
    folder: Path, graphs: Mapping[str, onnx.ModelProto], *, met: bool | None = True
) -> Bundle:
    """A bundle with one part, `main`, and these variants.

    `met` is the fidelity of all but fp32; None has none, as random weights have none.
    """
    folder.mkdir(parents=True)
    fidelity = (
        None
        if met is None
        else Fidelity({"y.cosine_min": 0.99}, "cosine_min>=0.95", met, SAMPLES, "made up")
    )
    variants = {}
    for name, model in graphs.items():
        onnx.save(model, folder / f"main.{name}.onnx")
        variants[name] = Variant(
            precision=name,  # type: ignore[arg-type]
            rest="fp32",
            file=f"main.{name}.onnx",
            data_files=(),
            cost=ops.count(model, {}).cost,
            kept_wide=(),
            fidelity=None if name == "fp32" else fidelity,
        )
    first = next(iter(graphs.values())).graph
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        jetlift="0.1.0",
        model="raced",
        tasks=(),
        weights=Weights("drawn", "Apache-2.0", None, "drawn with a fixed seed", random=True),
        parts={"main": Part(_specs(first.input), _specs(first.output), 1, None, variants)},
        calibration={},
        tools={"onnx": onnx.__version__},
        files=list_files(folder),
    )
    (folder / MANIFEST_NAME).write_text(jsonform.dumps(manifest), encoding="utf-8")
    return Bundle.open(folder)


def _specs(values: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            value.name, "float32", tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        )
        for value in values
    )
