"""The child that measures: `python -m jetlift.benchmarks.worker`, a job on standard input.

Rules:
    W1  It imports the runtime, the board's probe and one engine library (measure.py, C1).
    W2  Standard output carries the answer alone: what a library prints there goes to stderr.
    W3  Memory is read in this order: before the engine library is imported, once the session is
        open, after the last timed run.
    W4  Warm-up and timing see the same inputs in the same turn; only `session.run` is timed.
    W5  Power and state of the board are watched over warm-up and timed runs; idle power is looked
        at before the engine library is imported.
    W5  What the GPU's own clock says comes from runs of their own, after the timed ones: events
        cost a little, and no event is in a run that is timed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from jetlift.benchmarks import measure, stop
from jetlift.benchmarks.inside import GPU_RUNS, gpu_time, memory_parts
from jetlift.jetson import board
from jetlift.jetson.sysfs import board_root
from jetlift.jetson.watch import Watch
from jetlift.runtime import jsonform
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import JetliftError, MachineError
from jetlift.runtime.feeds import random_feeds
from jetlift.runtime.record import Engine, Figure, InputShape, Memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from jetlift.benchmarks.measure import Feeds, PeakJob, VariantJob
    from jetlift.runtime.probe import Probe, Reading
    from jetlift.runtime.record import Peak
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.timing_form import MemoryParts


def main() -> None:
    """Read a job, do it, write the answer."""
    answer_with(_do)


def answer_with(do: Callable[[bytes], Any]) -> None:
    """Read a job, have it done, write the answer or what jetlift raised (rule W2)."""
    with _own_stdout() as answer_to:
        try:
            answer = {"ok": jsonform.to_data(do(sys.stdin.buffer.read()))}
        except JetliftError as error:
            answer = measure.envelope_of(error)
        except MemoryError:
            answer = measure.envelope_of(
                MachineError(
                    "Memory ran out while the model was loaded or run",
                    do="Close other programs, or measure a smaller variant (--precision int8)",
                )
            )
        json.dump(answer, answer_to, allow_nan=False)


def _own_stdout() -> IO[str]:
    """Keep standard output for the answer and send what anybody else prints to stderr (W2)."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(kept, "w", encoding="utf-8")


def _do(text: bytes) -> measure.VariantAnswer | Peak:
    kind = json.loads(text)["job"]
    if kind == "peak":
        return _measure_peak(jsonform.loads(measure.PeakJob, text))
    return measure_variant(jsonform.loads(measure.VariantJob, text), board.ProcessProbe())


def _measure_peak(job: PeakJob) -> Peak:
    from jetlift.benchmarks.peak import measure_peak

    return measure_peak(
        threads=job.threads,
        time_limit_s=job.time_limit_s,
        sizes=job.sizes,
        copy_bytes=job.copy_bytes,
    )


def measure_variant(job: VariantJob, probe: Probe) -> measure.VariantAnswer:
    """Open a session of one variant, warm it up and time it (rules W3, W4).

    Raises:
        JetliftError: The bundle, the engine or the run failed.
    """
    from jetlift.runtime.session import open_session

    bundle = Bundle.open(job.bundle)
    feeds = _feeds(job, bundle)
    notices: list[str] = []
    watch = Watch(board_root(), on_gpu=not job.target.startswith("cpu"))
    watch.look_idle()
    before, start_s = probe.read(), time.perf_counter()
    with open_session(
        bundle, job.part, job.variant, target=job.target, threads=job.threads, notices=notices
    ) as session:
        load_ms, loaded = (time.perf_counter() - start_s) * 1e3, probe.read()
        cores, own_s = board.cpu_times(), board.own_cpu_s()
        with watch:
            timed = stop.time_runs(
                lambda index: session.run(feeds[index % len(feeds)]), job.rules, time.perf_counter
            )
        others = board.others_share(cores, board.cpu_times(), board.own_cpu_s() - own_s)
        after = probe.read()
        outputs = session.run(feeds[0])
        gpu = gpu_time(session, feeds, GPU_RUNS)
        parts = memory_parts(session, before, after)
        engine = _engine(session, _size(bundle, job, notices), load_ms, notices)
    latency = stop.summarise(timed, job.rules.confidence)
    power = watch.power(_batch(feeds[0]) * 1e3 / latency.mean_ms)
    return measure.VariantAnswer(
        engine=engine,
        inputs=_shapes(feeds[0]),
        latency=latency,
        memory=_memory(before, loaded, after, parts),
        power_w=_power_w(watch, after),
        others_busy=others,
        gpu_time=gpu,
        power=power,
        conditions=watch.conditions(),
        io_bytes=sum(array.nbytes for array in (*feeds[0].values(), *outputs.values())),
    )


def _feeds(job: VariantJob, bundle: Bundle) -> list[Feeds]:
    if job.samples is not None:
        return measure.load_samples(Path(job.samples))
    return [random_feeds(bundle.part(job.part)[1], job.seed)]


def _batch(feeds: Feeds) -> int:
    shape = next(iter(feeds.values())).shape if feeds else ()
    return int(shape[0]) if shape else 1


def _power_w(watch: Watch, after: Reading) -> Figure:
    """Mean power; where no sensor of the board told any, what the probe says."""
    watched = watch.power_w()
    return after.power_w if watched.value is None and after.power_w.value is not None else watched


def _shapes(feeds: Feeds) -> tuple[InputShape, ...]:
    entries: list[dict[str, Any]] = [
        {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
        for name, array in feeds.items()
    ]
    return tuple(jsonform.read(InputShape, entry) for entry in entries)


def _engine(session: Session, size: Figure, load_ms: float, notices: list[str]) -> Engine:
    info = session.info
    return Engine(
        library=info.library,
        version=info.version,
        arithmetic=info.arithmetic,
        threads=info.threads,
        device=info.device,
        size_bytes=size,
        load_ms=round(load_ms, 3),
        notices=tuple(notices),
    )


def _size(bundle: Bundle, job: VariantJob, notices: list[str]) -> Figure:
    path = bundle.engine_path(job.target, job.part, job.variant)
    if path.is_file() and not notices:
        return Figure(path.stat().st_size)
    return Figure.missing("no engine was loaded from disk; the graph was compiled in memory")


def _memory(before: Reading, loaded: Reading, after: Reading, parts: MemoryParts) -> Memory:
    return Memory(
        rss_before_load_bytes=before.rss_bytes,
        rss_after_load_bytes=loaded.rss_bytes,
        rss_peak_bytes=after.rss_peak_bytes,
        pss_after_runs_bytes=after.pss_bytes,
        rss_after_runs_bytes=after.rss_bytes,
        parts=parts,
    )


if __name__ == "__main__":
    main()
