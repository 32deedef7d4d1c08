"""A run as a record, in the form that a benchmark's measurement has.

Rules:
    D1  Times of an engine are arrays in to arrays out, as a benchmark's are; but they were taken
        beside everything else that the run did, with no warm-up left out, and `not_shown` says so.
    D2  What a run cannot measure (the machine's peak, a second measuring) is null with its reason.
    D3  No folder, host or password of the machine enters a record (jetlift.runtime.publish).
    D4  An engine that never ran is among `failed`, and the record is written all the same.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jetlift.runtime import jsonform, run_facts
from jetlift.runtime.budget import judge
from jetlift.runtime.latencies import latency_of
from jetlift.runtime.publish import public_command, public_name, public_sentence, public_text
from jetlift.runtime.record import (
    RECORD_NAME,
    SCHEMA_VERSION,
    Engine,
    Failed,
    InputShape,
    Memory,
    Record,
    Result,
    Work,
    write_record,
)
from jetlift.runtime.result_parts import OTHERS_BUSY, counted, fidelity_note
from jetlift.runtime.run_form import RunFacts, SinkFacts, SourceFacts, StageFacts, TimeSummary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jetlift.runtime.budget_form import BudgetFile, BudgetVerdict
    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.pipeline.form import AgeSummary, SinkHealth, SourceHealth, StageSummary
    from jetlift.runtime.run_facts import FinishedRun, RunEngine

_NO_PEAK = "a run does not measure this machine's peak"


def record_of(run: FinishedRun, budget: BudgetFile | None = None) -> Record:
    """Make the record of a run (rules D1 to D4).

    Args:
        run: What is known of it.
        budget: Limits to hold it against; the verdict becomes part of the record.
    """
    verdict = None if budget is None else judge(budget, run_facts.figures_of(run))
    ran = [engine for engine in run.engines if engine.session.runs]
    results = tuple(_result(run, engine) for engine in ran)
    manifest = run.bundle.manifest
    return Record(
        schema_version=SCHEMA_VERSION,
        jetlift=importlib.metadata.version("jetlift"),
        measured_utc=run.began.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        command=public_command(run.command),
        packages=_packages(results),
        model=manifest.model,
        bundle_sha256=run.bundle.sha256,
        weights=manifest.weights,
        target=run.target,
        machine=run.machine,
        settings=None,
        peak=None,
        peak_note=_NO_PEAK,
        results=results,
        failed=tuple(
            Failed(engine.part, engine.variant, "It never ran, since no input came so far.")
            for engine in run.engines
            if not engine.session.runs
        ),
        noisy=any(result.noisy for result in results),
        not_shown=_not_shown(run, ran),
        run=_facts(run, verdict),
    )


def write_run(record: Record, folder: Path) -> Path:
    """Write record.json into a folder, which is made where it is not there; atomically.

    Returns:
        Where it lies.

    Raises:
        StorageError: The disk is full or not writable.
    """
    path = folder / RECORD_NAME
    write_record(record, path)
    return path


def _result(run: FinishedRun, engine: RunEngine) -> Result:
    bundle, variant = run.bundle, run.bundle.variant(engine.part, engine.variant)
    latency = latency_of(tuple(engine.session.samples_ms), stopped_by="end of the run")
    inputs, reasons = _shapes(engine), _noise(run)
    batch = inputs[0].shape[0] if inputs and inputs[0].shape else 1
    measured = variant.fidelity is not None
    return Result(
        part=engine.part,
        variant=engine.variant,
        rest=variant.rest,
        parameters=bundle.part(engine.part)[1].parameters,
        engine=_engine(engine),
        inputs=inputs,
        batch=batch,
        latency=latency,
        throughput_per_s=round(batch * 1e3 / latency.mean_ms, 4),
        work=_work(bundle, engine, inputs, latency.p50_ms),
        memory=_memory(run),
        power_w=run.power_w,
        others_busy=run.others_busy,
        fidelity=variant.fidelity,
        fidelity_note=fidelity_note(bundle, engine.variant, measured=measured),
        recheck=None,
        noisy=bool(reasons),
        noisy_reasons=reasons,
        quantisation=variant.quantisation,
        power=run.power,
        conditions=run.conditions,
    )


def _work(bundle: Bundle, engine: RunEngine, inputs: Sequence[InputShape], p50_ms: float) -> Work:
    specs = bundle.part(engine.part)[1].inputs
    opt_shapes = {spec.name: spec.opt_shape or spec.shape for spec in specs}
    at_opt_shape = all(item.shape == opt_shapes.get(item.name) for item in inputs)
    return counted(
        bundle.variant(engine.part, engine.variant).cost,
        p50_ms,
        io_bytes=engine.session.io_bytes,
        at_opt_shape=at_opt_shape and engine.session.same_shapes,
        no_peak=_NO_PEAK,
    )


def _engine(engine: RunEngine) -> Engine:
    info = engine.session.info
    return Engine(
        library=info.library,
        version=info.version,
        arithmetic=info.arithmetic,
        threads=info.threads,
        device=info.device,
        size_bytes=engine.size_bytes,
        load_ms=round(engine.load_ms, 3),
        notices=tuple(map(public_text, engine.notices)),
    )


def _shapes(engine: RunEngine) -> tuple[InputShape, ...]:
    entries: list[dict[str, Any]] = [
        {"name": name, "dtype": dtype, "shape": list(shape)}
        for name, (dtype, shape) in (engine.session.shapes or {}).items()
    ]
    return tuple(jsonform.read(InputShape, entry) for entry in entries)


def _memory(run: FinishedRun) -> Memory:
    return Memory(
        rss_before_load_bytes=run.before.rss_bytes,
        rss_after_load_bytes=run.loaded.rss_bytes,
        rss_peak_bytes=run.after.rss_peak_bytes,
        pss_after_runs_bytes=run.after.pss_bytes,
    )


def _noise(run: FinishedRun) -> tuple[str, ...]:
    reasons = []
    if (run.machine.busy_before.value or 0.0) > OTHERS_BUSY:
        busy = run.machine.busy_before.value
        reasons.append(f"the cores were {busy:.0%} busy before the start")
    if (run.others_busy.value or 0.0) > OTHERS_BUSY:
        reasons.append(f"other processes took {run.others_busy.value:.0%} of the cores meanwhile")
    if run.conditions is not None:
        reasons += run.conditions.unsteady
    return tuple(reasons)


def _packages(results: Sequence[Result]) -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("jetlift", "numpy")}
    return versions | {result.engine.library: result.engine.version for result in results}


def _facts(run: FinishedRun, verdict: BudgetVerdict | None) -> RunFacts:
    snapshot = run.snapshot
    names = [source.name for source in snapshot.sources]
    return RunFacts(
        ended=_published(run.ended, names),
        running_s=round(snapshot.running_s, 3),
        done=snapshot.done,
        throughput_per_s=run_facts.throughput(snapshot),
        dropped=snapshot.dropped,
        stale=snapshot.stale,
        skipped=snapshot.skipped,
        item_p50_ms=run_facts.item_percentile(run, 50),
        item_p99_ms=run_facts.item_percentile(run, 99),
        cold_start_s=run.cold_start_s,
        energy_j_per_item=run_facts.energy_per_item(run),
        stages=tuple(_stage(item, run.threads.get(item.name)) for item in snapshot.stages),
        sources=tuple(map(_source, snapshot.sources)),
        sinks=tuple(_sink(item, names) for item in snapshot.sinks),
        budget=verdict,
    )


def _published(text: str, names: Sequence[str]) -> str:
    """A sentence that may name any of the sources (rule D3)."""
    for name in sorted(names, key=len, reverse=True):
        text = public_sentence(text, name)
    return public_text(text)


def _stage(stage: StageSummary, threads: int | None) -> StageFacts:
    return StageFacts(
        name=stage.name,
        threads=threads,
        done=stage.done,
        busy_share=round(stage.busy_share, 4),
        service=_summary(stage.service),
        age=_summary(stage.age),
    )


def _summary(summary: AgeSummary | None) -> TimeSummary | None:
    if summary is None:
        return None
    told = {name: round(value, 4) for name, value in asdict(summary).items() if name != "count"}
    return TimeSummary(count=summary.count, **told)


def _source(source: SourceHealth) -> SourceFacts:
    return SourceFacts(
        name=public_name(source.name),
        live=source.live,
        clock=source.clock,
        captured=source.captured,
        skipped=source.skipped,
        reconnects=source.reconnects,
        lost_s=round(source.lost_s, 3),
        trouble=public_sentence(source.trouble, source.name),
    )


def _sink(sink: SinkHealth, names: Sequence[str]) -> SinkFacts:
    return SinkFacts(
        name=public_name(sink.name),
        written=sink.written,
        dropped=sink.dropped,
        trouble=_published(sink.trouble, names),
    )


def _not_shown(run: FinishedRun, ran: Sequence[RunEngine]) -> tuple[str, ...]:
    """What a reader must not conclude from the figures of a run (rules D1 and D2)."""
    told = []
    if run.target.startswith("cpu"):
        told.append("Not run on a Jetson. These are times of this machine's processor.")
    told.append(
        "The engines ran beside everything else that the run did: capturing, preparing, drawing "
        "and writing took their share of the cores, so a benchmark of the engine alone is faster."
    )
    told.append("No warm-up was left out: the first runs of each engine are among its latencies.")
    cut = [engine for engine in ran if engine.session.runs > len(engine.session.samples_ms)]
    told += [
        f"{engine.part} ran {engine.session.runs} times; the latencies are those of the latest "
        f"{len(engine.session.samples_ms)}."
        for engine in cut
    ]
    told.append(
        "Memory is that of the whole process; what a board's GPU holds beside the process's pages "
        "is not in it. The machine's peak was not measured, so no share of it is told."
    )
    if run.power_w.value is None:
        told.append(f"Power was not measured: {run.power_w.reason}.")
    return tuple(told)
