"""What a measuring process finds of a GPU's own clock and of where its memory went.

Rules:
    I1  What a machine or a library does not tell is missing with its reason, never zero.
    I2  The C library's allocator is asked, not wrapped: `malloc_info` and `mallinfo2` of glibc
        (https://man7.org/linux/man-pages/man3/malloc_info.3.html, mallinfo.3.html).
    I3  A library that takes memory from the system itself, past malloc, is in none of the
        allocator's figures; it is in the resident memory.
"""

from __future__ import annotations

import ctypes
import re
import statistics
from typing import TYPE_CHECKING, Any

from jetlift.runtime.figure import Figure
from jetlift.runtime.session.base import GpuSession
from jetlift.runtime.timing_form import NO_GPU, GpuTime, MemoryParts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from jetlift.runtime.probe import Reading
    from jetlift.runtime.session.base import Session

GPU_RUNS = 50
LIBRARY_SAYS = "the engine library"
_NOT_GLIBC = "this system's C library is not glibc 2.33 or later"


def gpu_time(
    session: Session, feeds: Sequence[Mapping[str, npt.NDArray[Any]]], runs: int
) -> GpuTime:
    """Medians by the GPU's own clock, of runs of their own.

    Args:
        session: A warm one.
        feeds: Fed in turn.
        runs: How many.
    """
    if not isinstance(session, GpuSession):
        return GpuTime.missing()
    told = [session.run_timed(feeds[index % len(feeds)])[1] for index in range(runs)]

    def median(name: str) -> Figure:
        return Figure(round(statistics.median(getattr(run, name) for run in told), 5))

    return GpuTime(
        runs=runs,
        with_copies_ms=median("with_copies_ms"),
        compute_ms=median("compute_ms"),
        copy_in_ms=median("copy_in_ms"),
        copy_out_ms=median("copy_out_ms"),
    )


def memory_parts(session: Session, before: Reading, after: Reading) -> MemoryParts:
    """Where memory went, as far as this process can find out (rules I1 to I3).

    Args:
        session: Still open.
        before: A look before the engine library was imported.
        after: One after the timed runs.
    """
    peak, in_use = malloc_peak(), malloc_in_use()
    activations = Figure.missing("this engine library does not tell")
    on_gpu, how = NO_GPU, ""
    if isinstance(session, GpuSession):
        activations, how = Figure(session.activation_bytes), LIBRARY_SAYS
        on_gpu = Figure(session.gpu_bytes)
    return MemoryParts(
        weight_bytes=Figure.missing("the graph was not looked at"),
        activation_bytes=activations,
        activations_how=how,
        malloc_peak_bytes=peak,
        malloc_in_use_bytes=in_use,
        gpu_bytes=on_gpu,
        unified_bytes=_change(after.available_bytes, before.available_bytes),
        nvmap_bytes=_change(before.nvmap_bytes, after.nvmap_bytes),
    )


def _change(less: Figure, more: Figure) -> Figure:
    for figure in (less, more):
        if figure.value is None:
            return figure
    return Figure((more.value or 0) - (less.value or 0))


class _MallInfo2(ctypes.Structure):
    """`struct mallinfo2`, every field a size_t."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    )  # fmt: skip


def malloc_in_use() -> Figure:
    """Bytes that malloc has handed out and not got back."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError, TypeError):  # no glibc; Windows knows no CDLL(None)
        return Figure.missing(_NOT_GLIBC)
    mallinfo2.restype = _MallInfo2
    told = mallinfo2()
    return Figure(int(told.uordblks) + int(told.hblkhd))


def malloc_peak() -> Figure:
    """Most that malloc's heaps ever held of the system."""
    try:
        return heaps_peak(_malloc_info())
    except (OSError, AttributeError, TypeError):
        return Figure.missing(_NOT_GLIBC)


def heaps_peak(xml: str) -> Figure:
    """The high-water mark in what `malloc_info` wrote: that of all heaps stands last."""
    found = re.findall(r'<system type="max" size="(\d+)"/>', xml)
    return Figure(int(found[-1])) if found else Figure.missing("malloc_info tells no mark here")


def _malloc_info() -> str:
    """What glibc's `malloc_info` writes, into memory of its own."""
    libc = ctypes.CDLL(None)
    libc.open_memstream.restype = ctypes.c_void_p
    text, size = ctypes.c_char_p(), ctypes.c_size_t()
    stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
    if not stream.value:
        raise OSError("open_memstream failed")
    failed = libc.malloc_info(0, stream)
    libc.fclose(stream)
    told = ctypes.string_at(text, size.value).decode(errors="replace") if text.value else ""
    libc.free(text)
    if failed:
        raise OSError("malloc_info failed")
    return told
