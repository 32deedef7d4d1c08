"""What a reader must not conclude from outliers, sweeps, scenarios and cold starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.runtime.latencies import OUTLIERS_MATTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.benchmarks.more import Found
    from jetlift.runtime.record import Result


def more_not_shown(found: Found, results: Sequence[Result]) -> tuple[str, ...]:
    """Sentences for the record's `not_shown`.

    Args:
        found: What was measured beyond one run after another.
        results: What was measured so.
    """
    told = [
        f"{result.part} {result.variant}: {result.latency.outlier_share.value:.1%} of the runs "
        f"took longer than {result.latency.outlier_above_ms.value:.4g} ms, which is p75 + 3 IQR. "
        "They are in every figure, and its p99 is the time of such a run, not of an ordinary one."
        for result in results
        if (result.latency.outlier_share.value or 0.0) > OUTLIERS_MATTER
        and result.latency.outlier_above_ms.value is not None
    ]
    if not any(point.callers > 1 for point in found.sweep):
        told.append("Several callers at once were not measured; they are with --callers 1,2,4.")
    if found.scenarios:
        told.append(
            "The scenarios were drawn by MLPerf's LoadGen for a short time on inputs that repeat. "
            "They are no MLPerf results: nothing was submitted, reviewed or run by MLPerf's rules "
            "for models, data sets and durations."
        )
    if found.cold_starts:
        told.append(
            "Cold starts found the files' pages in memory as each of them says. After a reboot the "
            "disk is read too, and on a board the GPU's driver may have to be started."
        )
    return tuple(told)
