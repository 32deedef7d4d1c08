"""The other quantisers: what each is asked to do, whether it is here, and doing it.

Rules:
    P1  A peer gets the bundle's fp32 graph and the calibration samples that the bundle had, and
        nothing else. Where it has defaults they stay; what is set is in the method's options.
    P2  It works in a child process, in the Python it is installed in (quantiser_child.py), on
        copies: a bundle never changes, and a peer that dies or hangs takes nothing with it.
    P3  A peer that fails is a result, told in its own last words; one that is not installed is
        none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetlift.benchmarks.quantiser_child import MISSING, WEIGHTED
from jetlift.runtime.errors import EngineLibraryError, MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

_CHILD = Path(__file__).with_name("quantiser_child.py")
_SHOWN_CHARS = 300
_ORT_SYMMETRIC = {
    "per_channel": True,
    "activation_type": "QInt8",
    "weight_type": "QInt8",
}
_SYMMETRIC_SCALES = {"ActivationSymmetric": True, "WeightSymmetric": True}
_PRODUCTS = ["MatMul", "Gemm", "Conv"]


@dataclass(frozen=True)
class Method:
    """One way to make an INT8 graph.

    Attributes:
        title: Name for people.
        peer: The package that does it, as quantiser_child.py names it; empty for a variant of
            the bundle.
        tool: Its function, as quantiser_child.py names it, or the variant's name.
        words: What is asked of it, in a sentence.
        options: Keyword arguments it gets.
    """

    title: str
    peer: str
    tool: str
    words: str
    options: Mapping[str, Any] = field(default_factory=dict)


_MODELOPT, _ORT = "NVIDIA Model Optimizer", "ONNX Runtime"

METHODS: dict[str, Method] = {
    "jetlift": Method("jetlift", "", "int8", "The bundle's int8 variant"),
    "jetlift-fp16": Method("jetlift, FP16 rest", "", "int8-fp16", "The bundle's int8-fp16 variant"),
    "modelopt-max": Method(
        f"{_MODELOPT}, max",
        "modelopt",
        "modelopt",
        "Defaults for INT8, with max calibration and an FP32 rest",
        {"calibration_method": "max", "high_precision_dtype": "fp32"},
    ),
    "modelopt-entropy": Method(
        f"{_MODELOPT}, entropy",
        "modelopt",
        "modelopt",
        "Defaults for INT8 (entropy calibration), with an FP32 rest",
        {"calibration_method": "entropy", "high_precision_dtype": "fp32"},
    ),
    "modelopt-default": Method(
        f"{_MODELOPT}, FP16 rest",
        "modelopt",
        "modelopt",
        "All defaults: entropy calibration and an FP16 rest",
    ),
    "ort-s8s8": Method(
        f"{_ORT} static, S8S8",
        "onnxruntime",
        "onnxruntime-static",
        "Symmetric int8, per channel, every operator it can quantise",
        {**_ORT_SYMMETRIC, "extra_options": _SYMMETRIC_SCALES},
    ),
    "ort-s8s8-weighted": Method(
        f"{_ORT} static, S8S8, weighted",
        "onnxruntime",
        "onnxruntime-static",
        "Symmetric int8, per channel, inputs of weighted MatMul, Gemm and Conv alone and no "
        "biases: jetlift's own scope, as users who build for TensorRT must set it up by hand",
        {
            **_ORT_SYMMETRIC,
            "op_types_to_quantize": _PRODUCTS,
            "nodes_to_quantize": WEIGHTED,
            "extra_options": {
                **_SYMMETRIC_SCALES,
                "OpTypesToExcludeOutputQuantization": _PRODUCTS,
                "QuantizeBias": False,
            },
        },
    ),
    "ort-u8s8": Method(
        f"{_ORT} static, U8S8",
        "onnxruntime",
        "onnxruntime-static",
        "Unsigned activations with a zero point, as its guide recommends for processors; TensorRT "
        "takes no zero points",
        {"activation_type": "QUInt8", "weight_type": "QInt8"},
    ),
    "ort-dynamic": Method(
        f"{_ORT} dynamic",
        "onnxruntime",
        "onnxruntime-dynamic",
        "Scales found anew on every run, which TensorRT does not take; needs no samples",
    ),
}


@dataclass(frozen=True)
class Peer:
    """An installed peer.

    Attributes:
        python: The interpreter it is installed in.
        versions: Packages that make its result, with their versions.
    """

    python: str
    versions: dict[str, str]


def find_peer(name: str, python: str = sys.executable) -> Peer:
    """Look whether a Python has a peer, by importing it there.

    Args:
        name: `onnxruntime` or `modelopt`.
        python: The interpreter.

    Raises:
        MachineError: It lacks the peer or something that the peer needs, or does not start.
    """
    try:
        done = _run(python, ["probe", name])
        versions = json.loads(done.stdout.strip().splitlines()[-1]) if not done.returncode else {}
    except (OSError, ValueError, IndexError) as error:
        raise MachineError(
            f"{name} cannot be looked for: {Path(python).name} gave no answer ({error})",
            expected="A Python interpreter",
        ) from error
    if not versions:
        lacks = (
            f"the package '{last_words(done.stderr)}' is not installed in that Python"
            if done.returncode == MISSING
            else last_words(done.stderr) or f"exit status {done.returncode}"
        )
        raise MachineError(
            f"{name} cannot be used: {lacks}",
            do="The docstring of jetlift.benchmarks.precision_compare says how to install it",
        )
    return Peer(python, {str(key): str(value) for key, value in versions.items()})


def save_feeds(path: Path, feeds: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
    """Write graph inputs for the child: arrays `000007/input`, the sample's number first."""
    import numpy as np

    arrays = {
        f"{number:06d}/{name}": array
        for number, sample in enumerate(feeds)
        for name, array in sample.items()
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]  # a keyword of numpy's own is no input's


def quantise(method: Method, peer: Peer, graph: Path, feeds: Path, folder: Path) -> Path:
    """Have a peer quantise a graph (rules P1 and P2).

    Args:
        method: What to do.
        peer: Who does it.
        graph: The fp32 graph; external data lies beside it as `NAME.data`.
        feeds: What `save_feeds` wrote.
        folder: An empty folder to work in.

    Returns:
        The INT8 graph, in `folder`.

    Raises:
        EngineLibraryError: The peer failed.
    """
    work, made = folder / "work", folder / "int8.onnx"
    work.mkdir()
    data = graph.with_name(f"{graph.name}.data")
    for path in (graph, data) if data.exists() else (graph,):
        shutil.copyfile(path, work / path.name)
    options = dict(method.options)
    if data.exists():
        options["use_external_data_format"] = True
    request = {
        "tool": method.tool,
        "graph": str(work / graph.name),
        "feeds": str(feeds),
        "destination": str(made),
        "options": options,
    }
    (work / "request.json").write_text(json.dumps(request), encoding="utf-8")
    done = _run(peer.python, ["quantise", str(work / "request.json")])
    shutil.rmtree(work)
    if done.returncode != 0 or not made.is_file():
        raise EngineLibraryError(_told(method, done, folder))
    return made


def seconds_since(start_s: float) -> float:
    """Whole seconds since a reading of `time.monotonic`."""
    return round(time.monotonic() - start_s)


def last_words(stderr: str) -> str:
    """The last line that says something, without what terminals paint."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in re.split(r"[\r\n]+", stderr)]
    said = [line for line in lines if line]
    return said[-1][:_SHOWN_CHARS] if said else ""


def _told(method: Method, done: subprocess.CompletedProcess[str], folder: Path) -> str:
    words = last_words(done.stderr).replace(f"{folder}{os.sep}", "")
    if done.returncode < 0:
        how = f"was stopped by signal {-done.returncode}, which may be the system out of memory"
    elif done.returncode == 0:
        how = "said that it was done and wrote no graph"
    else:
        how = f"failed with exit status {done.returncode}"
    return f"{method.title} {how}" + (f": {words}" if words else "")


def _run(python: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if python != sys.executable:  # another Python has other packages
        environment.pop("PYTHONPATH", None)
    return subprocess.run(  # which ends the child on every exception, Ctrl-C included
        [python, str(_CHILD), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=environment,
    )
