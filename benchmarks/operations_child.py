"""Networks counted by jetlift and by another counter, in a process of their own.

    python -m jetlift.benchmarks.operations_child [--darknet FOLDER] NAME [NAME ...]

Prints one line of JSON per network as soon as it is counted. The other counter is
`torch.utils.flop_counter.FlopCounterMode`, which sees the operators that PyTorch runs and knows
nothing of graphs; where a network allows, it runs on tensors without content and nothing is
computed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import importlib.metadata
import json
import logging
import sys
import time
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.benchmarks.operations_networks import networks
from jetlift.engines.ops import count
from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx
    import onnx_ir as ir
    import torch

    from jetlift.benchmarks.operations_networks import Network

_SMALL = 4096  # elements; what is larger says nothing of shapes
_OPSET = 18


def counted(network: Network) -> dict[str, Any]:
    """Both counts of one network, in multiply-adds and bytes.

    Args:
        network: Which.
    """
    import torch

    start_s = time.perf_counter()
    with torch.device("meta") if network.tensors == "meta" else contextlib.nullcontext():
        module, arguments = network.make()
        theirs = flop_counter_macs(module, arguments, fake=network.tensors == "fake")
        proto = exported(module, arguments)
    found = count(proto, {})
    cost = found.cost
    return {
        "name": network.name,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "macs": sum(cost.operations_by_precision.values()) / 2,
        "flop_counter_macs": theirs,
        "operations": cost.operations,
        "weight_bytes": cost.weight_bytes,
        "moved_bytes": (cost.read_bytes or 0) + (cost.written_bytes or 0),
        "fused_bytes": (cost.fused_read_bytes or 0) + (cost.fused_written_bytes or 0),
        "uncounted": list(found.uncounted),
        "seconds": round(time.perf_counter() - start_s, 1),
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "versions": _versions(network.source),
    }


def _versions(source: str) -> dict[str, str]:
    """Versions of what defined, exported and counted."""
    found = {}
    for package in ("torch", "onnxscript", "onnx", source):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def flop_counter_macs(
    module: torch.nn.Module, arguments: tuple[torch.Tensor, ...], *, fake: bool = False
) -> float:
    """Multiply-adds as PyTorch's own counter has them.

    Args:
        module: In eval mode.
        arguments: What it is called with.
        fake: Whether to run it on copies without content, so that nothing is computed.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    mode = FakeTensorMode(allow_non_fake_inputs=True) if fake else contextlib.nullcontext()
    counter = FlopCounterMode(display=False)
    module.requires_grad_(requires_grad=False)  # the counter hooks the gradients of what has any
    # The plain kernel is made of products that the counter knows, on every device.
    with mode, counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        module(*arguments)
    return float(counter.get_total_flops()) / 2


def exported(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> onnx.ModelProto:
    """The module's graph as exports have it, optimised, with large weights named but absent.

    Raises:
        UsageError: The exporter returned nothing.
    """
    import onnx_ir as ir
    import onnxscript.optimizer
    import torch

    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module, arguments, dynamo=True, opset_version=_OPSET, optimize=False, verbose=False
        )
        if program is None:
            raise UsageError("torch.onnx.export returned nothing", expected="An ONNX program")
        model = program.model
        _without_content(model)
        onnxscript.optimizer.optimize_ir(model)
    for value, stored in _weights(model):
        if stored.size > _SMALL:
            name, shape = str(value.name), ir.Shape(stored.shape.numpy())
            value.const_value = ir.ExternalTensor(
                "absent", 0, stored.nbytes, stored.dtype, shape=shape, name=name
            )
    return ir.to_proto(model)


def _weights(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            yield value, value.const_value


def _without_content(model: ir.Model) -> None:
    """Let large weights, and those without content, be drawn where they are looked at."""
    import onnx_ir as ir
    import torch

    for value, stored in _weights(model):
        raw, shape = getattr(stored, "raw", None), tuple(stored.shape.numpy())
        if stored.size > _SMALL or (isinstance(raw, torch.Tensor) and raw.is_meta):
            value.const_value = ir.LazyTensor(
                _Drawn(str(value.name), stored.dtype, shape),
                dtype=stored.dtype,
                shape=ir.Shape(shape),
                name=value.name,
            )


class _Drawn:
    """Makes one tensor when called: like no other, since optimisers merge what is equal."""

    def __init__(self, name: str, dtype: ir.DataType, shape: tuple[int, ...]) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape

    def __call__(self) -> ir.TensorProtocol:
        import onnx_ir as ir

        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        values = random.random(self.shape, np.float32) + np.float32(0.5)  # variances are positive
        return ir.tensor(values.astype(self.dtype.numpy()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters tell of their progress; what fails is raised all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def main(arguments: Sequence[str]) -> int:
    """Count one after another; a line goes out before the next is begun."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--darknet", type=Path)
    parser.add_argument("names", nargs="+")
    asked = parser.parse_args(arguments)
    known = networks(asked.darknet)
    for name in asked.names:
        sys.stdout.write(json.dumps(counted(known[name])) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
