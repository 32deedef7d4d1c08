"""A finished run: what is known of it, and the figures that a budget asks for.

Rules:
    L1  `latency` is the time that one item was worked on, all stages together, waiting left out;
        `age` has the waiting in it. So texts and sounds are judged as cameras are, but for their
        age: that of a file's items is how long they stood in line, and no limit is meant for it.
    L2  A percentile is told from enough items alone (rule S4 of jetlift.runtime.latencies); an age
        likewise, by the number of frames that it was summed up over.
    L3  Memory is the process's own: on a board, what the GPU holds of the shared memory beside the
        process's pages is not in it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.runtime.budget import Figures
from jetlift.runtime.errors import UnknownNameError
from jetlift.runtime.figure import Figure
from jetlift.runtime.latencies import percentile

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.pipeline.form import Snapshot, StageSummary
    from jetlift.runtime.power_form import Conditions, Power
    from jetlift.runtime.probe import Reading
    from jetlift.runtime.record import Machine
    from jetlift.runtime.session.timed import TimedSession

SINK = "sink"  # the stage after the one at whose end there is a result
REFERENCE = "fp32"
_MIB = 2**20
_AGES_FOR_P99 = 100
_NO_PROBE = Figure.missing("no probe was given")


@dataclass(frozen=True)
class RunEngine:
    """One engine of a run.

    Attributes:
        part: The part.
        variant: Its variant.
        session: What computed, and how long.
        load_ms: From nothing to a session.
        size_bytes: Size of the engine's file, or why there is none.
        notices: What was said while it was opened.
    """

    part: str
    variant: str
    session: TimedSession
    load_ms: float
    size_bytes: Figure
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinishedRun:
    """What whoever ran a pipeline knows when it has ended.

    Attributes:
        bundle: What ran.
        target: Where, as in cpu.
        command: The command line, as typed; what of it is private is left out of a record.
        began: When it was started, with a time zone.
        ended: What ended it, as a clause: 'the source ended'.
        snapshot: The pipeline at its end.
        engines: Every engine it opened.
        item_ms: Per item, or for the latest of them, the time that all stages worked on it.
        machine: The machine, as found before the start.
        before: A look at the process before the first engine was loaded.
        loaded: One when all engines were open.
        after: One at the end.
        threads: Threads per stage, by its name.
        power_w: Mean power over the run.
        others_busy: Share of the cores that other processes took meanwhile, 0 to 1.
        cold_start_s: From the start of the process to the first result.
        device: The board's name as 'jetlift targets' has it; None where it is no board.
        power_mode: The board's power mode.
        power: Supplies over the run, where sensors told them.
        conditions: State of the board over the run, where it told any.
    """

    bundle: Bundle
    target: str
    command: Sequence[str]
    began: dt.datetime
    ended: str
    snapshot: Snapshot
    engines: Sequence[RunEngine]
    item_ms: Sequence[float]
    machine: Machine
    before: Reading
    loaded: Reading
    after: Reading
    threads: Mapping[str, int] = field(default_factory=dict)
    power_w: Figure = _NO_PROBE
    others_busy: Figure = _NO_PROBE
    cold_start_s: Figure = Figure.missing("nobody looked when the first result came")
    device: str | None = None
    power_mode: str | None = None
    power: Power | None = None
    conditions: Conditions | None = None


def figures_of(run: FinishedRun) -> Figures:
    """What a budget is held against (rules L1 to L3)."""
    fidelity, unjudged = _fidelity(run)
    return Figures(
        values={
            "latency_p50_ms": item_percentile(run, 50),
            "latency_p99_ms": item_percentile(run, 99),
            "age_p99_ms": _age_p99(run.snapshot),
            "throughput_per_s": throughput(run.snapshot),
            "memory_mib": _in(_MIB, run.after.rss_peak_bytes),
            "power_w": run.power_w,
            "energy_j_per_item": energy_per_item(run),
            "cold_start_s": run.cold_start_s,
            "size_mib": _in(_MIB, _size(run.engines)),
            "dropped_share": dropped_share(run.snapshot),
        },
        fidelity=fidelity,
        unjudged=unjudged,
        device=run.device,
        power_mode=run.power_mode,
    )


def item_percentile(run: FinishedRun, percent: int) -> Figure:
    """Time that an item was worked on (rules L1 and L2); of one item, its own is the median."""
    if percent == 50 and len(run.item_ms) == 1:
        return Figure(run.item_ms[0])
    return percentile(run.item_ms, percent, of="timed items")


def throughput(snapshot: Snapshot) -> Figure:
    """Results per second over the whole run."""
    if snapshot.running_s <= 0:
        return Figure.missing("the run took no time that could be measured")
    return Figure(round(snapshot.done / snapshot.running_s, 4))


def dropped_share(snapshot: Snapshot) -> Figure:
    """Share of the frames that had no result because a newer one came or they were too old."""
    captured = sum(source.captured + source.dropped for source in snapshot.sources)
    if not captured:
        return Figure.missing("no source delivered anything")
    return Figure(round((snapshot.dropped + snapshot.stale) / captured, 6))


def energy_per_item(run: FinishedRun) -> Figure:
    """Mean power over throughput, in joules."""
    rate = throughput(run.snapshot)
    if run.power_w.value is None:
        return run.power_w
    if not rate.value:
        return Figure.missing(rate.reason or "there was no result")
    return Figure(round(run.power_w.value / rate.value, 6))


def result_stage(snapshot: Snapshot) -> StageSummary | None:
    """The stage at whose end there is a result: the last but the sinks'."""
    return next((item for item in reversed(snapshot.stages) if item.name != SINK), None)


def since_process_start_s(root: Path = Path("/")) -> Figure:
    """Age of this process, to be asked when the first result is there.

    Field 22 of /proc/self/stat is the start in clock ticks after boot:
    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html

    Args:
        root: Where /proc lies.
    """
    try:
        text = (root / "proc/self/stat").read_text(encoding="utf-8", errors="replace")
        started_s = int(text.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, ValueError, IndexError, AttributeError):
        return Figure.missing("this system does not tell when a process was started")
    return Figure(round(now_s - started_s, 2))


def _age_p99(snapshot: Snapshot) -> Figure:
    stage = result_stage(snapshot)
    if not any(source.live for source in snapshot.sources):
        return Figure.missing("no source was live, so nothing was captured")
    if stage is None or stage.age is None:
        return Figure.missing("no frame came so far")
    if stage.age.count < _AGES_FOR_P99:
        few = f"{stage.age.count} frames were aged, and p99 asks for {_AGES_FOR_P99}"
        return Figure.missing(few)
    return Figure(stage.age.p99_ms)


def _size(engines: Sequence[RunEngine]) -> Figure:
    """All engines' files together; missing where one of them was compiled in memory."""
    total = 0.0
    for engine in engines:
        if engine.size_bytes.value is None:
            return engine.size_bytes
        total += engine.size_bytes.value
    return Figure(total)


def _fidelity(run: FinishedRun) -> tuple[dict[str, dict[str, float]], tuple[str, ...]]:
    """Figures per part, and why a part has none; what runs at fp32 is the reference."""
    figures: dict[str, dict[str, float]] = {}
    unjudged = []
    for engine in run.engines:
        if engine.variant == REFERENCE:
            continue
        try:
            found = run.bundle.variant(engine.part, engine.variant).fidelity
        except UnknownNameError:
            found = None
        if found is None:
            unjudged.append(f"the bundle has no fidelity of {engine.part} {engine.variant}")
        else:
            figures[engine.part] = dict(found.figures)
    return figures, tuple(unjudged)


def _in(unit: int, figure: Figure) -> Figure:
    return figure if figure.value is None else Figure(round(figure.value / unit, 3))
