"""The TensorRT libraries behind one name: which package, what it says, how it fails.

`tensorrt`, `tensorrt_lean` (runs version-compatible engines and cannot build) and `tensorrt_rtx`
have the same names for everything a session needs; tests/test_tensorrt_api.py proves it on their
real bindings.

Rules:
    L1  One logger per package and process, and it stays: TensorRT keeps the first one it is given.
    L2  What TensorRT says goes into the error it leads to, never onto the user's terminal.
    L3  TensorRT answers failure with None or False, its bindings in places with RuntimeError; both
        become EngineLibraryError in `failed` and `failures`, and nowhere else.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
import traceback
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jetlift.runtime.errors import (
    EngineLibraryError,
    MissingPackageError,
    PassportError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

Library = Literal["tensorrt", "tensorrt_lean", "tensorrt_rtx"]

_EXTRAS = {"tensorrt": "tensorrt", "tensorrt_lean": "lean", "tensorrt_rtx": "rtx"}
_JETSON = Path("/etc/nv_tegra_release")
_KEPT_MESSAGES = 32
_TOLD_MESSAGES = 3
# Texts of CUDA's errors 35 and 2 (cudaGetErrorString), which TensorRT tells among its own.
_NOT_THE_ENGINES_FAULT = {
    "driver version is insufficient": "Update NVIDIA's driver, or see: jetlift doctor",
    "out of memory": "Close other users of the GPU's memory",
}


def import_library(name: Library) -> ModuleType:
    """The package of a library.

    Raises:
        MissingPackageError: It is not installed.
        EngineLibraryError: It is and cannot be loaded, or it is a Jetson without JetPack's own.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        if name == "tensorrt" and _JETSON.is_file():
            raise EngineLibraryError(
                "Python finds no tensorrt on this Jetson",
                expected="JetPack's own, which the system's Python has",
                do="Install it with: sudo apt-get install python3-libnvinfer, and make "
                "environments with --system-site-packages",
            ) from error
        raise MissingPackageError(
            name, extra=_EXTRAS[name], purpose="to run engines on an NVIDIA GPU"
        ) from error
    except (ImportError, OSError) as error:  # a library of its own that is missing or too old
        raise EngineLibraryError(
            f"{name} is installed and cannot be loaded: {error}", do="See: jetlift doctor"
        ) from error


class Said(NamedTuple):
    """A message of TensorRT, and the thread it came in."""

    thread: int
    text: str


class Messages:
    """The last errors that TensorRT told (rules L1, L2). Any thread may add."""

    def __init__(self) -> None:
        self._said: deque[Said] = deque(maxlen=_KEPT_MESSAGES)

    def add(self, text: str) -> None:
        """Keep a message."""
        self._said.append(Said(threading.get_ident(), " ".join(text.split())))

    def clear(self) -> None:
        """Forget those of this thread, before a call that may fail."""
        mine = threading.get_ident()
        for said in [said for said in self._said if said.thread == mine]:
            with contextlib.suppress(ValueError):  # another thread's messages pushed it out
                self._said.remove(said)

    def told(self) -> str:
        """This thread's since `clear`, the first first: TensorRT tells causes before effects.

        Where it has none, the newest of any thread; empty where nothing was said at all.
        """
        mine = [said.text for said in self._said if said.thread == threading.get_ident()]
        newest = [said.text for said in self._said][-1:]
        return " / ".join(dict.fromkeys(mine[:_TOLD_MESSAGES] or newest))


@functools.cache
def logger(trt: Any) -> tuple[Any, Messages]:  # noqa: ANN401 - the libraries ship no types
    """A package's one logger, and where it puts errors (rules L1, L2)."""
    messages = Messages()

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                messages.add(msg)

    return Logger(), messages


def failed(trt: Any, doing: str, *, do: str = "") -> EngineLibraryError:  # noqa: ANN401
    """The error for a call that answered with None or False (rule L3)."""
    said = logger(trt)[1].told()
    return EngineLibraryError(
        f"TensorRT could not {doing}: {said or 'it gave no reason'}", expected="", do=do
    )


@contextlib.contextmanager
def failures(trt: Any, doing: str) -> Iterator[None]:  # noqa: ANN401
    """Translate what TensorRT's bindings raise (rule L3)."""
    logger(trt)[1].clear()
    try:
        yield
    except (RuntimeError, TypeError, ValueError, MemoryError) as error:
        said = logger(trt)[1].told()
        raise EngineLibraryError(f"TensorRT could not {doing}: {said or error}") from error


def deserialised(trt: Any, content: Any, *, host_code: bool) -> tuple[Any, Any]:  # noqa: ANN401
    """The runtime and the engine in it.

    Args:
        trt: The library.
        content: The engine file's bytes.
        host_code: Whether code in it may run on the host.

    Raises:
        PassportError: TensorRT refuses the engine.
        EngineLibraryError: TensorRT cannot start.
    """
    with failures(trt, "load the engine"):
        runtime = trt.Runtime(logger(trt)[0])
        if host_code:
            runtime.engine_host_code_allowed = True
        engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        error = failed(trt, "load the engine", do="Build it again with: jetlift build")
        for sign, do in _NOT_THE_ENGINES_FAULT.items():
            if sign in error.got:
                raise EngineLibraryError(error.got, do=do)
        raise PassportError(
            error.got,
            expected=f"An engine that {trt.__name__} {trt.__version__} takes",
            do=error.do,
        )
    return runtime, engine


def forget_frames(error: BaseException | None) -> None:
    """Empty the frames that an error keeps: they would keep the engine in the GPU's memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
