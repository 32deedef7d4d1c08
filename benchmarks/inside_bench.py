"""What preprocessing costs on the host and inside a graph, and how far each way is from the host's.

    python benchmarks/inside_bench.py [--runs 9] [--samples PICTURES]

Rows, for a camera's frame to DINOv2's input (1280x720 to 224, bicubic with antialias, cropped) and
to YOLOX's (1920x1080 to 416, linear, letterboxed):
    host      prepare_image
    inside    the graph that --frames makes
    one       the same with one matrix in place of every two (antialias kinds alone)
    resize    ONNX's Resize as TensorRT has it: linear, half_pixel, no antialias, nothing rounded
Columns: milliseconds of processor time on one thread, medians of interleaved runs, in ONNX Runtime
and OpenVINO; operations (MAC x 2); the largest and mean difference from the host in levels of 255,
and the share of values that are off by more than half a level, for FP32 and for `one` in TF32.
Exit code 1 where `inside` is off by more than a thousandth of a level.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jetlift.benchmarks.preprocess_bench import natural_like
from jetlift.engines.ops import count
from jetlift.export import graph
from jetlift.export.inside import FRAME
from jetlift.export.inside_check import LEVELS_TOLERANCE, PIXELS, front_alone
from jetlift.export.recipes.dinov2 import PREPROCESS as DINO
from jetlift.runtime.frames import lay
from jetlift.runtime.preprocess import place, prepare_image, resized_pixels
from jetlift.runtime.resample import axis_matrix
from jetlift.runtime.session import open_onnx
from jetlift.runtime.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from jetlift.runtime.manifest import ImagePreprocess

    Array = npt.NDArray[Any]

YOLOX = replace(
    DINO, size_wh=(416, 416), fit="letterbox", resize_short=None, resample="linear_exact",
    colour="bgr", scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip
CASES = {
    "1280x720 to 224": (DINO, (1280, 720)),
    "1920x1080 to 224": (DINO, (1920, 1080)),
    "3840x2160 to 224": (DINO, (3840, 2160)),
    "1920x1080 to 416": (YOLOX, (1920, 1080)),
}


@dataclass(frozen=True)
class Case:
    """One preprocessing at one size of frames, and pictures of that size."""

    spec: ImagePreprocess
    frame_wh: tuple[int, int]
    frames: Sequence[Array]

    def off_by(self, prepared: Callable[[Array], Array]) -> Array:
        """How far a way is from the host's, in levels of 255."""
        levels = self.spec.scale / np.array(self.spec.std).reshape(1, 3, 1, 1)
        found = [np.abs(prepared(f) - prepare_image(f, self.spec)) / levels for f in self.frames]
        return np.concatenate(found)


def with_one_matrix(path: Path) -> onnx.ModelProto:
    """The front with one product in place of every two, rounded at once."""
    model = onnx.load(path)
    weights = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for item in model.graph.initializer:
        if item.name.endswith("coarse_weights"):
            both = weights[item.name] + weights[item.name.replace("coarse", "fine")]
            item.CopyFrom(numpy_helper.from_array(both, item.name))
    dropped = ("_fine", "_fraction", "_rest", "_carry")
    kept = [node for node in model.graph.node if not node.name.endswith(dropped)]
    for node in kept:
        if node.name.endswith("_rounded"):
            node.op_type = "Identity"
            del node.input[1:]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    unused = [item for item in model.graph.initializer if item.name.endswith("fine_weights")]
    for item in unused:
        model.graph.initializer.remove(item)
    return model


def with_resize(spec: ImagePreprocess, frame_wh: tuple[int, int]) -> onnx.ModelProto:
    """Cast, Transpose, Resize, Slice, colour, Pad, Mul, Add."""
    placement = place(frame_wh, spec)
    left, top, width, height = placement.crop_xywh
    std = np.array(spec.std)
    constants = {
        "to": np.array(placement.resized_wh[::-1], np.int64),
        "start": np.array([top, left], np.int64),
        "stop": np.array([top + height, left + width], np.int64),
        "axes": np.array([2, 3], np.int64),
        "colours": np.array([2, 1, 0] if spec.colour == "rgb" else [0, 1, 2], np.int64),
        "pads": np.array([0] * 6 + [spec.size_wh[1] - height, spec.size_wh[0] - width], np.int64),
        "grey": np.float32(spec.pad_value),
        "factor": (spec.scale / std).astype(np.float32).reshape(1, 3, 1, 1),
        "shift": (-np.array(spec.mean) / std).astype(np.float32).reshape(1, 3, 1, 1),
    }
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "axes": [2, 3]}
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Cast", [FRAME], {"to": TensorProto.FLOAT}),
        ("Transpose", [""], {"perm": [0, 3, 1, 2]}),
        ("Resize", ["", "", "", "to"], how),
        ("Slice", ["", "start", "stop", "axes"], {}),
        ("Gather", ["", "colours"], {"axis": 1}),
        ("Pad", ["", "pads", "grey"], {}),
        ("Mul", ["", "factor"], {}),
        ("Add", ["", "shift"], {}),
    ]
    nodes, last = [], FRAME
    for number, (kind, (_, *others), attributes) in enumerate(steps):
        name = PIXELS if number == len(steps) - 1 else f"step{number}"
        nodes.append(helper.make_node(kind, [last, *others], [name], name=name, **attributes))
        last = name
    frame = helper.make_tensor_value_info(FRAME, TensorProto.UINT8, [1, *frame_wh[::-1], 3])
    wanted = [1, 3, *spec.size_wh[::-1]]
    result = helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, wanted)
    held = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    drawn = helper.make_graph(nodes, "resize", [frame], [result], held)
    return helper.make_model(drawn, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def tf32(array: Array) -> Array:
    """float32 numbers with the 11 significant bits that TF32 keeps, to nearest even."""
    bits = np.asarray(array, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0xFFF + ((bits >> 13) & 1)) & 0xFFFFE000
    return rounded.astype(np.uint32).view(np.float32).astype(np.float64)


def one_in_tf32(frame: Array, spec: ImagePreprocess) -> Array:
    """`one` with factors rounded to TF32, in whole levels: float64 [3, height, width], BGR."""
    placement = place((frame.shape[1], frame.shape[0]), spec)
    left, top, width, height = placement.crop_xywh
    (from_wh, to_wh) = placement.image_wh, placement.resized_wh
    across = axis_matrix("bicubic", from_wh[0], to_wh[0], left, width)
    down = axis_matrix("bicubic", from_wh[1], to_wh[1], top, height)
    rows = slice(down.start, down.start + down.weights.shape[1])
    columns = slice(across.start, across.start + across.weights.shape[1])
    planes = frame[rows, columns].transpose(2, 0, 1).astype(np.float64)
    for_width = np.clip(np.floor(planes @ tf32(across.weights).T + 0.5), 0, 255)
    return np.asarray(np.clip(np.floor(tf32(down.weights) @ for_width + 0.5), 0, 255))


def timed(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Medians of interleaved runs, milliseconds of processor time."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            start_s = time.process_time()
            call()
            samples[name].append((time.process_time() - start_s) * 1e3)
    return {name: statistics.median(values) for name, values in samples.items()}


def bench(title: str, case: Case, runs: int, folder: Path) -> bool:
    """Print one case's rows; True where the front equals the host."""
    spec, frame = case.spec, case.frames[0]
    graph.save(front_alone(spec, case.frame_wh), folder / "inside.onnx")
    names = ["inside", "resize"]
    onnx.save(with_resize(spec, case.frame_wh), folder / "resize.onnx")
    if spec.resample != "linear_exact":
        onnx.save(with_one_matrix(folder / "inside.onnx"), folder / "one.onnx")
        names.append("one")
    calls: dict[str, Callable[[], object]] = {"host": lambda: prepare_image(frame, spec)}
    sessions, off_by = {}, {}
    for name in names:
        for library in ("onnxruntime", "openvino"):
            session = open_onnx(folder / f"{name}.onnx", library=library, threads=1)
            sessions[name, library] = session
            calls[f"{name} {library}"] = lambda session=session: session.run({FRAME: frame[None]})  # type: ignore[misc]
        reference = sessions[name, "onnxruntime"]
        off_by[name] = case.off_by(lambda f, s=reference: s.run({FRAME: f[None]})[PIXELS])  # type: ignore[misc]
    medians = timed(calls, runs)
    print(f"\n{title}: host {medians['host']:.1f} ms")
    for name in names:
        cost = count(onnx.load(folder / f"{name}.onnx"), {FRAME: (1, *frame.shape)}).cost
        ort_ms, ov_ms = (medians[f"{name} {library}"] for library in ("onnxruntime", "openvino"))
        print(
            f"  {name:7} onnxruntime {ort_ms:6.1f} ms  openvino {ov_ms:6.1f} ms  "
            f"{cost.operations / 1e9:.3f} GOP   {told(off_by[name])}"
        )
    if "one" in names:
        off = np.concatenate(
            [np.abs(one_in_tf32(f, spec)[::-1] - resized_pixels(f, spec)) for f in case.frames]
        )
        print(f"  one in TF32: max {off.max():.0f}, {np.mean(off > 0):.2%} of values differ")
    for session in sessions.values():
        session.close()
    return bool(off_by["inside"].max() <= LEVELS_TOLERANCE)


def told(off: Array) -> str:
    """Differences in levels, in words."""
    return f"max {off.max():.2g}, mean {off.mean():.2g}, over 1/2 {(off > 0.5).mean():.2%}"


def main() -> int:
    """Print every case's rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--samples", help="real pictures; a drawn one without")
    chosen = parser.parse_args()
    passed = []
    for title, (spec, frame_wh) in CASES.items():
        frames = [natural_like(frame_wh)]
        if chosen.samples:
            with open_source([chosen.samples], limit=16) as source:
                frames = [lay(item.image_bgr, spec, frame_wh) for item in source]
        with tempfile.TemporaryDirectory() as folder:
            case = Case(spec, frame_wh, frames)
            passed.append(bench(title, case, chosen.runs, Path(folder)))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
