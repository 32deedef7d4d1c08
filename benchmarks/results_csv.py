"""The results of records as a table for other programs: one row per result, units in the names.

Rules:
    V1  A figure that was not measured is an empty cell, never zero.
    V2  A cell that a spreadsheet would take for a formula gets a leading apostrophe
        (https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from jetlift.benchmarks.report_table import tops_by_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.record import Figure, Record, Result

CSV_NAME = "results.csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Cell = str | float | int | None


def results_csv(records: Sequence[Record]) -> str:
    """The table as text, CRLF as RFC 4180 has it."""
    rows = [_row(record, result) for record in records for result in record.results]
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["model"]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, names, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: _safe(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def _row(record: Record, result: Result) -> dict[str, Cell]:
    return {
        "model": record.model,
        "part": result.part,
        "variant": result.variant,
        "target": record.target,
        "machine": record.machine.cpu,
        "measured_utc": record.measured_utc,
        "jetlift_version": record.jetlift,
        "bundle_sha256": record.bundle_sha256,
        **_speed(result),
        **_work(result),
        **_memory(result),
        **_power(result),
        **_judged(result),
    }


def _speed(result: Result) -> dict[str, Cell]:
    times = result.latency
    return {
        "engine": f"{result.engine.library} {result.engine.version}",
        "threads": result.engine.threads,
        "batch": result.batch,
        "timed_runs": len(times.samples_ms),
        "latency_p50_ms": times.p50_ms,
        "latency_p50_low_ms": _value(times.p50_low_ms),
        "latency_p50_high_ms": _value(times.p50_high_ms),
        "latency_p90_ms": _value(times.p90_ms),
        "latency_p99_ms": _value(times.p99_ms),
        "latency_mean_ms": times.mean_ms,
        "latency_min_ms": times.min_ms,
        "throughput_per_s": result.throughput_per_s,
        "load_ms": result.engine.load_ms,
        "gpu_compute_ms": _value(result.gpu_time.compute_ms),
        "gpu_with_copies_ms": _value(result.gpu_time.with_copies_ms),
    }


def _work(result: Result) -> dict[str, Cell]:
    work = result.work
    return {
        "operations": _value(work.operations),
        "achieved_tops": _value(work.achieved_tops),
        **{f"achieved_{name}_tops": value for name, value in tops_by_precision(result).items()},
        "share_of_peak": _value(work.share_of_peak),
        "roofline_bound_ms": _value(work.bound_ms),
        "binds": work.binds,
    }


def _memory(result: Result) -> dict[str, Cell]:
    return {
        "rss_peak_bytes": _value(result.memory.rss_peak_bytes),
        "rss_after_load_bytes": _value(result.memory.rss_after_load_bytes),
        "weight_bytes": _value(result.work.weight_bytes),
        "engine_size_bytes": _value(result.engine.size_bytes),
    }


def _power(result: Result) -> dict[str, Cell]:
    power, state = result.power, result.conditions
    return {
        "power_mean_w": _value(result.power_w),
        "energy_j_per_item": None if power is None else _value(power.energy_j_per_item),
        "power_mode": None if state is None else state.power_mode,
    }


def _judged(result: Result) -> dict[str, Cell]:
    fidelity = result.fidelity
    figures = {} if fidelity is None else fidelity.figures
    return {
        "fidelity_met": None if fidelity is None else str(fidelity.met).lower(),
        "noisy": str(result.noisy).lower(),
        **{f"fidelity_{name}": value for name, value in figures.items()},
    }


def _value(figure: Figure) -> float | None:
    return figure.value


def _safe(value: Cell) -> str | float | int:
    if value is None:
        return ""  # V1
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"  # V2
    return value
