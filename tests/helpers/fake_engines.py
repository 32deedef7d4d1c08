"""Fake TensorRT engines of several kinds, and how to open a session on one."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np

from jetlift.runtime.session.fake_cuda import FakeDevice
from jetlift.runtime.session.fake_model import FakeModel, FakeTensor
from jetlift.runtime.session.fake_tensorrt import FakeLibrary
from jetlift.runtime.session.tensorrt import TensorRTSession

# y = 2x + 1, of one to nine rows.
AFFINE = FakeModel(
    inputs=(FakeTensor("x", "FLOAT", (-1, 4), (((1, 4), (9, 4)),)),),
    outputs=(FakeTensor("y", "FLOAT", (-1, 4)),),
    compute=lambda given: {"y": 2 * given["x"] + 1},
    shapes=lambda shapes, _: {"y": shapes["x"]},
)
# The same with two profiles, and rows between them that neither takes.
BUCKETS = replace(
    AFFINE,
    inputs=(FakeTensor("x", "FLOAT", (-1, 4), (((1, 4), (3, 4)), ((6, 4), (9, 4)))),),
)
# Two inputs of a fixed shape and two outputs of other types.
TWO = FakeModel(
    inputs=(FakeTensor("a", "INT64", (3,)), FakeTensor("b", "HALF", (3,))),
    outputs=(FakeTensor("sum", "FLOAT", (3,)), FakeTensor("more", "BOOL", (3,))),
    compute=lambda given: {
        "sum": given["a"].astype(np.float32) + given["b"],
        "more": given["a"] > given["b"],
    },
    shapes=lambda _, __: {"sum": (3,), "more": (3,)},
)
# The values of `size`, which lie on the host, are the shape of y: x again and again.
RESIZED = FakeModel(
    inputs=(
        FakeTensor("x", "FLOAT", (-1,), (((1,), (8,)),)),
        FakeTensor("size", "INT64", (2,), values=((1, 1), (4, 4))),
    ),
    outputs=(FakeTensor("y", "FLOAT", (-1, -1)),),
    compute=lambda given: {"y": np.resize(given["x"], tuple(given["size"]))},
    shapes=lambda _, values: {"y": tuple(int(n) for n in values["size"])},
)
# The positive ones: how many there are depends on the data.
POSITIVE = FakeModel(
    inputs=(FakeTensor("x", "FLOAT", (-1,), (((1,), (64,)),)),),
    outputs=(FakeTensor("y", "FLOAT", (-1,), late=True),),
    compute=lambda given: {"y": given["x"][given["x"] > 0]},
    shapes=lambda _, __: {"y": (-1,)},
)


def opened(model: FakeModel = AFFINE, device: FakeDevice | None = None, **how: Any) -> Any:
    """A session on a fake engine, with its device and library to look at."""
    device = device or FakeDevice()
    library = FakeLibrary(device, model)
    session = TensorRTSession(library, device, model.plan, library="tensorrt", **how)
    return session, device, library


def rows(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32)


WAYS = [
    {},
    {"cuda_graph": True},
    {"mapped": True},
    {"overlap": True},
    {"cuda_graph": True, "overlap": True},
    {"mapped": True, "overlap": True, "cuda_graph": True},
]
PACES = ["lazy", "eager", "chance"]


def paced(pace: str, seed: int = 0) -> FakeDevice:
    return FakeDevice(pace=random.Random(seed) if pace == "chance" else pace)  # type: ignore[arg-type] # noqa: S311
