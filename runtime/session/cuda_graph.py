"""CUDA graphs by way of the driver's own library.

pycuda has no stream capture: no name of the `cuStreamBeginCapture` and `cuGraph` families stands
in inducer/pycuda@v2026.1:src. Five functions of libcuda are all it takes, so they are called by
ctypes, and no second CUDA package is asked for. Their exported names are those that
`cuda.h` of CUDA 13.0 gives them (`cuStreamBeginCapture` is `_v2`, `cuGraphInstantiate` is
`cuGraphInstantiateWithFlags`, which drivers have since CUDA 11.4).

Rules:
    K1  Capture is thread-local: what other threads do with CUDA neither enters nor breaks it.
    K2  A capture that fails is ended, so that its stream can be used again.
"""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING

from jetlift.runtime.errors import EngineLibraryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jetlift.runtime.session.device import Stream

LIBRARY = "libcuda.so.1"
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
_POINTER = ctypes.POINTER(ctypes.c_void_p)
_FUNCTIONS = {
    "cuStreamBeginCapture_v2": (ctypes.c_void_p, ctypes.c_int),
    "cuStreamEndCapture": (ctypes.c_void_p, _POINTER),
    "cuGraphInstantiateWithFlags": (_POINTER, ctypes.c_void_p, ctypes.c_ulonglong),
    "cuGraphLaunch": (ctypes.c_void_p, ctypes.c_void_p),
    "cuGraphDestroy": (ctypes.c_void_p,),
    "cuGraphExecDestroy": (ctypes.c_void_p,),
    "cuGetErrorString": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
}


class CudaGraph:
    """An executable graph (`CUgraphExec`)."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def launch(self, stream: Stream) -> None:
        """Queue it on a stream."""
        call("cuGraphLaunch", self._handle, stream.handle)

    def free(self) -> None:
        """Give it back."""
        call("cuGraphExecDestroy", self._handle)


def capture(stream: Stream, work: Callable[[], None]) -> CudaGraph:
    """Capture what `work` queues on a stream (rules K1, K2).

    Raises:
        EngineLibraryError: The driver is too old, or something in `work` cannot be captured.
    """
    call("cuStreamBeginCapture_v2", stream.handle, _THREAD_LOCAL)
    graph = ctypes.c_void_p()
    try:
        work()
    except BaseException:  # whatever it was goes on its way after the capture is ended
        driver().cuStreamEndCapture(stream.handle, ctypes.byref(graph))
        if graph:
            driver().cuGraphDestroy(graph)
        raise
    call("cuStreamEndCapture", stream.handle, ctypes.byref(graph))
    executable = ctypes.c_void_p()
    try:
        call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, 0)
    finally:
        driver().cuGraphDestroy(graph)
    return CudaGraph(executable.value or 0)


def call(name: str, *arguments: object) -> None:
    """Call a function of the driver.

    Raises:
        EngineLibraryError: It did not answer with success.
    """
    status = getattr(driver(), name)(*arguments)
    if status != 0:
        raise EngineLibraryError(f"{name} failed: {_told(status)}")


@functools.cache
def driver() -> ctypes.CDLL:
    """The driver's library, with the types of what is called here.

    Raises:
        EngineLibraryError: There is none, or it is older than CUDA 11.4.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise EngineLibraryError(
            f"CUDA's driver cannot be loaded: {error}", expected=LIBRARY, do="See: jetlift doctor"
        ) from error
    for name, types in _FUNCTIONS.items():
        if not hasattr(library, name):
            raise EngineLibraryError(
                f"CUDA's driver has no {name}",
                expected="A driver of CUDA 11.4 or newer",
                do="Update the driver, or run without CUDA graphs",
            )
        getattr(library, name).argtypes = types
    return library


def _told(status: int) -> str:
    text = ctypes.c_char_p()
    if driver().cuGetErrorString(status, ctypes.byref(text)) == 0 and text.value:
        return f"{text.value.decode(errors='replace')} ({status})"
    return f"error {status}"
