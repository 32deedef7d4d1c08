"""Makes a contender's own form of a model, in the contender's Python: run by path, no jetlift.

    python maker.py nncf GRAPH.onnx FEEDS.npz DESTINATION.xml transformer|plain
    python maker.py optimum-text FOLDER DESTINATION

`nncf` quantises an ONNX graph after training with NNCF's defaults, as OpenVINO's guide has it;
FEEDS are arrays `NUMBER/NAME`. `optimum-text` exports transformers' encoder in FOLDER to
DESTINATION/onnx/model.onnx, as optimum does it, beside a copy of the folder.

Exit status: 0 done, 66 a package is missing (its name is the last line), else it failed.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MISSING = 66


def nncf(graph: str, feeds: str, destination: str, kind: str) -> None:
    """Post-training quantisation with NNCF."""
    import numpy as np

    library: Any = importlib.import_module("nncf")
    openvino: Any = importlib.import_module("openvino")
    with np.load(feeds, allow_pickle=False) as arrays:
        numbers = sorted({name.partition("/")[0] for name in arrays.files})
        samples = [
            {
                name.partition("/")[2]: arrays[name]
                for name in arrays.files
                if name.partition("/")[0] == number
            }
            for number in numbers
        ]
    model = openvino.Core().read_model(graph)
    options = {"model_type": library.ModelType.TRANSFORMER} if kind == "transformer" else {}
    quantised = library.quantize(
        model, library.Dataset(samples), subset_size=len(samples), **options
    )
    openvino.save_model(quantised, destination, compress_to_fp16=False)


def optimum_text(folder: str, destination: str) -> None:
    """A sentence encoder as optimum exports it."""
    exporter: Any = importlib.import_module("optimum.exporters.onnx")
    shutil.copytree(folder, destination)
    made = Path(destination) / "onnx"
    exporter.main_export(
        folder, output=made, task="feature-extraction", library_name="transformers",
        local_files_only=True, do_validation=False,
    )  # fmt: skip


MAKERS: dict[str, Callable[..., None]] = {"nncf": nncf, "optimum-text": optimum_text}


def main(arguments: list[str]) -> int:
    """Do what the command line asks for."""
    own = str(Path(__file__).resolve().parent)
    sys.path[:] = [path for path in sys.path if path and str(Path(path).resolve()) != own]
    try:
        MAKERS[arguments[0]](*arguments[1:])
    except ImportError as error:  # some packages turn a missing one into a plain ImportError
        sys.stderr.write(f"\n{error.name or str(error).splitlines()[0]}\n")
        return MISSING
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
