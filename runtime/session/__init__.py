"""Engines in memory: arrays in, arrays out, whatever library computes.

Rules:
    E1  `cpu` is OpenVINO: the built engine where there is one and its passport says `load`, else
        the bundle's ONNX compiled in memory.
    E2  An engine whose passport says anything else is never loaded and never passed over.
    E3  Where OpenVINO is not installed, ONNX Runtime computes instead, and a notice says so.
    E4  `cpu-onnxruntime` is the reference, straight from the ONNX.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from jetlift.runtime.errors import EngineLibraryError, PassportError, UnknownNameError
from jetlift.runtime.session.base import EngineInfo, Session, check_feeds

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle

__all__ = ["EngineInfo", "Session", "check_feeds", "open_onnx", "open_session"]

CPU, REFERENCE, RTX = "cpu", "cpu-onnxruntime", "rtx-"
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
    notices: list[str] | None = None,
) -> Session:
    """Open a variant of a bundle's part for running (rules E1 to E4).

    Args:
        bundle: A verified bundle.
        part: Name of the part.
        precision: Name of the variant.
        target: `cpu`, `cpu-onnxruntime`, or a target whose engines this machine can load.
        threads: Threads to compute with; None leaves it to the library.
        notices: Takes sentences the user should read.

    Raises:
        UnknownNameError: No such part, variant or target.
        PassportError: There is an engine and it may not load here.
        MissingPackageError: No library for the target is installed.
        EngineLibraryError: The library failed.
    """
    name, described = bundle.part(part)
    onnx = bundle.path(bundle.variant(name, precision).file)
    if target == CPU and not _installed("openvino"):
        tell = [] if notices is None else notices
        tell.append(f"OpenVINO is not installed, so ONNX Runtime computes. {FALLBACK_ADVICE}")
    elif target != REFERENCE:
        return _open_engine(bundle, name, precision, target, threads)
    from jetlift.runtime.session.onnxruntime import OnnxRuntimeSession

    return OnnxRuntimeSession.from_onnx(onnx, threads=threads, part=described)


def _open_engine(
    bundle: Bundle, part: str, precision: str, target: str, threads: int | None
) -> Session:
    """The built engine (rule E2), or on the CPU the compiled ONNX where none is built (rule E1)."""
    engine = admitted_engine(bundle, part, precision, target)
    if target != CPU:
        raise EngineLibraryError(
            f"The {target} engine may load here, but this version of jetlift has no session for it",
            expected=f"Target {CPU} or {REFERENCE}",
        )
    from jetlift.runtime.session.openvino import OpenVINOSession

    described = bundle.part(part)[1]
    if engine is not None:
        return OpenVINOSession.from_engine(engine, threads=threads, part=described)
    onnx = bundle.path(bundle.variant(part, precision).file)
    return OpenVINOSession.from_onnx(onnx, threads=threads, part=described)


def admitted_engine(bundle: Bundle, part: str, precision: str, target: str) -> Path | None:
    """Where the engine of a variant lies, once its passport says `load`.

    Returns:
        None where no engine is built and the target is `cpu`, which can do without.

    Raises:
        UnknownNameError: No such target.
        PassportError: There is an engine and it may not load here, or there has to be one.
    """
    from jetlift.runtime.passport import here, judge, onnx_sha256, read_passport

    if target != CPU and not target.startswith(RTX):
        raise UnknownNameError(
            f"Target {target!r} is unknown", expected=f"{CPU}, {REFERENCE}, or {RTX}smNN as built"
        )
    path = bundle.engine_path(target, part, precision)
    if not path.exists() and target == CPU:
        return None
    if not path.is_file():
        raise PassportError(
            f"No {precision} engine of part {part} is built for {target}",
            do=f"Build it: jetlift build {bundle.folder} --target {target} --precision {precision}",
        )
    host = here(gpu=target != CPU)
    expected = onnx_sha256(bundle, part, precision)
    passport = read_passport(path)
    verdict = judge(passport, host, path, onnx_sha256=expected, target=target)
    if verdict.action != "load":
        raise PassportError(f"{path}: {verdict.reason}", do=verdict.do)
    return path


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
