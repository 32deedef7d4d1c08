"""Quantises one graph with one peer, in the peer's own Python: run by path, knows no jetlift.

    python quantiser_child.py probe NAME        NAME: onnxruntime or modelopt
    python quantiser_child.py quantise REQUEST.json

It imports numpy, onnx and the peer alone, so that a peer whose pins collide with jetlift's can live
in another environment. `probe` prints the versions that make the result, as JSON. A request has
`tool`, `graph`, `feeds` (an .npz as quantisers.py writes it), `destination` and `options`, which go
to the peer as they are; the word `weighted` in place of a list of nodes stands for those with a
constant second input. The graph must lie in a folder that may be written to, since peers write
beside it.

Exit status: 0 done, 66 a package is missing (its name is the last line), else the peer failed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MISSING = 66
WEIGHTED = "weighted"
DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime", "onnx", "numpy"),
    "modelopt": ("nvidia-modelopt", "onnxruntime", "onnx", "onnx-graphsurgeon", "numpy"),
}


class Reader:
    """Calibration data from an .npz, one sample in memory at a time.

    Args:
        path: Arrays named `000007/input`, the sample's number first.
    """

    def __init__(self, path: str) -> None:
        import numpy as np

        self._path = path
        self._names: dict[str, list[str]] = {}
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                self._names.setdefault(name.partition("/")[0], []).append(name)
        self._numbers = sorted(self._names)
        self._at = 0

    def get_next(self) -> dict[str, Any] | None:
        """The next sample, or None after the last."""
        if self._at == len(self._numbers):
            return None
        self._at += 1
        return self._sample(self._at - 1)

    def get_first(self) -> dict[str, Any]:
        """The first sample; the next one stays where it is."""
        return self._sample(0)

    def rewind(self) -> None:
        """Begin again."""
        self._at = 0

    def _sample(self, index: int) -> dict[str, Any]:
        import numpy as np

        names = self._names[self._numbers[index]]
        # Opened anew for each sample: the peers that are handed a reader never close it.
        with np.load(self._path, allow_pickle=False) as arrays:
            return {name.partition("/")[2]: arrays[name] for name in names}


def weighted_nodes(graph: str) -> list[str]:
    """Names of the nodes whose second input is stored in the graph."""
    import onnx

    stored = onnx.load(graph, load_external_data=False).graph
    constants = {item.name for item in stored.initializer}
    return [node.name for node in stored.node if not constants.isdisjoint(node.input[1:2])]


def onnxruntime_static(request: Mapping[str, Any]) -> None:
    """ONNX Runtime's `quantize_static`."""
    from onnxruntime import quantization

    options = dict(request["options"])
    for name in ("activation_type", "weight_type"):
        if name in options:
            options[name] = quantization.QuantType[options[name]]
    if options.get("nodes_to_quantize") == WEIGHTED:
        # Its own option MatMulConstBOnly has no effect on the Q/DQ form.
        options["nodes_to_quantize"] = weighted_nodes(request["graph"])
    quantization.quantize_static(
        request["graph"], request["destination"], Reader(request["feeds"]), **options
    )


def onnxruntime_dynamic(request: Mapping[str, Any]) -> None:
    """ONNX Runtime's `quantize_dynamic`, which needs no samples."""
    from onnxruntime import quantization

    quantization.quantize_dynamic(request["graph"], request["destination"], **request["options"])


def modelopt(request: Mapping[str, Any]) -> None:
    """NVIDIA Model Optimizer's ONNX quantisation."""
    importlib.import_module("modelopt.onnx.quantization").quantize(
        request["graph"],
        output_path=request["destination"],
        calibration_data_reader=Reader(request["feeds"]),
        calibration_eps=["cpu"],
        log_level="WARNING",
        **request["options"],
    )


TOOLS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "onnxruntime-static": onnxruntime_static,
    "onnxruntime-dynamic": onnxruntime_dynamic,
    "modelopt": modelopt,
}


def probe(name: str) -> None:
    """Import a peer and print the versions of what makes its result."""
    importlib.import_module("onnxruntime.quantization")
    if name == "modelopt":
        importlib.import_module("modelopt.onnx.quantization")
    versions = {item: importlib.metadata.version(item) for item in DISTRIBUTIONS[name]}
    sys.stdout.write(json.dumps(versions) + "\n")


def main(arguments: list[str]) -> int:
    """Do what the command line asks for."""
    # A script's own folder comes first on the import path, where modules beside it would be met.
    own = str(Path(__file__).resolve().parent)
    sys.path[:] = [path for path in sys.path if path and str(Path(path).resolve()) != own]
    try:
        if arguments[0] == "probe":
            probe(arguments[1])
        else:
            request = json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
            TOOLS[request["tool"]](request)
    except ImportError as error:  # some packages turn a missing one into a plain ImportError
        sys.stderr.write(f"\n{error.name or str(error).splitlines()[0]}\n")
        return MISSING
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
