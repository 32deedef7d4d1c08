"""What a record says of a GPU's own clock and of where a process' memory went.

The GPU's times are those between CUDA events on its streams. They leave out what the processor
does: checking feeds, filling pinned memory, launching, and handing the outputs over.
"""

from __future__ import annotations

from dataclasses import dataclass

from jetlift.runtime.figure import Figure
from jetlift.runtime.jsonform import field

NO_GPU = Figure.missing("no GPU computed")
_OLDER = Figure.missing("the jetlift that measured did not look")


@dataclass(frozen=True)
class GpuTime:
    """Median times by CUDA events, of runs of their own after the timed ones."""

    runs: int = field(doc="Runs that events were recorded around; 0 where none was")
    with_copies_ms: Figure = field(doc="From before the first copy in to after the last one out")
    compute_ms: Figure = field(doc="The computation alone")
    copy_in_ms: Figure = field(doc="Copies from the host to the GPU; 0 where it reads in place")
    copy_out_ms: Figure = field(doc="Copies from the GPU to the host; 0 where it writes in place")

    @classmethod
    def missing(cls, why: Figure = NO_GPU) -> GpuTime:
        """Nothing measured, for one reason."""
        return cls(0, why, why, why, why)


@dataclass(frozen=True)
class MemoryParts:
    """Where memory went, as far as the system, the allocator and the library tell."""

    weight_bytes: Figure = field(doc="Constants, as stored in the graph", default=_OLDER)
    activation_bytes: Figure = field(
        doc="Intermediate tensors that live at the same time, at most", default=_OLDER
    )
    activations_how: str = field(doc="Who says so: the engine library, or the graph", default="")
    malloc_peak_bytes: Figure = field(
        doc="Most that each of the C library's heaps held of the system, summed (glibc's "
        "malloc_info, system max); blocks that are mapped one by one are not in it",
        default=_OLDER,
    )
    malloc_in_use_bytes: Figure = field(
        doc="Handed out by the C library's allocator after the runs, mapped blocks included "
        "(glibc's mallinfo2, uordblks + hblkhd)",
        default=_OLDER,
    )
    gpu_bytes: Figure = field(
        doc="Fall of the GPU's free memory from before the engine to after the runs "
        "(cuMemGetInfo); other users of the GPU are in it",
        default=_OLDER,
    )
    unified_bytes: Figure = field(
        doc="Fall of the board's available memory meanwhile (MemAvailable), where processor and "
        "GPU share one memory; other processes are in it",
        default=_OLDER,
    )
    nvmap_bytes: Figure = field(
        doc="Rise meanwhile of what the board's GPU drivers hold of it (NvMapMemUsed)",
        default=_OLDER,
    )
