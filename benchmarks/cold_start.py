"""Cold starts of one variant: from the start of a process to its first result, in fresh processes.

Rules:
    H1  Every start counts and is kept in order; the figures are medians.
    H2  What was warm is told, not assumed: the share of the graph's pages that lay in memory before
        the first start, and whether a built engine was on disk. Each further start finds warm
        pages. After a reboot all pages are cold, which this does not show: emptying the system's
        cache takes its administrator.
"""

from __future__ import annotations

import ctypes
import mmap
import statistics
import time
from typing import TYPE_CHECKING

from jetlift.benchmarks import measure
from jetlift.benchmarks.more_jobs import COLD_WORKER, ColdStartAnswer, ColdStartJob
from jetlift.runtime.errors import UsageError
from jetlift.runtime.figure import Figure
from jetlift.runtime.scenario_form import ColdStart

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.benchmarks.more import Subject

_LIMIT_S = 600.0


def cold_start(subject: Subject, starts: int) -> ColdStart:
    """Start that many processes, one after another, and take the time of each (rules H1, H2).

    Raises:
        UsageError: `starts` is not positive.
        JetliftError: What a child raised.
    """
    if starts < 1:
        raise UsageError(f"Got {starts} cold starts", expected="1 or more")
    bundle = subject.bundle
    engine = bundle.engine_path(subject.target, subject.part, subject.variant)
    graph = bundle.path(bundle.variant(subject.part, subject.variant).file)
    resident = resident_share(engine if engine.is_file() else graph)
    answers = [_once(subject) for _ in range(starts)]
    return ColdStart(
        part=subject.part,
        variant=subject.variant,
        starts_s=tuple(answer.first_s for answer in answers),
        p50_s=round(statistics.median(answer.first_s for answer in answers), 4),
        import_s=_median([answer.imported_s for answer in answers]),
        open_s=_median([answer.opened_s - answer.imported_s for answer in answers]),
        first_s=_median([answer.first_s - answer.opened_s for answer in answers]),
        cache=_cache(resident, built=answers[0].built),
    )


def _once(subject: Subject) -> ColdStartAnswer:
    job = ColdStartJob(job="cold start", **subject.fields(), started_s=time.monotonic())
    return measure.run_child(job, ColdStartAnswer, limit_s=_LIMIT_S, worker=COLD_WORKER)


def _median(seconds: list[float]) -> Figure:
    return Figure(round(statistics.median(seconds), 4))


def _cache(resident: Figure, *, built: bool) -> str:
    """What was warm, in words (rule H2)."""
    engine = (
        "a built engine was loaded from disk"
        if built
        else "no engine was built: the graph was compiled at each start"
    )
    if resident.value is None:
        return f"{engine}; how much of its file lay in memory is not known: {resident.reason}"
    return f"{engine}; {resident.value:.0%} of its file lay in memory before the first start"


def resident_share(path: Path) -> Figure:
    """Share of a file's pages that the system holds in memory, 0..1.

    By mincore(2), which tells it of files that are the caller's own:
    https://man7.org/linux/man-pages/man2/mincore.2.html
    """
    size = path.stat().st_size
    if size == 0:
        return Figure.missing("the file is empty")
    pages = -(-size // mmap.PAGESIZE)
    told = (ctypes.c_ubyte * pages)()
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
    except (OSError, AttributeError, TypeError):
        return Figure.missing("this system has no mincore")
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY) as file:
        start = ctypes.c_char.from_buffer(file)
        failed = mincore(ctypes.addressof(start), size, ctypes.addressof(told))
        del start  # a mapping that is still looked at cannot be closed
    if failed:
        return Figure.missing("mincore failed")
    return Figure(round(sum(page & 1 for page in told) / pages, 4))
