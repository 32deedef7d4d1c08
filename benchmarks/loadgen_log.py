"""What MLPerf's LoadGen writes of a scenario: mlperf_log_detail.txt, a JSON object per line.

Rules:
    G1  Validity is LoadGen's own word, for the settings it was given, and every rule that did not
        hold is told in words of ours with what it said itself.
    G2  A percentile is told from enough queries alone (rule S4 of jetlift.runtime.latencies).
    G3  Offline sends one query, so that it has no latency per query.
Keys: mlcommons/inference@d6147c7eb7:loadgen/results.cc.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jetlift.runtime.errors import MachineError
from jetlift.runtime.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DETAIL = "mlperf_log_detail.txt"
_MARK = ":::MLLOG "
_RULES = {
    "result_min_duration_met": "it did not last as long as was asked",
    "result_min_queries_met": "it had fewer queries than were asked",
    "result_perf_constraints_met": "too many queries took longer than the limit",
    "early_stopping_met": "it had too few queries for its percentile to be sure",
}
_NO_QUERIES = Figure.missing("Offline sends one query: its latency is the whole scenario")


def read_log(folder: Path) -> dict[str, Any]:
    """Key to value of every line that has one; of a key told twice, the last.

    Raises:
        MachineError: There is no log, or it has no verdict.
    """
    try:
        lines = (folder / DETAIL).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    told: dict[str, Any] = {}
    for line in lines:
        if line.startswith(_MARK):
            try:
                entry = json.loads(line.removeprefix(_MARK))
            except ValueError:  # a line that a crash cut off
                continue
            told[entry["key"]] = entry["value"]
    if "result_validity" not in told:
        raise MachineError(
            "LoadGen wrote no verdict",
            expected=f"result_validity in {DETAIL}",
            do="Give it longer: --scenario-seconds",
        )
    return told


def reasons_of(told: Mapping[str, Any]) -> tuple[str, ...]:
    """Why a scenario is not valid (rule G1); empty where it is."""
    if told["result_validity"] == "VALID":
        return ()
    reasons = [words for key, words in _RULES.items() if told.get(key) is False]
    said = (told.get("result_invalid_reason"), told.get("early_stopping_result"))
    reasons += [" ".join(str(text).replace("*", " ").split()) for text in said if text]
    return tuple(filter(None, reasons)) or ("LoadGen says INVALID and not why",)


def latency_ms(told: Mapping[str, Any], percent: int) -> Figure:
    """A percentile of the queries' latency (rules G2, G3)."""
    if told.get("effective_scenario") == "Offline":
        return _NO_QUERIES
    queries, needed = int(told["result_query_count"]), -(-100 // (100 - percent))
    if queries < needed:
        return Figure.missing(f"{queries} queries, and p{percent} asks for {needed}")
    for kind in ("per_query_latency", "latency"):
        value = told.get(f"result_{percent}.00_percentile_{kind}_ns")
        if value is not None:
            return Figure(round(value / 1e6, 5))
    return Figure.missing(f"LoadGen told no p{percent}")


def rate_per_s(told: Mapping[str, Any]) -> Figure:
    """Items per second over the whole scenario."""
    for key in (
        "result_samples_per_second",
        "result_completed_samples_per_sec",
        "result_qps_with_loadgen_overhead",
    ):
        if key in told:
            return Figure(round(float(told[key]), 4))
    mean_ns = told.get("result_mean_query_latency_ns")  # MultiStream: one query after another
    if mean_ns:
        return Figure(round(int(told["generated_samples_per_query"]) * 1e9 / mean_ns, 4))
    return Figure.missing("LoadGen told no rate")
