"""Engines in memory: arrays in, arrays out, whatever library computes.

Rules:
    E1  `cpu` is OpenVINO: the built engine where there is one and its passport says `load`, else
        the bundle's ONNX compiled in memory.
    E2  An engine whose passport says anything else is never loaded and never passed over.
    E3  Where OpenVINO is not installed, ONNX Runtime computes instead, and a notice says so.
    E4  `cpu-onnxruntime` is the reference, straight from the ONNX.
    E5  `gpu` and `gpu-smNN`, `rtx-smNN` and the boards are TensorRT's: an engine has to be built,
        since building takes minutes. The library is the one that the passport's judgement names.
    E6  An engine that brings code for the host (a version-compatible one) may run it only where its
        passport, whose hash of the file holds, says that it is one.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from typing import TYPE_CHECKING, Literal, NamedTuple

from jetlift.runtime.errors import PassportError, UnknownNameError
from jetlift.runtime.session.base import EngineInfo, GpuOptions, Session, check_feeds

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.passport import Passport
    from jetlift.runtime.session.trt_library import Library

__all__ = ["EngineInfo", "GpuOptions", "Session", "check_feeds", "open_onnx", "open_session"]

CPU, REFERENCE = "cpu", "cpu-onnxruntime"
# What a target of TensorRT's can be called; which of them there are is a matter of jetlift.engines.
_GPU = re.compile(r"gpu(?:-sm\d+)?|rtx-sm\d+|(?:[a-z0-9]+-)*(?:orin|thor|xavier)(?:-[a-z0-9]+)*")
FALLBACK_ADVICE = (
    "Its results are right, but INT8 and FP16 run no faster than FP32 there; "
    "for the real engine: pip install 'jetlift[cpu]'"
)


def open_session(
    bundle: Bundle,
    part: str,
    precision: str,
    *,
    target: str = CPU,
    threads: int | None = None,
    gpu: GpuOptions | None = None,
    notices: list[str] | None = None,
) -> Session:
    """Open a variant of a bundle's part for running (rules E1 to E6).

    Args:
        bundle: A verified bundle.
        part: Name of the part.
        precision: Name of the variant.
        target: `cpu`, `cpu-onnxruntime`, or a target whose engines this machine can load.
        threads: Threads of the processor to compute with; None leaves it to the library.
        gpu: How to run on a GPU; no matter elsewhere.
        notices: Takes sentences the user should read.

    Raises:
        UnknownNameError: No such part, variant or target.
        PassportError: There is an engine and it may not load here.
        MissingPackageError: No library for the target is installed.
        EngineLibraryError: The library failed.
    """
    name, described = bundle.part(part)
    onnx = bundle.path(bundle.variant(name, precision).file)
    tell = [] if notices is None else notices
    if target == CPU and not _installed("openvino"):
        tell.append(f"OpenVINO is not installed, so ONNX Runtime computes. {FALLBACK_ADVICE}")
    elif target != REFERENCE:
        admitted = admitted_engine(bundle, name, precision, target, notices=tell)
        if target == CPU:
            return _open_on_cpu(bundle, name, precision, admitted, threads)
        if admitted is not None:
            return _open_on_gpu(bundle, name, admitted, gpu or GpuOptions())
    from jetlift.runtime.session.onnxruntime import OnnxRuntimeSession

    return OnnxRuntimeSession.from_onnx(onnx, threads=threads, part=described)


class Admitted(NamedTuple):
    """An engine that may load here.

    Attributes:
        path: Where it lies.
        passport: What it says it is.
        library: What is to load it.
    """

    path: Path
    passport: Passport
    library: str


def _open_on_cpu(
    bundle: Bundle, part: str, precision: str, admitted: Admitted | None, threads: int | None
) -> Session:
    """The built engine (rule E2), or the compiled ONNX where none is built (rule E1)."""
    from jetlift.runtime.session.openvino import OpenVINOSession

    described = bundle.part(part)[1]
    if admitted is not None:
        return OpenVINOSession.from_engine(admitted.path, threads=threads, part=described)
    onnx = bundle.path(bundle.variant(part, precision).file)
    return OpenVINOSession.from_onnx(onnx, threads=threads, part=described)


def _open_on_gpu(bundle: Bundle, part: str, admitted: Admitted, gpu: GpuOptions) -> Session:
    """The built engine, by the library that may load it (rules E5, E6)."""
    from jetlift.runtime.session.tensorrt import TensorRTSession
    from jetlift.runtime.session.trt_layers import LayerSession

    settings = admitted.passport.settings
    library: dict[str, Library] = {
        "tensorrt": "tensorrt",
        "tensorrt_lean": "tensorrt_lean",
        "tensorrt_rtx": "tensorrt_rtx",
    }
    if admitted.library not in library:
        raise PassportError(
            f"{admitted.path} is an engine of {admitted.library}",
            expected=f"One of {', '.join(library)} for this target",
            do="Build it again with: jetlift build",
        )
    kind = LayerSession if gpu.layers else TensorRTSession
    return kind.from_engine(
        admitted.path,
        library=library[admitted.library],
        part=bundle.part(part)[1],
        cuda_graph=gpu.cuda_graph,
        mapped=gpu.mapped,
        overlap=gpu.overlap,
        host_code=settings is not None and settings.version_compatible,
    )


def admitted_engine(
    bundle: Bundle, part: str, precision: str, target: str, *, notices: list[str] | None = None
) -> Admitted | None:
    """The engine of a variant, once its passport's judgement is `load`.

    Args:
        bundle: A verified bundle.
        part: Name of the part.
        precision: Name of the variant.
        target: Name of the target.
        notices: Takes sentences the user should read.

    Returns:
        None where no engine is built and the target is `cpu`, which can do without.

    Raises:
        UnknownNameError: No such target.
        PassportError: There is an engine and it may not load here, or there has to be one.
    """
    from jetlift.runtime.passport import here, onnx_sha256
    from jetlift.runtime.verdict import judge_file

    if target != CPU and not _GPU.fullmatch(target):
        raise UnknownNameError(
            f"Target {target!r} is unknown",
            expected=f"{CPU}, {REFERENCE}, gpu, gpu-smNN, rtx-smNN or a board, as built",
            do="See them with: jetlift targets",
        )
    path = bundle.engine_path(target, part, precision)
    if not path.exists() and target == CPU:
        return None
    if not path.is_file():
        raise PassportError(
            f"No {precision} engine of part {part} is built for {target}",
            do=f"Build it: jetlift build {bundle.folder} --target {target} --precision {precision}",
        )
    passport, verdict = judge_file(
        path,
        here(gpu=target != CPU),
        onnx_sha256=onnx_sha256(bundle, part, precision),
        target=target,
        bundle=shlex.quote(str(bundle.folder)),
    )
    if passport is None or verdict.action != "load":
        raise PassportError(f"{path}: {verdict.reason}", do=verdict.do)
    if notices is not None:
        notices.extend(verdict.notices)
    return Admitted(path, passport, verdict.library or passport.library)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def open_onnx(
    path: Path,
    *,
    library: Literal["openvino", "onnxruntime"] = "openvino",
    threads: int | None = None,
) -> Session:
    """Open one ONNX graph outside a bundle.

    Raises:
        UnknownNameError: `library` is neither.
        InputError: There is no such file.
        MissingPackageError: The library is not installed.
        EngineLibraryError: The library cannot load the graph.
    """
    if library == "openvino":
        from jetlift.runtime.session.openvino import OpenVINOSession

        return OpenVINOSession.from_onnx(path, threads=threads)
    if library == "onnxruntime":
        from jetlift.runtime.session.onnxruntime import OnnxRuntimeSession

        return OnnxRuntimeSession.from_onnx(path, threads=threads)
    raise UnknownNameError(f"Library {library!r} is unknown", expected="openvino or onnxruntime")
