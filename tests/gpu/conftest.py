"""What needs an NVIDIA GPU: `pytest -m gpu tests/gpu` on a Jetson or a workstation.

Every test here runs once per TensorRT library that is installed. Without a GPU, or without a
library or pycuda, it is skipped and says which is missing.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.engines.build import build
from jetlift.engines.where import board_of
from jetlift.runtime.host import here
from jetlift.runtime.session import GpuOptions, open_session

if TYPE_CHECKING:
    from jetlift.engines.build import BuildResult
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session import Session

PRECISIONS = ("fp32", "fp16", "int8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@dataclass(frozen=True)
class Gpu:
    """What engines are built for here."""

    library: str
    target: str
    capability: str


@pytest.fixture(scope="session", params=["tensorrt", "tensorrt_rtx"])
def gpu(request: pytest.FixtureRequest) -> Gpu:
    library: str = request.param
    host = here()
    if host.gpu is None:
        pytest.skip("no NVIDIA GPU with its driver was found")
    for package in (library, "pycuda", "polygraphy", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    capability = host.gpu.compute_capability
    board = board_of(host)
    if library == "tensorrt_rtx":
        if host.board is not None:
            pytest.skip("TensorRT-RTX is not for a Jetson")
        return Gpu(library, f"rtx-sm{capability.replace('.', '')}", capability)
    return Gpu(library, "gpu" if board is None else board.name, capability)


@pytest.fixture(scope="session")
def results(gpu: Gpu, tmp_path_factory: pytest.TempPathFactory) -> list[BuildResult]:
    """Engines of two small graphs at fp32, fp16 and int8."""
    bundle = tiny_bundle(tmp_path_factory.mktemp(gpu.target) / "tiny", precisions=PRECISIONS)
    return build(bundle, gpu.target, race_limit_s=0)


@pytest.fixture(scope="session")
def bundle(results: list[BuildResult]) -> Bundle:
    from jetlift.runtime.bundle import Bundle

    return Bundle.open(results[0].engine_path.parents[2])


@pytest.fixture
def opened(gpu: Gpu, bundle: Bundle) -> Any:
    """Opens a session on the GPU."""

    def open_it(part: str = "mlp", precision: str = "fp32", **how: bool) -> Session:
        return open_session(bundle, part, precision, target=gpu.target, gpu=GpuOptions(**how))

    return open_it
